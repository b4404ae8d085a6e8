// SPDX-License-Identifier: Apache-2.0

//go:build unix

package dockerapi_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
)

func TestAContainerIsOnTheNetworkThatItAsksFor(t *testing.T) {
	s := serve(t)
	s.load(t, "tiny")
	made, err := s.NetworkCreate(t.Context(), "app", client.NetworkCreateOptions{
		IPAM: &network.IPAM{Config: []network.IPAMConfig{{Subnet: netip.MustParsePrefix("10.9.0.0/24")}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	on := func(name string, ep *network.EndpointSettings) client.ContainerCreateOptions {
		return client.ContainerCreateOptions{
			Config: &container.Config{Image: "tiny"}, HostConfig: &container.HostConfig{NetworkMode: container.NetworkMode(name)},
			NetworkingConfig: &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{name: ep}},
		}
	}
	at := func(ip string) *network.EndpointSettings {
		return &network.EndpointSettings{Aliases: []string{"db"}, IPAMConfig: &network.EndpointIPAMConfig{IPv4Address: netip.MustParseAddr(ip)}}
	}
	c, err := s.ContainerCreate(t.Context(), on("app", at("10.9.0.9")))
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.ContainerInspect(t.Context(), c.ID, client.ContainerInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ep := got.Container.NetworkSettings.Networks["app"]
	if ep == nil || ep.NetworkID != made.ID || len(ep.DNSNames) < 3 || ep.DNSNames[1] != "db" || len(got.Container.NetworkSettings.Networks) != 1 {
		t.Errorf("on %+v", got.Container.NetworkSettings.Networks)
	}
	for text, opts := range map[string]client.ContainerCreateOptions{
		"no configured subnet contains IP address": on("app", at("10.8.0.9")),
		"supported on user defined networks only":  on("bridge", &network.EndpointSettings{IPAMConfig: at("172.17.0.9").IPAMConfig}),
		"network-scoped alias is supported only":   on("host", at("172.17.0.9")),
	} {
		if _, err := s.ContainerCreate(t.Context(), opts); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("error %v, want one that says %q", err, text)
		}
	}
}

func TestNetworksAreMovedBetweenRuns(t *testing.T) {
	s := serve(t)
	s.load(t, "tiny")
	if _, err := s.NetworkCreate(t.Context(), "app", client.NetworkCreateOptions{}); err != nil {
		t.Fatal(err)
	}
	id := s.create(t, "moved", container.Config{Image: "tiny"})
	if _, err := s.NetworkConnect(t.Context(), "none", client.NetworkConnectOptions{Container: id}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("none beside bridge: error %v", err)
	}
	if _, err := s.NetworkConnect(t.Context(), "app", client.NetworkConnectOptions{Container: id}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.NetworkConnect(t.Context(), "app", client.NetworkConnectOptions{Container: id}); !errdefs.IsPermissionDenied(err) {
		t.Errorf("the same network again: error %v", err)
	}
	if _, err := s.NetworkDisconnect(t.Context(), "bridge", client.NetworkDisconnectOptions{Container: id}); err != nil {
		t.Fatal(err)
	}
	s.start(t)
	got, err := s.ContainerInspect(t.Context(), id, client.ContainerInspectOptions{})
	if err != nil || got.Container.NetworkSettings.Networks["app"] == nil || len(got.Container.NetworkSettings.Networks) != 1 {
		t.Errorf("on %v, error %v", got.Container.NetworkSettings, err)
	}
	pruned, err := s.NetworkPrune(t.Context(), client.NetworkPruneOptions{})
	if err != nil || len(pruned.Report.NetworksDeleted) != 0 {
		t.Errorf("pruned %v, error %v", pruned.Report.NetworksDeleted, err)
	}
	if _, err := s.NetworkRemove(t.Context(), "app", client.NetworkRemoveOptions{}); err != nil {
		t.Error(err)
	}
	if list, err := s.NetworkList(t.Context(), client.NetworkListOptions{}); err != nil || len(list.Items) != 3 {
		t.Errorf("left: %v, error %v", list.Items, err)
	}
}

// A network that was removed while a container did not run is left by force.
func TestAContainerLeavesANetworkThatIsGoneByForce(t *testing.T) {
	s := serve(t)
	s.load(t, "tiny")
	if _, err := s.NetworkCreate(t.Context(), "gone", client.NetworkCreateOptions{}); err != nil {
		t.Fatal(err)
	}
	id := s.create(t, "left", container.Config{Image: "tiny"})
	if _, err := s.NetworkConnect(t.Context(), "gone", client.NetworkConnectOptions{Container: id}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.NetworkRemove(t.Context(), "gone", client.NetworkRemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		network string
		force   bool
		leaves  bool
	}{{"gone", false, false}, {"never", true, false}, {"gone", true, true}, {"gone", true, false}} {
		_, err := s.NetworkDisconnect(t.Context(), c.network, client.NetworkDisconnectOptions{Container: id, Force: c.force})
		if c.leaves != (err == nil) || err != nil && !errdefs.IsNotFound(err) {
			t.Errorf("%+v: error %v", c, err)
		}
	}
	got, err := s.ContainerInspect(t.Context(), id, client.ContainerInspectOptions{})
	if err != nil || len(got.Container.NetworkSettings.Networks) != 1 || got.Container.NetworkSettings.Networks["bridge"] == nil {
		t.Errorf("networks %+v, error %v", got.Container.NetworkSettings.Networks, err)
	}
}
