// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"encoding/json"
	"net/http"

	"github.com/containerd/platforms"
	"github.com/moby/moby/api/types/container"

	"byre.dev/byre/internal/engine"
	"byre.dev/byre/internal/engine/request"
)

func (a *api) containersList(w http.ResponseWriter, r *call) error {
	opts := engine.ListOptions{All: r.flag("all"), Size: r.flag("size")}
	limit, err := r.number("limit")
	if err != nil {
		return err
	}
	if limit != nil {
		opts.Limit = max(0, *limit)
	}
	if opts.Filters, err = r.filters(); err != nil {
		return err
	}
	list, err := a.engine.List(r.Context(), opts)
	if err != nil {
		return err
	}
	for i := range list {
		if r.before("1.46") {
			list[i].HostConfig.Annotations = nil
		}
		if r.before("1.48") {
			list[i].ImageManifestDescriptor = nil
		}
		if r.before("1.52") {
			list[i].Health = nil
		}
	}
	return writeJSON(w, http.StatusOK, list)
}

func (a *api) containersCreate(w http.ResponseWriter, r *call) error {
	req := engine.CreateRequest{Name: r.Form.Get("name")}
	raw, err := r.body(&req.CreateRequest, true)
	if err != nil {
		return err
	}
	if raw == nil {
		// Here dockerd has other words than elsewhere.
		return badRequest("invalid JSON: EOF")
	}
	if p := r.Form.Get("platform"); p != "" {
		platform, err := platforms.Parse(p)
		if err != nil {
			return badRequest("%v", err)
		}
		req.Platform = &platform
	}
	if req.Config == nil {
		return badRequest("config cannot be empty in order to create a container")
	}
	if err := translate(r, &req.CreateRequest, raw); err != nil {
		return err
	}
	if err := request.ContainerCreate().Check(&req.CreateRequest, raw); err != nil {
		return err
	}
	resp, err := a.engine.Create(r.Context(), req)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, resp)
}

func (a *api) containersInspect(w http.ResponseWriter, r *call) error {
	resp, err := a.engine.Inspect(r.Context(), r.name(), r.flag("size"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, containerFor(r, resp))
}

func (a *api) containersStart(w http.ResponseWriter, r *call) error {
	if r.ContentLength > 7 {
		return badRequest("starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24")
	}
	if err := a.engine.Start(r.Context(), r.name()); err != nil {
		return err
	}
	return done(w)
}

func stopOptions(r *call) (engine.StopOptions, error) {
	timeout, err := r.number("t")
	opts := engine.StopOptions{Timeout: timeout}
	if !r.before("1.42") {
		opts.Signal = r.Form.Get("signal")
	}
	return opts, err
}

func (a *api) containersStop(w http.ResponseWriter, r *call) error {
	opts, err := stopOptions(r)
	if err != nil {
		return err
	}
	if err := a.engine.Stop(r.Context(), r.name(), opts); err != nil {
		return err
	}
	return done(w)
}

func (a *api) containersRestart(w http.ResponseWriter, r *call) error {
	opts, err := stopOptions(r)
	if err != nil {
		return err
	}
	if err := a.engine.Restart(r.Context(), r.name(), opts); err != nil {
		return err
	}
	return done(w)
}

func (a *api) containersKill(w http.ResponseWriter, r *call) error {
	if err := a.engine.Kill(r.Context(), r.name(), r.Form.Get("signal")); err != nil {
		return prefixed("cannot kill container: "+r.name(), err)
	}
	return done(w)
}

func (a *api) containersPause(w http.ResponseWriter, r *call) error {
	if err := a.engine.Pause(r.Context(), r.name()); err != nil {
		return err
	}
	return done(w)
}

func (a *api) containersUnpause(w http.ResponseWriter, r *call) error {
	if err := a.engine.Unpause(r.Context(), r.name()); err != nil {
		return err
	}
	return done(w)
}

// containersWait answers with the header at once: clients start the container
// when they see it.
func (a *api) containersWait(w http.ResponseWriter, r *call) error {
	waiter, err := a.engine.Waiter(r.name(), container.WaitCondition(r.Form.Get("condition")))
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	if err := http.NewResponseController(w).Flush(); err != nil {
		return nil
	}
	resp, err := waiter.Wait(r.Context())
	if err != nil {
		// The client has gone.
		return nil
	}
	if err := json.NewEncoder(w).Encode(resp); err != nil {
		a.log.Debug("exit code not delivered", "err", err)
	}
	return nil
}

func (a *api) containersResize(w http.ResponseWriter, r *call) error {
	height, width, err := r.size()
	if err != nil {
		return err
	}
	return a.engine.Resize(r.Context(), r.name(), height, width)
}

func (a *api) containersRename(w http.ResponseWriter, r *call) error {
	if err := a.engine.Rename(r.Context(), r.name(), r.Form.Get("name")); err != nil {
		return err
	}
	return done(w)
}

func (a *api) containersUpdate(w http.ResponseWriter, r *call) error {
	var req container.UpdateConfig
	if err := r.request(request.ContainerUpdate(), &req, false); err != nil {
		return err
	}
	resp, err := a.engine.Update(r.Context(), r.name(), req)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, resp)
}

func (a *api) containersRemove(w http.ResponseWriter, r *call) error {
	err := a.engine.Remove(r.Context(), r.name(), engine.RemoveOptions{Force: r.flag("force"), Volumes: r.flag("v")})
	if err != nil {
		return err
	}
	return done(w)
}

func (a *api) containersPrune(w http.ResponseWriter, r *call) error {
	f, err := r.filters()
	if err != nil {
		return err
	}
	ids, freed, err := a.engine.Prune(r.Context(), f)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, container.PruneReport{ContainersDeleted: ids, SpaceReclaimed: freed})
}

func (a *api) containersTop(w http.ResponseWriter, r *call) error {
	resp, err := a.engine.Top(r.Context(), r.name(), r.Form.Get("ps_args"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, resp)
}

func (a *api) containersStats(w http.ResponseWriter, r *call) error {
	stream := r.flagOr("stream", true)
	started := false
	enc := json.NewEncoder(newFlushWriter(w))
	return a.engine.Stats(r.Context(), r.name(), engine.StatsOptions{Stream: stream, OneShot: r.flag("one-shot")},
		func(s *container.StatsResponse) error {
			if !started {
				started = true
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(http.StatusOK)
			}
			return enc.Encode(s)
		})
}
