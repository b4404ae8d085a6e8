// SPDX-License-Identifier: Apache-2.0

package builder

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"byre.dev/byre/internal/engine"
)

// ImagesOf returns the images of an engine as builds see them.
func ImagesOf(eng *engine.Engine) Images { return storeImages{eng} }

type storeImages struct{ eng *engine.Engine }

// Resolve takes whole names alone: an image's ID is no name in a Dockerfile.
func (s storeImages) Resolve(ctx context.Context, name string) (ocispec.Descriptor, error) {
	if _, err := reference.ParseNamed(name); err != nil {
		return ocispec.Descriptor{}, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("%q is no name of an image", name))
	}
	img, err := s.eng.Images.Get(s.eng.Context(ctx), name)
	return img.Target, err
}

// Blob opens content of the engine's images.
func (s storeImages) Blob(ctx context.Context, d digest.Digest) (Blob, error) {
	return s.eng.Images.Blob(s.eng.Context(ctx), d)
}
