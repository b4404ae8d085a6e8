// SPDX-License-Identifier: Apache-2.0

package ctrd

import (
	"context"
	"path/filepath"
	"sync"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/plugins"
	"github.com/containerd/plugin"
	"github.com/containerd/plugin/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// stores has the content store of each containerd of this process that is
// starting, by its root. A plugin can hand it out in no other way.
var stores sync.Map

// contentPlugin is the plugin that does.
const contentPlugin = "byre-content"

// init is how containerd finds plugins that are linked into the same program.
func init() {
	registry.Register(&plugin.Registration{
		Type:     plugins.InternalPlugin,
		ID:       contentPlugin,
		Requires: []plugin.Type{plugins.MetadataPlugin},
		InitFn: func(ic *plugin.InitContext) (any, error) {
			md, err := ic.GetSingle(plugins.MetadataPlugin)
			if err != nil {
				return nil, err
			}
			store := md.(*metadata.DB).ContentStore()
			stores.Store(filepath.Dir(ic.Properties[plugins.PropertyRootDir]), store)
			return store, nil
		},
	})
}

// takeStore returns the content store of the containerd that was started at
// root, once.
func takeStore(root string) (content.Store, bool) {
	store, ok := stores.LoadAndDelete(filepath.Clean(root))
	if !ok {
		return nil, false
	}
	return local{store.(content.Store)}, true
}

// local is a content store in this process, used without the gRPC that would
// carry blobs to it in pieces. As a client's, it has a default namespace.
type local struct{ content.Store }

func named(ctx context.Context) context.Context {
	if _, ok := namespaces.Namespace(ctx); ok {
		return ctx
	}
	return namespaces.WithNamespace(ctx, Namespace)
}

func (l local) Info(ctx context.Context, d digest.Digest) (content.Info, error) {
	return l.Store.Info(named(ctx), d)
}

func (l local) Update(ctx context.Context, info content.Info, paths ...string) (content.Info, error) {
	return l.Store.Update(named(ctx), info, paths...)
}

func (l local) Walk(ctx context.Context, fn content.WalkFunc, filters ...string) error {
	return l.Store.Walk(named(ctx), fn, filters...)
}

func (l local) Delete(ctx context.Context, d digest.Digest) error {
	return l.Store.Delete(named(ctx), d)
}

func (l local) ReaderAt(ctx context.Context, desc ocispec.Descriptor) (content.ReaderAt, error) {
	return l.Store.ReaderAt(named(ctx), desc)
}

func (l local) Status(ctx context.Context, ref string) (content.Status, error) {
	return l.Store.Status(named(ctx), ref)
}

func (l local) ListStatuses(ctx context.Context, filters ...string) ([]content.Status, error) {
	return l.Store.ListStatuses(named(ctx), filters...)
}

func (l local) Abort(ctx context.Context, ref string) error {
	return l.Store.Abort(named(ctx), ref)
}

func (l local) Writer(ctx context.Context, opts ...content.WriterOpt) (content.Writer, error) {
	return l.Store.Writer(named(ctx), opts...)
}
