// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strings"

	"github.com/containerd/errdefs/pkg/errhttp"
	"github.com/containerd/platforms"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/jsonstream"

	"byre.dev/byre/internal/engine"
	"byre.dev/byre/internal/engine/image"
	"byre.dev/byre/internal/engine/request"
)

func (a *api) containersChanges(w http.ResponseWriter, r *call) error {
	changes, err := a.engine.Changes(r.Context(), r.name())
	if err != nil {
		return err
	}
	if changes == nil && !r.before("1.56") {
		changes = []container.FilesystemChange{}
	}
	return writeJSON(w, http.StatusOK, changes)
}

func (a *api) containersExport(w http.ResponseWriter, r *call) error {
	started := false
	err := a.engine.Export(r.Context(), r.name(), func() io.Writer {
		started = true
		w.Header().Set("Content-Type", "application/x-tar")
		w.WriteHeader(http.StatusOK)
		return w
	})
	if err != nil && started {
		// Only a broken connection tells the client that the tar is not whole.
		a.log.Error("export broken off", "container", r.name(), "err", err)
		panic(http.ErrAbortHandler)
	}
	return err
}

func (a *api) commit(w http.ResponseWriter, r *call) error {
	req := engine.CommitRequest{
		Author: r.Form.Get("author"), Comment: r.Form.Get("comment"), Pause: r.flagOr("pause", true), Changes: r.Form["changes"],
	}
	if r.Form.Get("pause") == "" {
		req.Pause = true
	}
	var cfg container.Config
	if err := r.request(request.Commit(), &cfg, true); err != nil {
		return err
	}
	if !reflect.ValueOf(cfg).IsZero() {
		req.Config = &cfg
	}
	var err error
	if req.Name, err = image.Name(r.Form.Get("repo"), r.Form.Get("tag")); err != nil {
		return err
	}
	id, err := a.engine.Commit(r.Context(), r.Form.Get("container"), req)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, container.CommitResponse{ID: id})
}

// imagesImport makes an image of a tar: the request's body, or what is at a URL.
func (a *api) imagesImport(w http.ResponseWriter, r *call) error {
	req := engine.ImportRequest{Comment: r.Form.Get("message"), Changes: r.Form["changes"]}
	if p := r.Form.Get("platform"); p != "" {
		platform, err := platforms.Parse(p)
		if err != nil {
			return badRequest("%v", err)
		}
		req.Platform = &platform
	}
	var err error
	if req.Name, err = image.Name(r.Form.Get("repo"), r.Form.Get("tag")); err != nil {
		return err
	}
	progress := newProgressWriter(w)
	source := io.ReadCloser(r.Body)
	if src := r.Form.Get("fromSrc"); src != "-" {
		if source, err = download(r, src); err != nil {
			return err
		}
		defer source.Close()
		progress.show(jsonstream.Message{Status: "Downloading from " + src})
	}
	id, err := a.engine.Import(r.Context(), source, req)
	if err == nil {
		progress.show(jsonstream.Message{Status: id})
	}
	return progress.finish(err)
}

func download(r *call, src string) (io.ReadCloser, error) {
	if !strings.Contains(src, "://") {
		src = "http://" + src
	}
	u, err := url.Parse(src)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, badRequest("fromSrc %q is neither - nor the URL of an archive by http or https", src)
	}
	req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, badRequest("fromSrc: %v", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("download archive: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		_ = resp.Body.Close()
		// Its status is the answer's, as in dockerd.
		return nil, fmt.Errorf("download archive from %s: %s: %w", src, resp.Status, errhttp.ToNative(resp.StatusCode))
	}
	return resp.Body, nil
}
