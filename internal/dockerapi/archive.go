// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"

	"github.com/moby/moby/api/types/container"

	"byre.dev/byre/internal/engine"
)

func archivePath(r *call) (string, error) {
	p := r.Form.Get("path")
	if p == "" {
		return "", badRequest("bad parameter: 'path' cannot be empty")
	}
	return p, nil
}

func setStat(w http.ResponseWriter, stat container.PathStat) error {
	b, err := json.Marshal(stat)
	if err != nil {
		return err
	}
	w.Header().Set("X-Docker-Container-Path-Stat", base64.StdEncoding.EncodeToString(b))
	return nil
}

func (a *api) archiveStat(w http.ResponseWriter, r *call) error {
	path, err := archivePath(r)
	if err != nil {
		return err
	}
	stat, err := a.engine.StatPath(r.Context(), r.name(), path)
	if err != nil {
		return err
	}
	return setStat(w, stat)
}

func (a *api) archiveGet(w http.ResponseWriter, r *call) error {
	path, err := archivePath(r)
	if err != nil {
		return err
	}
	started := false
	err = a.engine.ReadArchive(r.Context(), r.name(), path, func(stat container.PathStat) io.Writer {
		started = true
		if err := setStat(w, stat); err != nil {
			a.log.Error("description of path not sent", "err", err)
		}
		w.Header().Set("Content-Type", "application/x-tar")
		w.WriteHeader(http.StatusOK)
		return w
	})
	if err != nil && started {
		// Only a broken connection tells the client that the tar is not whole.
		a.log.Error("archive broken off", "path", path, "err", err)
		panic(http.ErrAbortHandler)
	}
	return err
}

func (a *api) archivePut(w http.ResponseWriter, r *call) error {
	path, err := archivePath(r)
	if err != nil {
		return err
	}
	err = a.engine.WriteArchive(r.Context(), r.name(), engine.ArchiveTarget{
		Path: path, NoOverwriteDirNonDir: r.flag("noOverwriteDirNonDir"), CopyUIDGID: r.flag("copyUIDGID"),
	}, r.Body)
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}
