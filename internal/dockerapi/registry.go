// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"encoding/json"
	"net/http"

	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"

	"byre.dev/byre/internal/engine/image"
	"byre.dev/byre/internal/engine/request"
)

// imagesPush uploads an image.
func (a *api) imagesPush(w http.ResponseWriter, r *call) error {
	platform, err := r.platform("platform", "1.46")
	if err != nil {
		return err
	}
	auth, err := decodeAuth(r.Header.Get(registry.AuthHeader))
	if err != nil {
		return err
	}
	req := image.PushRequest{Name: r.name(), Tag: r.Form.Get("tag"), Platform: platform, Auth: auth}
	progress := newProgressWriter(w)
	pushed := func(p image.Pushed) {
		if aux, err := json.Marshal(p); err == nil {
			progress.show(jsonstream.Message{Aux: (*json.RawMessage)(&aux)})
		}
	}
	return progress.finish(a.engine.Images.Push(r.Context(), req, progress.show, pushed))
}

// distributionInspect describes an image as its registry has it.
func (a *api) distributionInspect(w http.ResponseWriter, r *call) error {
	auth, err := decodeAuth(r.Header.Get(registry.AuthHeader))
	if err != nil {
		return err
	}
	resp, err := a.engine.Images.Remote(r.Context(), r.name(), auth)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, resp)
}

// auth checks credentials.
func (a *api) auth(w http.ResponseWriter, r *call) error {
	var req registry.AuthConfig
	if err := r.request(request.Login(), &req, false); err != nil {
		return err
	}
	if err := a.engine.Images.Login(r.Context(), req); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, registry.AuthResponse{Status: "Login Succeeded"})
}
