// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"

	enginenet "byre.dev/byre/internal/engine/network"
	"byre.dev/byre/internal/shimapi"
)

func linking(mode, network string, links ...string) Record {
	return Record{
		ID: strings.Repeat("b", 64), Name: "own", Network: network, Config: &container.Config{},
		Host: &container.HostConfig{NetworkMode: container.NetworkMode(mode), Links: links},
	}
}

func TestLinksAreLinesOfTheHostsFileThatFollowTheOther(t *testing.T) {
	e, target := joinable(t, true)
	r := linking("bridge", enginenet.Bridge, "target", "/target:/own/db")
	if err := e.completeLinks(&r); err != nil {
		t.Fatal(err)
	}
	if _, err := e.linkedHosts(r, true); err == nil || !strings.Contains(err.Error(), "does not belong to the default network") {
		t.Errorf("a start beside a container that is on no network: %v", err)
	}
	target.note(func(r *Record) {
		r.Connections = map[string]*Attached{enginenet.Bridge: {IP: netip.MustParseAddr("172.17.0.9")}}
	})
	hosts, err := e.linkedHosts(r, true)
	if err != nil {
		t.Fatal(err)
	}
	want := []shimapi.Host{
		{Address: "172.17.0.9", Names: []string{"target", "host-of-target", "target"}},
		{Address: "172.17.0.9", Names: []string{"db", "host-of-target", "target"}},
	}
	if diff := cmp.Diff(want, hosts); diff != "" {
		t.Error(diff)
	}
	target.note(func(r *Record) { r.Name = "renamed" })
	if got := e.shownLinks(r); !slices.Equal(got, []string{"/renamed:/own/target", "/renamed:/own/db"}) {
		t.Errorf("inspect shows %v", got)
	}
	if got := linkNames([]Record{r})[target.id]; !slices.Equal(got, []string{"/own/target", "/own/db"}) {
		t.Errorf("names by links: %v", got)
	}
	target.note(func(r *Record) { r.State.Running, r.Connections = false, nil })
	if hosts, err := e.linkedHosts(r, false); err != nil || len(hosts) != 0 {
		t.Errorf("the other has stopped: %v, %v", hosts, err)
	}
	if _, err := e.linkedHosts(r, true); err == nil || !strings.Contains(err.Error(), "Cannot link to a non running container: /renamed AS /own/target") {
		t.Errorf("a start beside one that does not run: %v", err)
	}
}

func TestLinksAreRefusedWhereTheyCannotHold(t *testing.T) {
	e, _ := joinable(t, true)
	for want, r := range map[string]Record{
		"could not get container for nobody": linking("bridge", enginenet.Bridge, "nobody"),
		"on network app":                     linking("app", "app", "target"),
		"network mode host":                  linking("host", enginenet.Host, "target"),
		"bad format for links":               linking("bridge", enginenet.Bridge, ":x"),
	} {
		if err := e.completeLinks(&r); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}
