// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"fmt"
	"runtime"

	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/plugins"
	"github.com/containerd/plugin"
	"github.com/containerd/plugin/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// PluginConfig is the configuration of the snapshotter plugin,
// io.containerd.snapshotter.v1.byre, whose root is the plugin's own.
type PluginConfig struct {
	// Template and ScratchSize are as in Config.
	Template    string `toml:"template"`
	ScratchSize int64  `toml:"scratch_size"`
}

// GuestPlatform is the platform of the images that a machine on this host runs:
// Linux, whatever the host is.
func GuestPlatform() ocispec.Platform {
	return ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}
}

// init is how containerd finds plugins that are linked into the same program.
func init() {
	registry.Register(&plugin.Registration{
		Type:   plugins.SnapshotPlugin,
		ID:     Name,
		Config: &PluginConfig{},
		InitFn: initSnapshotter,
	})
	registry.Register(&plugin.Registration{
		Type:     plugins.DiffPlugin,
		ID:       Name,
		Requires: []plugin.Type{plugins.MetadataPlugin, plugins.SnapshotPlugin},
		InitFn:   initDiffer,
	})
}

func initSnapshotter(ic *plugin.InitContext) (any, error) {
	cfg, ok := ic.Config.(*PluginConfig)
	if !ok {
		return nil, fmt.Errorf("snapshotter %s: configuration is a %T", Name, ic.Config)
	}
	root := ic.Properties[plugins.PropertyRootDir]
	ic.Meta.Platforms = append(ic.Meta.Platforms, GuestPlatform())
	// Layers do not depend on one another: they may be unpacked in parallel.
	ic.Meta.Capabilities = append(ic.Meta.Capabilities, snapshots.RebaseCap)
	ic.Meta.Exports[plugins.SnapshotterRootDir] = root
	return New(ic.Context, Config{Root: root, Template: cfg.Template, ScratchSize: cfg.ScratchSize})
}

func initDiffer(ic *plugin.InitContext) (any, error) {
	md, err := ic.GetSingle(plugins.MetadataPlugin)
	if err != nil {
		return nil, err
	}
	sn, err := ic.GetByID(plugins.SnapshotPlugin, Name)
	if err != nil {
		return nil, err
	}
	ic.Meta.Platforms = append(ic.Meta.Platforms, GuestPlatform())
	return NewDiffer(sn.(*Snapshotter), md.(*metadata.DB).ContentStore()), nil
}
