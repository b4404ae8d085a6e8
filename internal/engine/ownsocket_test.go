// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/mount"
)

func TestABindOfTheDaemonsSocketIsKnownByAllItsNames(t *testing.T) {
	dir, err := os.MkdirTemp("", "sock") // short, for the socket's address
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	own, other, link := filepath.Join(dir, "docker.sock"), filepath.Join(dir, "other.sock"), filepath.Join(dir, "link")
	for _, name := range []string{own, other} {
		l, err := net.Listen("unix", name)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}
	if err := os.Symlink(own, link); err != nil {
		t.Fatal(err)
	}
	e := &Engine{cfg: Config{Socket: own}}
	for source, want := range map[string]bool{
		own: true, link: true, dir + "/./docker.sock": true, "/var/run/docker.sock": true, "//var/run/docker.sock": true, "/run/docker.sock": true,
		other: false, dir: false, dir + "/missing": false,
	} {
		m, err := (&mounting{Engine: e}).parseBind(source + ":/d.sock")
		if err != nil || m.Socket != want {
			t.Errorf("-v %s: socket %v, %v; want %v", source, m.Socket, err, want)
		}
		if want && (e.hostSource(m) != own || m.Source == "" || !m.settings(false).Socket) {
			t.Errorf("-v %s: the shim is given %s with %+v", source, e.hostSource(m), m.settings(false))
		}
	}
	m, err := (&mounting{Engine: e}).resolveMount(mount.Mount{Type: mount.TypeBind, Source: "/var/run/docker.sock", Target: "/d.sock"})
	if err != nil || !m.Socket {
		t.Errorf("--mount: %+v, %v", m, err)
	}
	if _, err := (&mounting{Engine: e}).parseBind(own + ":/d.sock:uid=5"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("an owner of a socket: %v", err)
	}
	if m, err := (&mounting{Engine: new(Engine)}).parseBind(other + ":/d.sock"); err != nil || m.Socket {
		t.Errorf("a daemon without a socket took one for its own: %+v, %v", m, err)
	}
}
