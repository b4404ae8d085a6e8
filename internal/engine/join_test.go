// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
)

// joinable is an engine with one container, which runs if running says so.
func joinable(t *testing.T, running bool) (*Engine, *Container) {
	t.Helper()
	e := &Engine{containers: newCatalog(), log: slog.New(slog.DiscardHandler)}
	c := newContainer(t.TempDir(), Record{
		ID: strings.Repeat("a", 64), Name: "target", Config: &container.Config{Hostname: "host-of-target"}, Host: &container.HostConfig{},
		State: State{Running: running},
	}, e.log)
	if running {
		c.current = newRun()
	}
	if err := e.containers.reserve("target", c.id); err != nil {
		t.Fatal(err)
	}
	e.containers.add(c)
	return e, c
}

func joiner(change func(*container.HostConfig)) Record {
	h := &container.HostConfig{NetworkMode: "container:target"}
	if change != nil {
		change(h)
	}
	return Record{ID: strings.Repeat("b", 64), Config: &container.Config{}, Host: h}
}

func TestJoiningTakesTheOthersNamesAndRefusesWhatIsItsOwn(t *testing.T) {
	e, target := joinable(t, false)
	r := joiner(nil)
	if err := e.completeJoin(&r, nil); err != nil {
		t.Fatal(err)
	}
	if r.Config.Hostname != "host-of-target" || string(r.Host.NetworkMode) != "container:"+target.id {
		t.Errorf("host name %s, mode %s", r.Config.Hostname, r.Host.NetworkMode)
	}
	for want, change := range map[string]func(*container.HostConfig){
		"port publishing": func(h *container.HostConfig) { h.PublishAllPorts = true },
		"port publishing and": func(h *container.HostConfig) {
			h.PortBindings = network.PortMap{network.MustParsePort("80/tcp"): nil}
		},
		"dns":                       func(h *container.HostConfig) { h.DNS = []netip.Addr{netip.MustParseAddr("1.2.3.4")} },
		"custom host-to-IP mapping": func(h *container.HostConfig) { h.ExtraHosts = []string{"a:1.2.3.4"} },
		"no such container":         func(h *container.HostConfig) { h.NetworkMode = "container:nobody" },
	} {
		r := joiner(change)
		err := e.completeJoin(&r, nil)
		if !errdefs.IsInvalidArgument(err) || !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(want)) {
			t.Errorf("%s: error %v", want, err)
		}
	}
}

func TestContainerThatDoesNotRunCannotBeJoined(t *testing.T) {
	e, _ := joinable(t, false)
	if _, _, _, err := e.group(joiner(nil)); !errdefs.IsConflict(err) {
		t.Errorf("error %v, want a conflict", err)
	}
}

func TestJoiningMeansTheMachineOfTheRunThatWasFound(t *testing.T) {
	e, target := joinable(t, true)
	group, found, joined, err := e.group(joiner(nil))
	if err != nil || group != target.id || found != target {
		t.Fatalf("group %s, container %v, error %v", group, found, err)
	}
	if err := stillJoined(found, joined); err != nil {
		t.Errorf("the same run: %v", err)
	}
	target.note(func(r *Record) { r.Group = "another-machine" })
	if group, _, _, _ := e.group(joiner(nil)); group != "another-machine" {
		t.Errorf("group %s, want that of the run", group)
	}
	target.mu.Lock()
	target.current = newRun()
	target.mu.Unlock()
	if err := stillJoined(found, joined); !errdefs.IsConflict(err) {
		t.Errorf("another run: error %v, want a conflict", err)
	}
}
