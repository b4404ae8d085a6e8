// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync/atomic"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// maxIngestBlobs bounds the blobs that one ingest takes.
	maxIngestBlobs = 4096
	// maxIngestBlob bounds one of them; a layer is unpacked into no more.
	maxIngestBlob = 64 << 30
)

// Ingest takes the content of an image from a party that is not trusted, a
// builder. What comes is held by a lease until Close: only what Keep has named
// stays after it.
type Ingest struct {
	store *Store
	// lease holds what comes, in namespace.
	lease, namespace string
	release          func(context.Context) error
	// prefix starts the names of writes that are this ingest's.
	prefix string
	// blobs counts them.
	blobs atomic.Int64
}

// Ingest begins to take an image. The caller closes it.
func (s *Store) Ingest(ctx context.Context) (*Ingest, error) {
	// The call may come from a builder, whose context says nothing of this side.
	namespace := s.cfg.Client.DefaultNamespace()
	held, release, err := s.cfg.Client.WithLease(namespaces.WithNamespace(ctx, namespace))
	if err != nil {
		return nil, fmt.Errorf("take image: %w", err)
	}
	lease, _ := leases.FromContext(held)
	return &Ingest{
		store: s, lease: lease, namespace: namespace, release: release, prefix: "ingest-" + rand.Text() + "-",
	}, nil
}

// Close lets go of what was not kept. It may be called once.
func (i *Ingest) Close() error {
	if err := i.release(i.leased(context.Background())); err != nil {
		return fmt.Errorf("release taken image: %w", err)
	}
	return nil
}

// Content returns the store that the image's blobs are written to. A blob
// has to be announced with its digest and size, which the content store holds it
// to; labels are not taken, and nothing can be read, listed or removed.
func (i *Ingest) Content() content.Store { return &ingestStore{in: i} }

// Keep gives the image that target points to its names; an image without any
// is kept dangling. All that target leads to has to be there. It is unpacked if
// containers can run it here.
func (i *Ingest) Keep(ctx context.Context, target ocispec.Descriptor, names []reference.Named) error {
	s := i.store
	ctx = i.leased(ctx)
	info, err := s.content().Info(ctx, target.Digest)
	if err != nil || info.Size != target.Size {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("the builder sent no image %s of %d bytes", target.Digest, target.Size))
	}
	target = ocispec.Descriptor{MediaType: target.MediaType, Digest: target.Digest, Size: target.Size}
	handler := images.SetChildrenLabels(s.content(), bounded(images.ChildrenHandler(s.content())))
	if err := images.WalkNotEmpty(ctx, handler, target); err != nil {
		return fmt.Errorf("the builder's image %s is not whole: %w", target.Digest, err)
	}
	if runnable, err := s.runnable(ctx, target); err != nil {
		return err
	} else if runnable {
		if err := s.unpack(ctx, target); err != nil {
			return err
		}
	}
	known, err := s.names().List(ctx, "target.digest=="+target.Digest.String())
	if err != nil {
		return fmt.Errorf("list images: %w", err)
	}
	if err := s.nameAll(ctx, target, names); err != nil {
		return err
	}
	if len(known) == 0 {
		s.publish(ctx, events.ActionCreate, target.Digest.String(), target.Digest.String())
	}
	return nil
}

// leased puts the ingest's lease, and the namespace it is in, into a context.
func (i *Ingest) leased(ctx context.Context) context.Context {
	return leases.WithLease(namespaces.WithNamespace(ctx, i.namespace), i.lease)
}

func (s *Store) nameAll(ctx context.Context, target ocispec.Descriptor, names []reference.Named) error {
	if len(names) == 0 {
		all, err := s.names().List(ctx, "target.digest=="+target.Digest.String())
		if err != nil {
			return fmt.Errorf("list images: %w", err)
		}
		if len(all) > 0 {
			return nil
		}
		_, err = s.names().Create(ctx, images.Image{Name: danglingName(target.Digest), Target: target})
		if err != nil && !errdefs.IsAlreadyExists(err) {
			return fmt.Errorf("keep image %s: %w", target.Digest, err)
		}
		return nil
	}
	for _, name := range names {
		if err := s.name(ctx, name.String(), target); err != nil {
			return err
		}
		s.publish(ctx, events.ActionTag, target.Digest.String(), reference.FamiliarString(name))
	}
	return nil
}

// maxManifest bounds the documents that describe an image.
const maxManifest = 16 << 20

