// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/storage"

	"byre.dev/byre/internal/engine/image"
)

func (a *api) imagesList(w http.ResponseWriter, r *call) error {
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
	for i := range list {
		switch {
		case r.before("1.48"):
			list[i].Descriptor = nil
		case r.flag("manifests"):
			img, err := a.engine.Images.Get(r.Context(), list[i].ID)
			if err != nil {
				return err
			}
			if list[i].Manifests, err = a.engine.Images.Manifests(r.Context(), img); err != nil {
				return err
			}
		}
	}
	return writeJSON(w, http.StatusOK, list)
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

func (a *api) imagesLoad(w http.ResponseWriter, r *call) error {
	if r.Form.Has("platform") {
		return badRequest("byre does not support platform: images are loaded for linux on this host's architecture")
	}
	progress := newProgressWriter(w)
	return progress.finish(a.engine.Images.Load(r.Context(), r.Body, progress.show))
}

func (a *api) imagesSave(w http.ResponseWriter, r *call) error {
	if r.Form.Has("platform") {
		return badRequest("byre does not support platform: images are saved for linux on this host's architecture")
	}
	names := r.Form["names"]
	if name := r.name(); name != "" {
		names = []string{name}
	}
	if len(names) == 0 {
		return badRequest("no image named")
	}
	for _, name := range names {
		if _, err := a.engine.Images.Get(r.Context(), name); err != nil {
			return err
		}
	}
	w.Header().Set("Content-Type", "application/x-tar")
	if err := a.engine.Images.Save(r.Context(), names, w); err != nil {
		// Only a broken connection tells the client that the tar is not whole.
		a.log.Error("image archive broken off", "err", err)
		panic(http.ErrAbortHandler)
	}
	return nil
}

func (a *api) imagesInspect(w http.ResponseWriter, r *call) error {
	if r.Form.Get("platform") != "" {
		return badRequest("byre does not support platform: images are shown for linux on this host's architecture")
	}
	resp, err := a.engine.Images.Inspect(r.Context(), r.name())
	if err != nil {
		return err
	}
	if r.flag("manifests") && !r.before("1.48") {
		img, err := a.engine.Images.Get(r.Context(), r.name())
		if err != nil {
			return err
		}
		if resp.Manifests, err = a.engine.Images.Manifests(r.Context(), img); err != nil {
			return err
		}
	}
	if r.before("1.48") {
		resp.Descriptor = nil
	}
	if r.before("1.52") {
		resp.GraphDriver = &storage.DriverData{Name: "byre", Data: map[string]string{}}
	}
	return writeJSON(w, http.StatusOK, resp)
}

func (a *api) imagesHistory(w http.ResponseWriter, r *call) error {
	if r.Form.Get("platform") != "" {
		return badRequest("byre does not support platform: images are shown for linux on this host's architecture")
	}
	items, err := a.engine.Images.History(r.Context(), r.name())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, items)
}

func (a *api) imagesTag(w http.ResponseWriter, r *call) error {
	if err := a.engine.Images.Tag(r.Context(), r.name(), r.Form.Get("repo"), r.Form.Get("tag")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusCreated)
	return nil
}

func (a *api) imagesRemove(w http.ResponseWriter, r *call) error {
	if r.Form.Has("platforms") {
		return badRequest("byre does not support platforms: an image is removed as a whole")
	}
	resp, err := a.engine.Images.Remove(r.Context(), r.name(), r.flag("force"))
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
