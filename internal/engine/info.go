// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/api/types/system"

	"byre.dev/byre/internal/shimapi"
)

// Info describes the engine and its host.
func (e *Engine) Info(ctx context.Context) (system.Info, error) {
	running, paused, stopped := e.count()
	images, err := e.Images.All(ctx)
	if err != nil {
		return system.Info{}, err
	}
	name, err := os.Hostname()
	if err != nil {
		name = "localhost"
	}
	info := system.Info{
		ID: e.id, Containers: running + paused + stopped, ContainersRunning: running, ContainersPaused: paused,
		ContainersStopped: stopped, Images: len(images), Driver: snapshotter,
		DriverStatus: [][2]string{{"driver-type", "io.containerd.snapshotter.v1"}},
		Plugins:      system.PluginsInfo{Volume: []string{"local"}, Network: []string{"bridge", "null"}, Log: logDrivers()},
		MemoryLimit:  true, SwapLimit: true, CPUCfsPeriod: true, CPUCfsQuota: true, CPUShares: true, CPUSet: true, PidsLimit: true,
		IPv4Forwarding: true, NGoroutines: runtime.NumGoroutine(), SystemTime: time.Now().Format(time.RFC3339Nano),
		LoggingDriver: "json-file", CgroupDriver: "cgroupfs", CgroupVersion: "2", NEventsListener: e.Events.Listeners(),
		KernelVersion: e.cfg.Build.Kernel, OperatingSystem: "byre (" + e.cfg.Build.Driver + ")", OSType: "linux",
		Architecture: machine(), NCPU: runtime.NumCPU(), MemTotal: hostMemory(), DockerRootDir: e.cfg.Home, Name: name,
		IndexServerAddress: "https://index.docker.io/v1/", ServerVersion: e.cfg.Build.Version,
		RegistryConfig: &registry.ServiceConfig{
			InsecureRegistryCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")},
			IndexConfigs:          map[string]*registry.IndexInfo{"docker.io": {Name: "docker.io", Secure: true, Official: true, Mirrors: []string{}}},
			Mirrors:               []string{},
		},
		Runtimes:       map[string]system.RuntimeWithStatus{shimapi.Runtime: {Runtime: system.Runtime{Type: shimapi.Runtime}}},
		DefaultRuntime: shimapi.Runtime, Swarm: swarm.Info{LocalNodeState: swarm.LocalNodeStateInactive},
		LiveRestoreEnabled: true, Isolation: "", SecurityOptions: []string{"name=seccomp,profile=builtin", "name=cgroupns"},
		Labels: []string{}, CDISpecDirs: []string{}, Warnings: []string{},
		Containerd: &system.ContainerdInfo{Namespaces: system.ContainerdNamespaces{Containers: e.cfg.Namespace}},
	}
	return info, nil
}

// count returns how many containers run, are paused, and do neither.
func (e *Engine) count() (running, paused, stopped int) {
	for _, c := range e.containers.all() {
		switch s := c.snapshot().State; {
		case s.Paused:
			paused++
		case s.Running:
			running++
		default:
			stopped++
		}
	}
	return running, paused, stopped
}

// machine is the processor's name as uname -m gives it in the guest.
func machine() string {
	switch runtime.GOARCH {
	case "amd64":
		return "x86_64"
	case "arm64":
		return "aarch64"
	}
	return runtime.GOARCH
}

// Build returns what program this is.
func (e *Engine) Build() Build { return e.cfg.Build }

// bundle is the directory of a task's bundle, where its shim's address is.
func (e *Engine) bundle(id string) string {
	return filepath.Join(e.cfg.ShimState, e.cfg.Namespace, id)
}

func onlineCPUs() uint32 { return uint32(runtime.NumCPU()) }
