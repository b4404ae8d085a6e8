// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"byre.dev/byre/internal/engine/filter"
	enginenet "byre.dev/byre/internal/engine/network"
)

// ListOptions select containers.
type ListOptions struct {
	// All includes those that do not run.
	All bool
	// Size measures them.
	Size bool
	// Limit is how many of the newest to return; 0 means all.
	Limit int
	// Filters are Docker's.
	Filters filter.Args
}

// List returns containers as "docker ps" shows them, newest first.
func (e *Engine) List(ctx context.Context, opts ListOptions) ([]container.Summary, error) {
	sel, err := e.selection(ctx, opts.Filters)
	if err != nil {
		return nil, err
	}
	var records []Record
	for _, c := range e.containers.all() {
		records = append(records, c.shown())
	}
	byCreation(records)
	linked := linkNames(records)
	list := []container.Summary{}
	for _, r := range records {
		if opts.Limit > 0 && len(list) == opts.Limit {
			break
		}
		shown := r.State.Running || opts.All || opts.Limit > 0 || sel.byState
		if !shown || !sel.match(r) {
			continue
		}
		s := e.summary(r)
		s.Names = append(s.Names, linked[r.ID]...)
		if opts.Size {
			s.SizeRw, s.SizeRootFs = e.sizes(ctx, r)
		}
		list = append(list, s)
	}
	return list, nil
}

func (e *Engine) summary(r Record) container.Summary {
	s := container.Summary{
		ID: r.ID, Names: []string{"/" + r.Name}, Image: r.Config.Image, ImageID: r.Image, ImageManifestDescriptor: r.Manifest,
		Command: strings.Join(slices.Concat(r.Config.Entrypoint, r.Config.Cmd), " "), Created: r.Created.Unix(),
		Ports: portSummaries(r), Labels: r.Config.Labels, State: r.State.Status(), Status: statusText(r.State, time.Now()),
		NetworkSettings: &container.NetworkSettingsSummary{Networks: e.networkSettings(r).Networks}, Mounts: mountPoints(r, nil),
	}
	s.HostConfig.NetworkMode, s.HostConfig.Annotations = string(r.Host.NetworkMode), r.Host.Annotations
	if h := r.State.Health; h != nil {
		s.Health = &container.HealthSummary{Status: h.Status, FailingStreak: h.FailingStreak}
	}
	return s
}

// statusText is Docker's sentence for a state: "Up 2 minutes (healthy)".
func statusText(s State, now time.Time) string {
	ago := func(t time.Time) string { return units.HumanDuration(now.Sub(t)) }
	switch s.Status() {
	case container.StateRestarting:
		return fmt.Sprintf("Restarting (%d) %s ago", s.ExitCode, ago(s.Finished))
	case container.StatePaused:
		return fmt.Sprintf("Up %s (Paused)", ago(s.StartedAt))
	case container.StateRunning:
		text := "Up " + ago(s.StartedAt)
		if h := s.Health; h != nil {
			word := string(h.Status)
			if h.Status == container.Starting {
				word = "health: starting"
			}
			text += " (" + word + ")"
		}
		return text
	case container.StateCreated:
		return "Created"
	case container.StateDead:
		return "Dead"
	case container.StateRemoving:
		return "Removal In Progress"
	}
	if s.Finished.IsZero() {
		return "Created"
	}
	return fmt.Sprintf("Exited (%d) %s ago", s.ExitCode, ago(s.Finished))
}

// selection is a list's filters, ready to be applied.
type selection struct {
	args          filter.Args
	byState       bool
	before, since time.Time
	images        []string
	exited        []int
	ports         portSelection
}

