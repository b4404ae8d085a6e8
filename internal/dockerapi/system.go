// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/system"

	"byre.dev/byre/internal/engine/filter"
)

func (a *api) ping(w http.ResponseWriter, r *call) error {
	h := w.Header()
	h.Set("Cache-Control", "no-cache, no-store, must-revalidate")
	h.Set("Pragma", "no-cache")
	version := "1"
	if a.builds != nil {
		version = "2" // BuildKit, by docker's counting
	}
	h.Set("Builder-Version", version)
	h.Set("Swarm", "inactive")
	h.Set("Docker-Experimental", "false")
	h.Set("Content-Type", "text/plain; charset=utf-8")
	if r.Method == http.MethodHead {
		h.Set("Content-Length", "0")
		return nil
	}
	_, err := io.WriteString(w, "OK")
	return err
}

func (a *api) version(w http.ResponseWriter, _ *call) error {
	b := a.engine.Build()
	details := map[string]string{
		"ApiVersion": MaxVersion, "MinAPIVersion": MinVersion, "GitCommit": b.Commit, "BuildTime": b.Time,
		"Os": "linux", "Arch": runtime.GOARCH, "KernelVersion": b.Kernel, "GoVersion": runtime.Version(), "Machine": b.Driver, "Experimental": "false",
	}
	return writeJSON(w, http.StatusOK, system.VersionResponse{
		Platform: system.PlatformInfo{Name: "byre"}, Version: b.Version, APIVersion: MaxVersion, MinAPIVersion: MinVersion,
		Os: "linux", Arch: runtime.GOARCH, GitCommit: b.Commit, GoVersion: runtime.Version(), KernelVersion: b.Kernel,
		BuildTime:  b.Time,
		Components: []system.ComponentVersion{{Name: "Engine", Version: b.Version, Details: details}},
	})
}

func (a *api) info(w http.ResponseWriter, r *call) error {
	info, err := a.engine.Info(r.Context())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, infoFor(r, info))
}

// events streams what happens, from since until until.
func (a *api) events(w http.ResponseWriter, r *call) error {
	q, err := parseEventsQuery(r)
	if err != nil {
		return err
	}
	ctx := r.Context()
	if !q.until.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, q.until)
		defer cancel()
	}
	l := a.engine.Events.Listen(q.since, q.until)
	defer l.Close()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	out := newFlushWriter(w)
	if err := out.rc.Flush(); err != nil {
		return nil
	}
	enc := json.NewEncoder(out)
	for {
		batch, err := l.Next(ctx)
		for _, m := range append(batch, queuedAtEnd(err, l.Queued)...) {
			if q.match(m) && (q.until.IsZero() || m.TimeNano <= q.until.UnixNano()) {
				if r.before("1.46") && m.Type == events.ImageEventType && m.Action == events.ActionCreate {
					continue // API 1.46 added it
				}
				if enc.Encode(eventFor(r, m)) != nil {
					return nil
				}
			}
		}
		if err != nil {
			return nil
		}
	}
}

// queuedAtEnd returns what came before the end of the time asked for.
func queuedAtEnd(err error, queued func() []events.Message) []events.Message {
	if errors.Is(err, context.DeadlineExceeded) {
		return queued()
	}
	return nil
}

// eventsQuery selects events.
type eventsQuery struct {
	since, until time.Time
	filters      filter.Args
}

func parseEventsQuery(r *call) (eventsQuery, error) {
	var q eventsQuery
	var err error
	for name, dst := range map[string]*time.Time{"since": &q.since, "until": &q.until} {
		if s := r.Form.Get(name); s != "" {
			if *dst, err = filter.ParseTime(s, time.Now()); err != nil {
				return q, err
			}
		}
	}
	if q.filters, err = r.filters(); err != nil {
		return q, err
	}
	return q, q.filters.Check("config", "container", "daemon", "event", "image", "label", "network", "node", "plugin",
		"scope", "secret", "service", "type", "volume")
}

func (q eventsQuery) match(m events.Message) bool {
	f := q.filters
	action, _, _ := strings.Cut(string(m.Action), ":")
	if !f.Exact("event", action) && !f.Exact("event", string(m.Action)) || !f.Exact("type", string(m.Type)) ||
		!f.Exact("scope", m.Scope) || !f.Labels(m.Actor.Attributes) {
		return false
	}
	for _, kind := range []events.Type{events.ContainerEventType, events.ImageEventType, events.VolumeEventType, events.NetworkEventType} {
		if !f.Has(string(kind)) {
			continue
		}
		if m.Type != kind || !slices.ContainsFunc(f[string(kind)], func(want string) bool { return isActor(m, want) }) {
			return false
		}
	}
	return true
}

func isActor(m events.Message, want string) bool {
	name := m.Actor.Attributes["name"]
	repo, _, _ := strings.Cut(name, ":")
	return want == name || want == repo || len(want) > 0 && strings.HasPrefix(m.Actor.ID, want)
}

// eventFor adds the fields that API 1.52 dropped, for clients that read them.
func eventFor(r *call, m events.Message) any {
	if !r.before("1.52") {
		return m
	}
	legacy := struct {
		Status string `json:"status,omitempty"`
		ID     string `json:"id,omitempty"`
		From   string `json:"from,omitempty"`
		events.Message
	}{Message: m}
	switch m.Type {
	case events.ContainerEventType:
		legacy.Status, legacy.ID, legacy.From = string(m.Action), m.Actor.ID, m.Actor.Attributes["image"]
	case events.ImageEventType:
		legacy.Status, legacy.ID = string(m.Action), m.Actor.ID
	}
	legacy.Message.Actor.Attributes = maps.Clone(m.Actor.Attributes)
	return legacy
}