// bounded refuses documents that are too large to read, and images of too many
// parts.
func bounded(next images.HandlerFunc) images.HandlerFunc {
	parts := atomic.Int64{}
	return func(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		if !images.IsLayerType(desc.MediaType) && desc.Size > maxManifest {
			return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("%s %s of %d bytes", desc.MediaType, desc.Digest, desc.Size))
		}
		children, err := next(ctx, desc)
		if err == nil && parts.Add(int64(len(children))) > maxIngestBlobs {
			return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("image of more than %d parts", maxIngestBlobs))
		}
		return children, err
	}
}

// ingestStore is what a builder sees of the content store.
type ingestStore struct{ in *Ingest }

var _ content.Store = (*ingestStore)(nil)

func denied(what string) error {
	return errdefs.ErrPermissionDenied.WithMessage("a builder may not " + what + " content of this store")
}

func (s *ingestStore) content() content.Store { return s.in.store.content() }

// Info tells whether a blob is there already.
func (s *ingestStore) Info(ctx context.Context, d digest.Digest) (content.Info, error) {
	ctx = s.in.leased(ctx)
	info, err := s.content().Info(ctx, d)
	return content.Info{Digest: info.Digest, Size: info.Size, CreatedAt: info.CreatedAt, UpdatedAt: info.UpdatedAt}, err
}

// Status tells how much of a blob of this ingest is written.
func (s *ingestStore) Status(ctx context.Context, ref string) (content.Status, error) {
	ctx = s.in.leased(ctx)
	st, err := s.content().Status(ctx, s.in.prefix+ref)
	st.Ref = ref
	return st, err
}

// Abort gives a blob of this ingest up.
func (s *ingestStore) Abort(ctx context.Context, ref string) error {
	ctx = s.in.leased(ctx)
	return s.content().Abort(ctx, s.in.prefix+ref)
}

// Writer takes a blob whose digest and size are given.
func (s *ingestStore) Writer(ctx context.Context, opts ...content.WriterOpt) (content.Writer, error) {
	var o content.WriterOpts
	for _, opt := range opts {
		if err := opt(&o); err != nil {
			return nil, err
		}
	}
	if o.Ref == "" || len(o.Ref) > 512 {
		return nil, errdefs.ErrInvalidArgument.WithMessage("a blob is written under a name of at most 512 bytes")
	}
	if err := o.Desc.Digest.Validate(); err != nil {
		return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("blob %s: %v", o.Ref, err))
	}
	if o.Desc.Size <= 0 || o.Desc.Size > maxIngestBlob {
		return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("blob %s of %d bytes, of 1 to %d are taken", o.Desc.Digest, o.Desc.Size, int64(maxIngestBlob)))
	}
	if s.in.blobs.Add(1) > maxIngestBlobs {
		return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("image of more than %d blobs", maxIngestBlobs))
	}
	ctx = s.in.leased(ctx)
	w, err := s.content().Writer(ctx, content.WithRef(s.in.prefix+o.Ref), content.WithDescriptor(o.Desc))
	if err != nil {
		return nil, err
	}
	return &ingestWriter{Writer: w, in: s.in, desc: o.Desc}, nil
}

func (s *ingestStore) ReaderAt(context.Context, ocispec.Descriptor) (content.ReaderAt, error) {
	return nil, denied("read")
}
func (s *ingestStore) Walk(context.Context, content.WalkFunc, ...string) error { return denied("list") }
func (s *ingestStore) Delete(context.Context, digest.Digest) error             { return denied("remove") }
func (s *ingestStore) Update(context.Context, content.Info, ...string) (content.Info, error) {
	return content.Info{}, denied("change")
}
func (s *ingestStore) ListStatuses(context.Context, ...string) ([]content.Status, error) {
	return nil, denied("list")
}

// ingestWriter bounds a blob to what was announced.
type ingestWriter struct {
	content.Writer
	in   *Ingest
	desc ocispec.Descriptor
}

// Write refuses what goes over the announced size.
func (w *ingestWriter) Write(p []byte) (int, error) {
	st, err := w.Status()
	if err != nil {
		return 0, err
	}
	if st.Offset+int64(len(p)) > w.desc.Size {
		return 0, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("blob %s is longer than %d bytes", w.desc.Digest, w.desc.Size))
	}
	return w.Writer.Write(p)
}

// Commit holds the blob to the announced digest and size, without the labels
// that the other side wants on it.
func (w *ingestWriter) Commit(ctx context.Context, _ int64, _ digest.Digest, _ ...content.Opt) error {
	ctx = w.in.leased(ctx)
	return w.Writer.Commit(ctx, w.desc.Size, w.desc.Digest)
}
