// SPDX-License-Identifier: Apache-2.0

//go:build linux

package guest_test

import (
	"context"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"byre.dev/byre/internal/guest/guesttest"
	"byre.dev/byre/internal/guestapi"
	"byre.dev/byre/internal/memfs"
	"byre.dev/byre/internal/p9/p9srv"
)

// TestShares mounts shares over a port of their own and over the link, and has
// a container work on them.
func TestShares(t *testing.T) {
	m := guesttest.Boot(t, guesttest.Config{
		Disks:  []guesttest.Disk{{Path: guesttest.BusyboxDisk(t), ReadOnly: true}, {Path: guesttest.ScratchDisk(t)}},
		Shares: []string{"one"},
	})
	m.Connect()
	if f := m.Greet().Features; !slices.Contains(f, guestapi.FeaturePort9P) {
		t.Logf("features %v: shares are relayed", f)
	}
	m.Renew()
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait) // before what ends them is registered, so after it runs
	serve := func(conn net.Conn) {
		srv := &p9srv.Server{Root: memfs.New().Root()}
		wg.Go(func() { srv.Serve(context.WithoutCancel(t.Context()), conn) })
		t.Cleanup(func() { conn.Close() })
	}
	serve(m.SharePort("one"))
	l, err := m.Session.Listen(guestapi.PortShare)
	if err != nil {
		t.Fatal(err)
	}
	wg.Go(func() { acceptShare(t, m, l, serve) })
	for name, transport := range map[string]guestapi.Share_Transport{"one": guestapi.Share_VIRTIO_PORT, "two": guestapi.Share_LINK} {
		t.Run(transport.String(), func(t *testing.T) { useShare(t, m, name, transport) })
	}
	l.Close()
	m.Session.Close()
}

// acceptShare serves the one share that the guest opens over the link.
func acceptShare(t *testing.T, m *guesttest.Machine, l net.Listener, serve func(net.Conn)) {
	c, err := l.Accept()
	if err != nil {
		return
	}
	p, err := guestapi.ReadPreface(c, guestapi.PortShare, m.Secret)
	if err != nil || p.Name != "two" {
		t.Errorf("preface %v, %v", p, err)
	}
	if err := guestapi.Accept(c); err != nil {
		t.Error(err)
	}
	serve(c)
}

func useShare(t *testing.T, m *guesttest.Machine, name string, transport guestapi.Share_Transport) {
	target := guestapi.RuntimeDir + "/shares/" + name
	share := &guestapi.Share{Name: name, Transport: transport, Cache: "loose", Msize: 512 << 10}
	_, err := m.Guest.Mount(m.Context(), &guestapi.MountRequest{Mounts: []*guestapi.Mount{
		{Target: target, Source: &guestapi.Mount_Share{Share: share}, Options: []string{"nodev"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	m.MountRoot("share" + name)
	spec := guesttest.Spec("sh", "-c",
		"cd /mnt && head -c 3000000 /dev/zero >big && sync && mkdir d && echo hello >d/file && mv d/file d/moved && stat -c %s big && cat d/moved && ls d")
	spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/mnt", Type: "bind", Source: target, Options: []string{"rbind"}})
	p, err := m.Create("share"+name, spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	p.Wait()
	if out, errs := p.Delete(); out != "3000000\nhello\nmoved\n" {
		t.Errorf("output %q, errors %q", out, errs)
	}
	if _, err := m.Guest.Unmount(m.Context(), &guestapi.UnmountRequest{Targets: []string{target}, Sync: true}); err != nil {
		t.Error(err)
	}
}

// TestSharesComeAndGoManyTimes mounts one share over and over: each time the
// kernel takes the port from the agent in the middle of its traffic.
func TestSharesComeAndGoManyTimes(t *testing.T) {
	m := guesttest.Boot(t, guesttest.Config{Shares: []string{"one"}})
	m.Connect()
	m.Greet()
	m.Renew()
	conn := m.SharePort("one")
	var served sync.WaitGroup
	t.Cleanup(served.Wait)
	t.Cleanup(func() { conn.Close() })
	srv := &p9srv.Server{Root: memfs.New().Root()}
	served.Go(func() { srv.Serve(context.WithoutCancel(t.Context()), conn) })
	target := guestapi.RuntimeDir + "/shares/one"
	mount := &guestapi.MountRequest{Mounts: []*guestapi.Mount{{
		Target: target,
		Source: &guestapi.Mount_Share{Share: &guestapi.Share{
			Name: "one", Transport: guestapi.Share_VIRTIO_PORT, Cache: "loose", Msize: 512 << 10, PosixAcl: true,
		}},
	}}}
	for i := range 200 {
		ctx, cancel := context.WithTimeout(m.Context(), 30*time.Second)
		_, err := m.Guest.Mount(ctx, mount)
		if err == nil {
			_, err = m.Guest.Unmount(ctx, &guestapi.UnmountRequest{Targets: []string{target}})
		}
		cancel()
		if err != nil {
			t.Fatalf("mount %d: %v", i, err)
		}
	}
}

// TestInputClosedBeforeTheStartIsClosed has the host end an exec's input while
// the exec is still being started, as a client does whose input is short.
func TestInputClosedBeforeTheStartIsClosed(t *testing.T) {
	m := start(t)
	p := m.Run("box", guesttest.Spec("sleep", "1000"))
	e := m.Exec("box", "early", "cat")
	if _, err := io.WriteString(e.Stdin, "all there is"); err != nil {
		t.Fatal(err)
	}
	e.CloseInput()
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	if code := e.Wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if out, errs := e.Delete(); out != "all there is" {
		t.Errorf("output %q, errors %q", out, errs)
	}
	p.Kill(9, false)
}

// TestSlowReaderLosesNothing reads a large output with pauses.
func TestSlowReaderLosesNothing(t *testing.T) {
	m := start(t)
	c, err := m.Stream(guestapi.PortStdio, "slow")
	if err != nil {
		t.Fatal(err)
	}
	p := m.Run("box", guesttest.Spec("sleep", "1000"))
	e := m.ExecTo("box", "slowly", "slow", "head", "-c", "20000000", "/dev/zero")
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	var n int64
	buf := make([]byte, 64<<10)
	time.Sleep(3 * time.Second) // the process blocks on a full pipe meanwhile
	for {
		got, err := c.Read(buf)
		n += int64(got)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if n != 20000000 {
		t.Errorf("%d bytes came, want 20000000", n)
	}
	if code := e.Wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	p.Kill(9, false)
}
