// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/ttrpc"
	"github.com/moby/moby/api/types/mount"

	"byre.dev/byre/internal/shimapi"
)

// sharing is a shim that has shares and nothing else.
type sharing struct {
	shimapi.ShimService
	shares []*shimapi.Share
}

func (s sharing) Shares(context.Context, *shimapi.SharesRequest) (*shimapi.SharesResponse, error) {
	return &shimapi.SharesResponse{Shares: s.shares}, nil
}

// serveShim has a shim answer for a container's bundle.
func serveShim(t *testing.T, bundle string, shim shimapi.ShimService) {
	t.Helper()
	socket := filepath.Join(bundle, "s")
	if err := os.MkdirAll(bundle, 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server, err := ttrpc.NewServer()
	if err != nil {
		t.Fatal(err)
	}
	shimapi.RegisterShimService(server, shim)
	done := make(chan struct{})
	go func() { // waited for below
		defer close(done)
		_ = server.Serve(t.Context(), l)
	}()
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		<-done
	})
	b, err := json.Marshal(map[string]any{"version": 3, "address": "unix://" + socket, "protocol": "ttrpc"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bundle, shimapi.BootstrapFile), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A host that can tell of changes may have refused to, when the share was made.
func TestInspectTellsTheCacheModeThatAShareHas(t *testing.T) {
	dir, state := t.TempDir(), t.TempDir()
	e := &Engine{cfg: Config{ShimState: state, Namespace: "n"}, log: slog.New(slog.DiscardHandler)}
	r := Record{ID: "box", Mounts: []Mount{
		{Type: mount.TypeBind, Source: dir, Destination: "/refused"},
		{Type: mount.TypeBind, Source: dir, Destination: "/cached", Mode: "ro"},
		{Type: mount.TypeBind, Source: dir, Destination: "/consistent", Consistent: true},
	}}
	c := &Container{id: "box", log: e.log, rec: r}
	modes := func() (got [3]string) {
		for i, p := range mountPoints(r, e.shareModes(t.Context(), c)) {
			got[i] = p.Mode
		}
		return got
	}
	if got, want := modes(), [3]string{"", "ro", "cache=none"}; got != want {
		t.Errorf("of a container that does not run: %q, want %q", got, want)
	}
	c.rec.State.Running, c.current = true, &run{}
	if got, want := modes(), [3]string{"", "ro", "cache=none"}; got != want {
		t.Errorf("with a shim that does not answer: %q, want %q", got, want)
	}
	serveShim(t, e.bundle("box"), sharing{shares: []*shimapi.Share{
		{ContainerId: "other", Destination: "/cached", Cache: "none"},
		{ContainerId: "box", Destination: "/refused", Cache: "none"},
		{ContainerId: "box", Destination: "/cached", Cache: "loose"},
		{ContainerId: "box", Destination: "/consistent", Cache: "none"},
	}})
	if got, want := modes(), [3]string{"cache=none", "ro", "cache=none"}; got != want {
		t.Errorf("of a container that runs: %q, want %q", got, want)
	}
}
