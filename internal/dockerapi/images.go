// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/containerd/platforms"
	dockerimage "github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"byre.dev/byre/internal/engine/image"
)

func (a *api) imagesList(w http.ResponseWriter, r *call) error {
	if r.flag("identity") && !r.flag("manifests") && !r.before("1.54") {
		return badRequest("conflicting options: identity requires manifests=1")
	}
	f, err := r.filters()
	if err != nil {
		return err
	}
	if name := r.Form.Get("filter"); name != "" {
		f["reference"] = append(f["reference"], name)
	}
	list, err := a.engine.Images.List(r.Context(), f)
	if err != nil {
		return err
	}
	if r.flag("shared-size") && !r.before("1.42") {
		usage, err := a.engine.Images.Usage(r.Context(), nil)
		if err != nil {
			return err
		}
		for i := range list {
			list[i].SharedSize = usage.Shared[list[i].ID]
		}
	}
	shown := []any{}
	for i := range list {
		if r.flag("manifests") && !r.before("1.47") {
			img, err := a.engine.Images.Get(r.Context(), list[i].ID)
			if err != nil {
				return err
			}
			if list[i].Manifests, err = a.engine.Images.Manifests(r.Context(), img); err != nil {
				return err
			}
		}
		shown = append(shown, summaryFor(r, list[i]))
	}
	return writeJSON(w, http.StatusOK, shown)
}

// imagesCreate pulls an image, or imports one.
func (a *api) imagesCreate(w http.ResponseWriter, r *call) error {
	if r.Form.Get("fromSrc") != "" {
		return a.imagesImport(w, r)
	}
	req := image.PullRequest{Name: r.Form.Get("fromImage"), Tag: r.Form.Get("tag")}
	if req.Name == "" {
		return badRequest("fromImage names no image")
	}
	if p := r.Form.Get("platform"); p != "" {
		platform, err := platforms.Parse(p)
		if err != nil {
			return badRequest("%v", err)
		}
		req.Platform = &platform
	}
	auth, err := decodeAuth(r.Header.Get(registry.AuthHeader))
	if err != nil {
		return err
	}
	req.Auth = auth
	progress := newProgressWriter(w)
	return progress.finish(a.engine.Images.Pull(r.Context(), req, progress.show))
}

// decodeAuth reads the credentials that clients send with a pull: JSON in
// base64 for URLs, with or without padding.
func decodeAuth(header string) (*registry.AuthConfig, error) {
	if header == "" {
		return nil, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(header, "="))
	if err != nil {
		return nil, badRequest("invalid %s header: %v", registry.AuthHeader, err)
	}
	auth := &registry.AuthConfig{}
	if err := json.Unmarshal(b, auth); err != nil {
		return nil, badRequest("invalid %s header: %v", registry.AuthHeader, err)
	}
	if *auth == (registry.AuthConfig{}) {
		return nil, nil
	}
	return auth, nil
}

// platforms reads a parameter that names platforms in JSON, which clients of
// API since know and others are not heard for.
func (r *call) platforms(name, since string) ([]ocispec.Platform, error) {
	if r.before(since) {
		return nil, nil
	}
	var list []ocispec.Platform
	for _, value := range r.Form[name] {
		var p ocispec.Platform
		if value == "" {
			continue
		}
		if err := json.Unmarshal([]byte(value), &p); err != nil {
			return nil, badRequest("invalid value for %q: %v", name, err)
		}
		if p.OS == "" || p.Architecture == "" {
			return nil, badRequest("invalid value for %q: both OS and Architecture must be provided", name)
		}
		list = append(list, p)
	}
	return list, nil
}

// platform reads the same of one platform.
func (r *call) platform(name, since string) (*ocispec.Platform, error) {
	list, err := r.platforms(name, since)
	switch {
	case err != nil || len(list) == 0:
		return nil, err
	case len(list) > 1:
		return nil, badRequest("only one platform value is currently supported")
	}
	return &list[0], nil
}

