// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"archive/tar"
	"bytes"
	"crypto/rand"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/jsonstream"

	"byre.dev/byre/internal/engine/image"
)

// slowly passes content on in pieces with a rest after each.
type slowly struct {
	http.ResponseWriter
	io.ReadCloser
}

const (
	piece = 1 << 20
	rest  = 8 * time.Millisecond
)

func (s slowly) Write(p []byte) (n int, err error) {
	for part := range slices.Chunk(p, piece) {
		time.Sleep(rest)
		written, err := s.ResponseWriter.Write(part)
		if n += written; err != nil {
			return n, err
		}
	}
	return n, nil
}

func (s slowly) Read(p []byte) (int, error) {
	time.Sleep(rest * time.Duration(len(p)) / piece)
	return s.ReadCloser.Read(p)
}

// layerOf returns a tar with one file of random bytes.
func layerOf(t *testing.T, size int) []byte {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	if err := tw.WriteHeader(&tar.Header{Name: "large", Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(size)}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(tw, rand.Reader, int64(size)); err != nil {
		t.Fatal(err)
	}
	tw.Close()
	return b.Bytes()
}

// phases are the statuses of the one layer, each once, in their order; what has
// numbers must have had them.
func phases(t *testing.T, shown []jsonstream.Message) []string {
	t.Helper()
	var all []string
	for _, m := range shown {
		counted := m.Status == "Downloading" || m.Status == "Pushing"
		switch {
		case len(m.ID) != 12:
			continue
		case counted && (m.Progress.Current <= 0 || m.Progress.Total < m.Progress.Current):
			t.Errorf("%s: %+v", m.Status, m.Progress)
		case m.Status == "Extracting" && (m.Progress.Units != "s" || m.Progress.Current < 1):
			t.Errorf("%s: %+v", m.Status, m.Progress)
		}
		if len(all) == 0 || all[len(all)-1] != m.Status {
			all = append(all, m.Status)
		}
	}
	return all
}

func TestPullAndPushShowTheirPhases(t *testing.T) {
	w := newWorld(t)
	ref := w.pushLayer(t, "large:v1", layerOf(t, 64<<20))
	w.slow.Store(true)
	var shown []jsonstream.Message
	show := func(m jsonstream.Message) { shown = append(shown, m) }
	if err := w.Pull(w.ctx, image.PullRequest{Name: ref}, show); err != nil {
		t.Fatal(err)
	}
	want := []string{"Pulling fs layer", "Downloading", "Download complete", "Extracting", "Pull complete"}
	if got := phases(t, shown); !slices.Equal(got, want) {
		t.Errorf("pull shows %q, want %q", got, want)
	}
	empty := httptest.NewServer(w.registry())
	t.Cleanup(empty.Close)
	other := strings.TrimPrefix(empty.URL, "http://") + "/large"
	if err := w.Tag(w.ctx, ref, other, "v1"); err != nil {
		t.Fatal(err)
	}
	for _, want := range [][]string{{"Preparing", "Pushing", "Pushed"}, {"Preparing", "Layer already exists"}} {
		shown = nil
		if err := w.Push(w.ctx, image.PushRequest{Name: other, Tag: "v1"}, show, func(image.Pushed) {}); err != nil {
			t.Fatal(err)
		}
		if got := phases(t, shown); !slices.Equal(got, want) {
			t.Errorf("push shows %q, want %q", got, want)
		}
	}
}
