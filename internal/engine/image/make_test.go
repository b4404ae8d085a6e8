// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"compress/gzip"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/image"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestNewImageIsItsBaseAndOneLayerMore(t *testing.T) {
	base := &Detail{Layers: []ocispec.Descriptor{{Digest: "sha256:base", Size: 7}}}
	base.Config.Platform = ocispec.Platform{OS: "linux", Architecture: "arm64"}
	base.Config.RootFS.DiffIDs = []digest.Digest{"sha256:plain"}
	base.Config.History = []ocispec.History{{CreatedBy: "first"}}
	n := NewImage{
		Base: base, Author: "me", Comment: "why", CreatedBy: "sh", Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"},
		Config: dockerspec.DockerOCIImageConfig{ImageConfig: ocispec.ImageConfig{User: "1"}},
	}
	now := time.Unix(1, 0)
	cfg, layers := n.compose(ocispec.Descriptor{Digest: "sha256:new"}, "sha256:newplain", now)
	if len(layers) != 2 || layers[1].Digest != "sha256:new" || len(cfg.RootFS.DiffIDs) != 2 || cfg.RootFS.DiffIDs[1] != "sha256:newplain" {
		t.Errorf("layers %v, diffIDs %v", layers, cfg.RootFS.DiffIDs)
	}
	last := cfg.History[len(cfg.History)-1]
	if len(cfg.History) != 2 || last.EmptyLayer || last.Author != "me" || last.Comment != "why" || last.CreatedBy != "sh" || !last.Created.Equal(now) {
		t.Errorf("history %+v", cfg.History)
	}
	if cfg.Architecture != "arm64" || cfg.Config.User != "1" {
		t.Errorf("architecture %s, user %s: want the base's and the new one's", cfg.Architecture, cfg.Config.User)
	}
	if len(base.Layers) != 1 || len(base.Config.History) != 1 {
		t.Error("the base was changed")
	}
}

func TestNothingChangedAddsAStepAndNoLayer(t *testing.T) {
	base := &Detail{Layers: []ocispec.Descriptor{{Digest: "sha256:base"}}}
	base.Config.RootFS.DiffIDs = []digest.Digest{"sha256:plain"}
	cfg, layers := NewImage{Base: base}.compose(ocispec.Descriptor{}, "", time.Unix(1, 0))
	if len(layers) != 1 || len(cfg.RootFS.DiffIDs) != 1 || len(cfg.History) != 1 || !cfg.History[0].EmptyLayer {
		t.Errorf("layers %v, diffIDs %v, history %+v", layers, cfg.RootFS.DiffIDs, cfg.History)
	}
}

func TestArchivesAreReadPlainAndCompressed(t *testing.T) {
	tar := strings.Repeat("a tar, nearly ", 100)
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := io.WriteString(w, tar); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for name, in := range map[string]io.Reader{"plain": strings.NewReader(tar), "gzip": &packed, "empty": strings.NewReader("")} {
		want := tar
		if name == "empty" { // an image with no files, as dockerd makes it
			want = ""
		}
		r, err := Decompress(in)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := io.ReadAll(r)
		if err != nil || string(got) != want {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		if err := r.Close(); err != nil {
			t.Errorf("%s: close: %v", name, err)
		}
	}
	for name, in := range map[string]string{"xz": "\xfd7zXZ\x00more"} {
		if _, err := Decompress(strings.NewReader(in)); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v, want a refusal that names it", name, err)
		}
	}
}

func TestLayerWithoutBoundIsCutOff(t *testing.T) {
	p := &plainLayer{digester: digest.Canonical.Digester(), size: maxLayer - 1}
	if _, err := p.Write([]byte("1")); err != nil {
		t.Errorf("up to the bound: %v", err)
	}
	if _, err := p.Write([]byte("2")); err == nil {
		t.Error("a layer beyond the bound was taken")
	}
}

func TestImagesOfOneSecondAreBeforeAndSinceEachOther(t *testing.T) {
	at := time.Unix(1000, 500)
	for _, tt := range []struct {
		sel  selection
		made time.Time
		want bool
	}{
		{selection{before: at}, at, false},
		{selection{before: at}, at.Add(-1), true},
		{selection{since: at}, at, false},
		{selection{since: at}, at.Add(1), true},
	} {
		if got := tt.sel.match(Image{}, image.Summary{}, nil, tt.made); got != tt.want {
			t.Errorf("%+v of one made at %d: %v, want %v", tt.sel, tt.made.UnixNano(), got, tt.want)
		}
	}
}

func TestAllBoundsOfTimeHold(t *testing.T) {
	var sel selection
	for _, s := range []int64{300, 100, 200} {
		sel.bound("before", time.Unix(1000+s, 0))
		sel.bound("since", time.Unix(s, 0))
	}
	if sel.before.Unix() != 1100 || sel.since.Unix() != 300 {
		t.Errorf("made since %d and before %d", sel.since.Unix(), sel.before.Unix())
	}
}
