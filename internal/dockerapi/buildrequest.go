// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/registry"

	"byre.dev/byre/internal/build"
	"byre.dev/byre/internal/engine/request"
)

// build builds an image: a Dockerfile in a tar, at a URL, or of the client's
// session.
func (a *api) build(w http.ResponseWriter, r *call) error {
	builds, err := a.builder()
	if err != nil {
		return err
	}
	if err := request.CheckBuild(r.Form); err != nil {
		return err
	}
	if id, ok := strings.CutPrefix(r.Form.Get("buildid"), "upload-request:"); ok {
		return builds.Upload(r.Context(), id, r.Body)
	}
	req, err := buildRequest(r)
	if err != nil {
		return err
	}
	// The answer begins while the context is still being read.
	if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
		a.log.Debug("request is read before it is answered", "err", err)
	}
	progress := newProgressWriter(w)
	return progress.finish(builds.Build(r.Context(), req, progress.show))
}

func (a *api) buildCancel(w http.ResponseWriter, r *call) error {
	builds, err := a.builder()
	if err != nil {
		return err
	}
	id := r.Form.Get("id")
	if id == "" {
		return badRequest("build ID not provided")
	}
	builds.Cancel(id)
	return nil
}

func buildRequest(r *call) (build.Request, error) {
	req := build.Request{
		Trace: r.Form.Get("version") == "2", Quiet: r.flag("q"), Session: r.Form.Get("session"), ID: r.Form.Get("buildid"),
		Remote: r.Form.Get("remote"), Attrs: map[string]string{},
	}
	if req.Remote == "" {
		req.Context = r.Body
	}
	if !req.Trace {
		// The context is in the body or at a URL; a session would add nothing.
		req.Session = ""
	}
	var err error
	if req.Auth, err = decodeAuths(r.Header.Get("X-Registry-Config")); err != nil {
		return req, err
	}
	for _, read := range []func(*call, *build.Request) error{buildAttrs, buildMaps, buildHosts, buildLimits, buildOutput} {
		if err := read(r, &req); err != nil {
			return req, err
		}
	}
	return req, nil
}

// buildAttrs reads what the frontend takes as it is.
func buildAttrs(r *call, req *build.Request) error {
	if v := r.Form.Get("target"); v != "" {
		req.Attrs["target"] = v
	}
	if v := r.Form.Get("dockerfile"); v != "" && v != "." {
		req.Attrs["filename"] = v
	}
	if r.flag("nocache") {
		req.Attrs["no-cache"] = ""
	}
	req.Attrs["image-resolve-mode"] = "local"
	if r.flag("pull") {
		req.Attrs["image-resolve-mode"] = "pull"
	}
	if v := r.Form.Get("platform"); v != "" {
		for part := range strings.SplitSeq(v, ",") {
			if _, err := platforms.Parse(part); err != nil {
				return badRequest("%v", err)
			}
		}
		req.Attrs["platform"] = v
	}
	switch v := r.Form.Get("networkmode"); v {
	case "", "default":
	case "none", "host":
		req.Attrs["force-network-mode"] = v
		if v == "host" {
			req.Entitlements = []string{"network.host"}
		}
	default:
		return badRequest("network mode %q is not supported by BuildKit: there are default, none and host", v)
	}
	return nil
}

// buildMaps reads arguments, labels and caches, which are JSON.
func buildMaps(r *call, req *build.Request) error {
	args, labels, caches := map[string]*string{}, map[string]string{}, []string{}
	for name, dst := range map[string]any{"buildargs": &args, "labels": &labels, "cachefrom": &caches} {
		if err := fromJSON(r, name, dst); err != nil {
			return err
		}
	}
	for k, v := range args {
		if v != nil {
			req.Attrs["build-arg:"+k] = *v
		}
	}
	for k, v := range labels {
		req.Attrs["label:"+k] = v
	}
	if len(caches) > 0 {
		req.Attrs["cache-from"] = strings.Join(caches, ",")
	}
	if v := args["BUILDKIT_INLINE_CACHE"]; v != nil {
		req.InlineCache, _ = strconv.ParseBool(*v)
	}
	return nil
}

