// SPDX-License-Identifier: Apache-2.0

package ctrd

import (
	"time"

	"github.com/containerd/containerd/v2/cmd/containerd/server/config"
	"github.com/containerd/containerd/v2/version"
	"github.com/containerd/platforms"

	"byre.dev/byre/internal/snapshot"

	// The plugins that this containerd has. Importing one registers it.
	_ "github.com/containerd/containerd/v2/core/runtime/v2"
	_ "github.com/containerd/containerd/v2/plugins/content/local/plugin"
	_ "github.com/containerd/containerd/v2/plugins/events"
	_ "github.com/containerd/containerd/v2/plugins/gc"
	_ "github.com/containerd/containerd/v2/plugins/leases"
	_ "github.com/containerd/containerd/v2/plugins/metadata"
	_ "github.com/containerd/containerd/v2/plugins/mount"
	_ "github.com/containerd/containerd/v2/plugins/sandbox"
	_ "github.com/containerd/containerd/v2/plugins/server/grpc"
	_ "github.com/containerd/containerd/v2/plugins/server/ttrpc"
	_ "github.com/containerd/containerd/v2/plugins/services/containers"
	_ "github.com/containerd/containerd/v2/plugins/services/content"
	_ "github.com/containerd/containerd/v2/plugins/services/diff"
	_ "github.com/containerd/containerd/v2/plugins/services/events"
	_ "github.com/containerd/containerd/v2/plugins/services/healthcheck"
	_ "github.com/containerd/containerd/v2/plugins/services/images"
	_ "github.com/containerd/containerd/v2/plugins/services/introspection"
	_ "github.com/containerd/containerd/v2/plugins/services/leases"
	_ "github.com/containerd/containerd/v2/plugins/services/mounts"
	_ "github.com/containerd/containerd/v2/plugins/services/namespaces"
	_ "github.com/containerd/containerd/v2/plugins/services/sandbox"
	_ "github.com/containerd/containerd/v2/plugins/services/snapshots"
	_ "github.com/containerd/containerd/v2/plugins/services/streaming"
	_ "github.com/containerd/containerd/v2/plugins/services/tasks"
	_ "github.com/containerd/containerd/v2/plugins/services/transfer"
	_ "github.com/containerd/containerd/v2/plugins/services/version"
	_ "github.com/containerd/containerd/v2/plugins/services/warning"
	_ "github.com/containerd/containerd/v2/plugins/streaming"
	_ "github.com/containerd/containerd/v2/plugins/transfer"
)

// required are the plugins without which byre cannot work: New fails, and says
// why, where one of them does not load.
func required() []string {
	return []string{
		"io.containerd.content.v1.content",
		"io.containerd.differ.v1." + snapshot.Name,
		"io.containerd.event.v1.exchange",
		"io.containerd.gc.v1.scheduler",
		"io.containerd.grpc.v1.containers",
		"io.containerd.grpc.v1.content",
		"io.containerd.grpc.v1.diff",
		"io.containerd.grpc.v1.events",
		"io.containerd.grpc.v1.images",
		"io.containerd.grpc.v1.introspection",
		"io.containerd.grpc.v1.leases",
		"io.containerd.grpc.v1.namespaces",
		"io.containerd.grpc.v1.snapshots",
		"io.containerd.grpc.v1.streaming",
		"io.containerd.grpc.v1.tasks",
		"io.containerd.grpc.v1.transfer",
		"io.containerd.internal.v1." + contentPlugin,
		"io.containerd.metadata.v1.bolt",
		"io.containerd.mount-manager.v1.bolt",
		"io.containerd.runtime.v2.task",
		"io.containerd.sandbox.controller.v1.shim",
		"io.containerd.server.v1.grpc",
		"io.containerd.server.v1.ttrpc",
		"io.containerd.snapshotter.v1." + snapshot.Name,
	}
}

// serverConfig is what "containerd --config" would read from its file.
func serverConfig(cfg Config, s sockets) *config.Config {
	platform := platforms.Format(snapshot.GuestPlatform())
	plugins := map[string]any{
		"io.containerd.server.v1.grpc":  map[string]any{"address": s.grpc},
		"io.containerd.server.v1.ttrpc": map[string]any{"address": s.ttrpc},
		"io.containerd.snapshotter.v1." + snapshot.Name: map[string]any{
			"template": cfg.Template, "scratch_size": cfg.ScratchSize,
		},
		"io.containerd.service.v1.diff-service": map[string]any{"default": []string{snapshot.Name}},
		// Deleting an image or a container frees its disks soon, without the
		// deleting call waiting for it.
		"io.containerd.gc.v1.scheduler": map[string]any{"deletion_threshold": 1, "schedule_delay": "500ms"},
		"io.containerd.transfer.v1.local": map[string]any{
			"max_concurrent_unpacks": maxUnpacks,
			"unpack_config": []map[string]any{{
				"platform": platform, "snapshotter": snapshot.Name, "differ": snapshot.Name,
			}},
		},
	}
	if s.shims != "" {
		plugins["io.containerd.shim.v1.manager"] = map[string]any{"socket_dir": s.shims}
	}
	return &config.Config{
		Version:         version.ConfigVersion,
		Root:            cfg.Root,
		State:           cfg.State,
		RequiredPlugins: required(),
		// These two register with process-wide collectors that nobody reads.
		DisabledPlugins: []string{"io.containerd.metrics.v1.grpc-prometheus", "io.containerd.metrics.v1.grpc-otel"},
		Plugins:         plugins,
		Timeouts: map[string]string{
			"io.containerd.timeout.metadata.bolt.open": "5s",
			"io.containerd.timeout.shim.load":          shimPatience.String(),
			"io.containerd.timeout.shim.cleanup":       shimPatience.String(),
			"io.containerd.timeout.task.state":         shimPatience.String(),
		},
	}
}

// shimPatience is how long a shim may take to answer. containerd takes the
// machine of one that does not answer in time: its own 2 and 5 s are over on a
// host where many emulated machines start at once, and would cost containers
// that run well.
const shimPatience = time.Minute

// maxUnpacks is how many layers are unpacked at a time. Each takes one core for
// decompressing and one for the image.
const maxUnpacks = 2
