// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"net/http"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/cmd/buildkitd/config"
	"github.com/moby/buildkit/executor/oci"
	dockerfileversion "github.com/moby/buildkit/frontend/dockerfile/version"
	"github.com/moby/buildkit/util/disk"
	"github.com/moby/buildkit/util/network/netproviders"
	"github.com/moby/buildkit/version"
	"github.com/moby/buildkit/worker"
	"github.com/moby/buildkit/worker/base"
	"github.com/moby/buildkit/worker/runc"
)

// newWorker makes the one worker: runc over overlayfs, in the network of the
// machine.
func newWorker(ctx context.Context, root string, hosts docker.RegistryHosts, c *http.Client) (*base.Worker, *worker.Controller, error) {
	factory := runc.SnapshotterFactory{Name: "overlayfs", New: func(root string) (snapshots.Snapshotter, error) {
		return overlay.NewSnapshotter(root, overlay.AsynchronousRemove)
	}}
	opt, err := runc.NewWorkerOpt(root, factory, false, oci.ProcessSandbox, nil, nil,
		netproviders.Opt{Mode: "host"}, nil, "", "", false, nil, "", "", nil)
	if err != nil {
		return nil, nil, err
	}
	opt.GCPolicy = gcPolicy(root)
	opt.BuildkitVersion = client.BuildkitVersion{
		Package: version.Package, Version: version.Version, Revision: version.Revision,
		DockerfileVersion: dockerfileversion.Version(),
	}
	opt.RegistryHosts = hosts
	opt.Executor = foreignTold{opt.Executor}
	if err := labelGateway(ctx, opt.Labels); err != nil {
		return nil, nil, err
	}
	opt.ImageStore = localImages{c}
	w, err := base.NewWorker(ctx, opt)
	if err != nil {
		return nil, nil, err
	}
	// Sources find images in the daemon's store; exporters have none to write
	// to.
	w.ImageStore = nil
	wc := &worker.Controller{}
	return w, wc, wc.Add(w)
}

// gatewayLabel is dockerd's name for the address that host-gateway stands for.
const gatewayLabel = "org.mobyproject.buildkit.worker.moby.host-gateway-ip"

// labelGateway tells clients under which address builds reach the host.
func labelGateway(ctx context.Context, labels map[string]string) error {
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip4", hostName)
	if err != nil {
		return fmt.Errorf("find the host's address: %w", err)
	}
	labels[gatewayLabel] = addrs[0].String()
	return nil
}

// gcPolicy is BuildKit's own default for a disk of that size.
func gcPolicy(root string) []client.PruneInfo {
	stat, err := disk.GetDiskStat(root)
	if err != nil {
		return nil
	}
	var rules []client.PruneInfo
	for _, r := range config.DefaultGCPolicy(config.GCConfig{}, stat) {
		rules = append(rules, client.PruneInfo{
			Filter: r.Filters, All: r.All, KeepDuration: r.KeepDuration.Duration,
			ReservedSpace: r.ReservedSpace.AsBytes(stat), MaxUsedSpace: r.MaxUsedSpace.AsBytes(stat),
			MinFreeSpace: r.MinFreeSpace.AsBytes(stat),
		})
	}
	return rules
}