func (e *Engine) selection(ctx context.Context, f filter.Args) (selection, error) {
	sel := selection{args: f}
	err := f.Check("ancestor", "annotation", "before", "exited", "expose", "health", "id", "is-task", "isolation", "label", "name",
		"network", "publish", "since", "status", "volume")
	if err != nil {
		return sel, err
	}
	if f.Has("isolation") {
		return sel, invalid("byre does not support the filter isolation: it concerns Windows containers")
	}
	if sel.ports, err = portFilters(f); err != nil {
		return sel, err
	}
	for _, s := range f["status"] {
		if err := container.ValidateContainerState(container.ContainerState(s)); err != nil {
			return sel, invalid("%v", err)
		}
	}
	if f.Has("network") {
		sel.args = maps.Clone(f)
		for _, ref := range f["network"] {
			if n, err := e.Networks.Get(ref); err == nil {
				sel.args["network"] = append(slices.Clone(sel.args["network"]), n.Name)
			}
		}
	}
	sel.byState = f.Has("status") || f.Has("exited")
	for _, s := range f["exited"] {
		n, err := strconv.Atoi(s)
		if err != nil {
			return sel, invalid("invalid filter 'exited=%s'", s)
		}
		sel.exited = append(sel.exited, n)
	}
	for name, at := range map[string]*time.Time{"before": &sel.before, "since": &sel.since} {
		for _, ref := range f[name] {
			c, err := e.containers.get(ref)
			if err != nil {
				return sel, err
			}
			*at = c.snapshot().Created
		}
	}
	for _, ref := range f["ancestor"] {
		if img, err := e.Images.Get(ctx, ref); err == nil {
			sel.images = append(sel.images, img.ID())
		}
	}
	return sel, nil
}

func (sel selection) match(r Record) bool {
	f := sel.args
	health := string(container.NoHealthcheck)
	if r.State.Health != nil {
		health = string(r.State.Health.Status)
	}
	switch {
	case !f.Prefix("id", r.ID),
		!f.Match("name", r.Name) && !f.Match("name", "/"+r.Name),
		!f.Labels(r.Config.Labels),
		!f.Pairs("annotation", r.Host.Annotations),
		!f.Exact("status", string(r.State.Status())),
		!f.Exact("health", health),
		!f.Exact("is-task", "false") && !f.Exact("is-task", "0"),
		f.Has("network") && !slices.ContainsFunc(r.order(), func(name string) bool { return f.Exact("network", name) }),
		f.Has("ancestor") && !slices.Contains(sel.images, r.Image),
		len(sel.exited) > 0 && (r.State.Running || r.State.StartedAt.IsZero() || !slices.Contains(sel.exited, r.State.ExitCode)),
		!sel.before.IsZero() && !r.Created.Before(sel.before),
		!sel.since.IsZero() && !r.Created.After(sel.since),
		!sel.ports.match(r):
		return false
	}
	return !f.Has("volume") || slices.ContainsFunc(r.Mounts, func(m Mount) bool {
		return f.Exact("volume", m.Name) || f.Exact("volume", m.Destination)
	})
}

// before says whether a time is before every one of the filter's.
func before(until []string, t time.Time) (bool, error) {
	for _, s := range until {
		limit, err := filter.ParseTime(s, time.Now())
		if err != nil || !t.Before(limit) {
			return false, err
		}
	}
	return true, nil
}

func atoi(s string) uint16 {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0
	}
	return uint16(n)
}

// NetworkContainers returns the containers that are connected to a network.
func (e *Engine) NetworkContainers(name string) map[string]network.EndpointResource {
	list := map[string]network.EndpointResource{}
	for _, c := range e.containers.all() {
		r := c.snapshot()
		a := r.Connections[name]
		if a == nil {
			continue
		}
		if name == enginenet.Host {
			list[r.ID] = network.EndpointResource{Name: r.Name, EndpointID: endpointID(r, name)}
			continue
		}
		res := network.EndpointResource{Name: r.Name, EndpointID: endpointID(r, name)}
		res.IPv4Address = prefix(a)
		if mac, err := parseMAC(a.MAC); err == nil {
			res.MacAddress = mac
		}
		list[r.ID] = res
	}
	return list
}