// archivePlatforms reads the platforms of a request to load or save.
func (r *call) archivePlatforms() ([]ocispec.Platform, error) {
	list, err := r.platforms("platform", "1.48")
	if err == nil && len(list) > 1 && r.before("1.52") {
		return nil, badRequest("multiple platform parameters are not supported in this API version; use API version 1.52 or later")
	}
	return list, err
}

func (a *api) imagesLoad(w http.ResponseWriter, r *call) error {
	list, err := r.archivePlatforms()
	if err != nil {
		return err
	}
	progress := newProgressWriter(w)
	return progress.finish(a.engine.Images.Load(r.Context(), r.Body, list, progress.show))
}

func (a *api) imagesSave(w http.ResponseWriter, r *call) error {
	list, err := r.archivePlatforms()
	if err != nil {
		return err
	}
	names := r.Form["names"]
	if name := r.name(); name != "" {
		names = []string{name}
	}
	if len(names) == 0 {
		return badRequest("no image named")
	}
	saved, err := a.engine.Images.Save(r.Context(), names, list)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-tar")
	if err := saved.Write(r.Context(), w); err != nil {
		// Only a broken connection tells the client that the tar is not whole.
		a.log.Error("image archive broken off", "err", err)
		panic(http.ErrAbortHandler)
	}
	return nil
}

func (a *api) imagesInspect(w http.ResponseWriter, r *call) error {
	platform, err := r.platform("platform", "1.49")
	if err != nil {
		return err
	}
	manifests := r.flag("manifests") && !r.before("1.48")
	if manifests && platform != nil {
		return badRequest("conflicting options: manifests and platform options cannot both be set")
	}
	resp, err := a.engine.Images.Inspect(r.Context(), r.name(), platform)
	if err != nil {
		return err
	}
	if manifests {
		img, err := a.engine.Images.Get(r.Context(), r.name())
		if err != nil {
			return err
		}
		if resp.Manifests, err = a.engine.Images.Manifests(r.Context(), img); err != nil {
			return err
		}
	}
	return writeJSON(w, http.StatusOK, imageFor(r, resp))
}

func (a *api) imagesHistory(w http.ResponseWriter, r *call) error {
	platform, err := r.platform("platform", "1.48")
	if err != nil {
		return err
	}
	items, err := a.engine.Images.History(r.Context(), r.name(), platform)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, items)
}

// imagesAttestations shows the statements that came with an image.
func (a *api) imagesAttestations(w http.ResponseWriter, r *call) error {
	platform, err := r.platform("platform", MinVersion)
	if err != nil {
		return err
	}
	req := image.AttestationRequest{Platform: platform, Bodies: r.flag("statement")}
	for _, t := range r.Form["type"] {
		if t = strings.TrimSpace(t); t != "" {
			req.Types = append(req.Types, t)
		}
	}
	list, err := a.engine.Images.Attestations(r.Context(), r.name(), req)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, list)
}

func (a *api) imagesTag(w http.ResponseWriter, r *call) error {
	if err := a.engine.Images.Tag(r.Context(), r.name(), r.Form.Get("repo"), r.Form.Get("tag")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusCreated)
	return nil
}

func (a *api) imagesRemove(w http.ResponseWriter, r *call) error {
	list, err := r.platforms("platforms", "1.50")
	if err != nil {
		return err
	}
	remove := func() ([]dockerimage.DeleteResponse, error) {
		if len(list) > 0 {
			return a.engine.Images.RemovePlatforms(r.Context(), r.name(), list, r.flag("force"))
		}
		return a.engine.Images.Remove(r.Context(), r.name(), r.flag("force"))
	}
	resp, err := remove()
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, resp)
}

func (a *api) imagesPrune(w http.ResponseWriter, r *call) error {
	f, err := r.filters()
	if err != nil {
		return err
	}
	report, err := a.engine.Images.Prune(r.Context(), f)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, report)
}