func fromJSON(r *call, name string, dst any) error {
	v := r.Form.Get(name)
	if v == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(v), dst); err != nil {
		return badRequest("invalid value for %q: %v", name, err)
	}
	return nil
}

// buildHosts reads names for /etc/hosts, each as NAME:ADDRESS.
func buildHosts(r *call, req *build.Request) error {
	hosts := r.Form["extrahosts"]
	if len(hosts) == 1 && strings.HasPrefix(hosts[0], "[") {
		if err := fromJSON(r, "extrahosts", &hosts); err != nil {
			return err
		}
	}
	var out []string
	for _, h := range hosts {
		if h == "" {
			continue
		}
		name, addr, ok := strings.Cut(h, ":")
		if !ok || name == "" {
			return badRequest("invalid extra host %q: give NAME:ADDRESS", h)
		}
		if addr != build.HostGateway && net.ParseIP(strings.Trim(addr, "[]")) == nil {
			return badRequest("invalid extra host %q: %q is no address", h, addr)
		}
		out = append(out, name+"="+strings.Trim(addr, "[]"))
	}
	if len(out) > 0 {
		req.Attrs["add-hosts"] = strings.Join(out, ",")
	}
	return nil
}

// buildLimits reads what commands may use.
func buildLimits(r *call, req *build.Request) error {
	shm, err := r.number("shmsize")
	if err != nil {
		return err
	}
	if shm != nil && *shm > 0 {
		req.Attrs["shm-size"] = strconv.Itoa(*shm)
	}
	var limits []*units.Ulimit
	if err := fromJSON(r, "ulimits", &limits); err != nil {
		return err
	}
	var out []string
	for _, l := range limits {
		if l != nil {
			out = append(out, l.String())
		}
	}
	if len(out) > 0 {
		req.Attrs["ulimit"] = strings.Join(out, ",")
	}
	return nil
}

// buildOutput reads where the result goes: the image store, under the names
// asked for, unless outputs says otherwise.
func buildOutput(r *call, req *build.Request) error {
	var outputs []struct {
		Type  string
		Attrs map[string]string
	}
	if err := fromJSON(r, "outputs", &outputs); err != nil {
		return err
	}
	req.Output = &build.Output{Type: "moby", Attrs: map[string]string{}}
	switch {
	case len(outputs) > 1:
		return badRequest("multiple outputs not supported")
	case len(outputs) == 1 && outputs[0].Type == "cacheonly":
		req.Output = nil
		return nil
	case len(outputs) == 1:
		if req.Session == "" {
			return badRequest("byre does not support outputs in a build without a session: there is nobody to send the result to")
		}
		req.Output = &build.Output{Type: outputs[0].Type, Attrs: maps.Clone(outputs[0].Attrs)}
	}
	if req.Output.Attrs == nil {
		req.Output.Attrs = map[string]string{}
	}
	tags := slices.DeleteFunc(slices.Clone(r.Form["t"]), func(t string) bool { return t == "" })
	if kind := req.Output.Type; len(tags) > 0 && (kind == "moby" || kind == "image") {
		for _, t := range tags {
			if strings.Contains(t, ",") {
				return badRequest("invalid tag %q: invalid reference format", t)
			}
		}
		req.Output.Attrs["name"] = strings.Join(tags, ",")
	}
	return nil
}

// decodeAuths reads credentials for several registries.
func decodeAuths(header string) (map[string]registry.AuthConfig, error) {
	if header == "" {
		return nil, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(header, "="))
	if err != nil {
		return nil, badRequest("invalid X-Registry-Config header: %v", err)
	}
	auths := map[string]registry.AuthConfig{}
	if err := json.Unmarshal(raw, &auths); err != nil {
		return nil, badRequest("invalid X-Registry-Config header: %v", err)
	}
	return auths, nil
}
