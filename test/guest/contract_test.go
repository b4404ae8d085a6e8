// SPDX-License-Identifier: Apache-2.0

//go:build linux

package guest_test

import (
	"context"
	"encoding/binary"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/opencontainers/runtime-spec/specs-go"

	"byre.dev/byre/internal/guest/guesttest"
	"byre.dev/byre/internal/guestapi"
	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/memfs"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9srv"
)

// shared is a machine with shares of both cache modes, each mounted twice, as
// two machines have it: two connections, one table of locks.
type shared struct {
	*guesttest.Machine
	// asked counts requests for the attribute security.capability.
	asked atomic.Int64
	// walked counts requests for attributes.
	walked atomic.Int64
	// requests counts all.
	requests atomic.Int64
}

// TestSharesOfBothCacheModes runs all its cases in one machine.
func TestSharesOfBothCacheModes(t *testing.T) {
	m := &shared{Machine: guesttest.Boot(t, guesttest.Config{
		Disks: []guesttest.Disk{
			{Path: guesttest.BusyboxDisk(t), ReadOnly: true}, {Path: guesttest.ScratchDisk(t)},
			{Path: guesttest.TestProgramDisk(t, "byre.dev/byre/internal/p9/p9test"), ReadOnly: true},
		},
		Shares: []string{"loose", "loose2", "none", "none2", "polled"},
	})}
	m.Connect()
	if f := m.Greet().Features; !slices.Contains(f, guestapi.FeaturePort9P) {
		t.Fatalf("features %v: the kernel is not ours", f)
	}
	m.Renew()
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	program := diskMount(2)
	program.ReadOnly = true
	mounts := []*guestapi.Mount{program}
	locks := new(p9srv.Locks)
	serve := func(name string, root p9srv.Node) {
		srv := &p9srv.Server{Root: watched{Node: root, asked: &m.asked}, Locks: locks}
		conn := &frames{Conn: m.SharePort(name), typ: p9.TypeTxattrwalk, seen: &m.walked, all: &m.requests}
		wg.Go(func() { srv.Serve(context.WithoutCancel(t.Context()), conn) })
		t.Cleanup(func() { conn.Close() })
	}
	serve("polled", memfs.New().Root())
	for _, cache := range []string{"loose", "none"} {
		root := memfs.New().Root()
		makeFiles(t, root)
		for _, name := range []string{cache, cache + "2"} {
			serve(name, root)
			mounts = append(mounts, shareMount(name, cache))
		}
	}
	if _, err := m.Guest.Mount(m.Context(), &guestapi.MountRequest{Mounts: mounts}); err != nil {
		t.Fatal(err)
	}
	t.Run("a port that is polled serves all the same", func(t *testing.T) { portIsPolled(t, m) })
	for _, cache := range []string{"loose", "none"} {
		t.Run("cache="+cache, func(t *testing.T) {
			t.Run("files without access lists are not asked for them", func(t *testing.T) { listFiles(t, m, cache) })
			t.Run("writing asks for capabilities once", func(t *testing.T) { writeOften(t, m, cache) })
			t.Run("files cost few requests", func(t *testing.T) { countRequests(t, m, cache) })
			t.Run("the contract is kept", func(t *testing.T) { keepContract(t, m, cache) })
		})
	}
}

func shareMount(name, cache string) *guestapi.Mount {
	return &guestapi.Mount{
		Target: guestapi.RuntimeDir + "/shares/" + name,
		Source: &guestapi.Mount_Share{Share: &guestapi.Share{
			Name: name, Transport: guestapi.Share_VIRTIO_PORT, Cache: cache, Msize: 512 << 10, PosixAcl: true,
		}},
	}
}

// portIsPolled has v9fs work over a port that another thread polls.
func portIsPolled(t *testing.T, m *shared) {
	runContract(t, m, "none", "-test.run=Polled", "P9TEST_PORT="+guestapi.SharePortPrefix+"polled")
}

// writeOften writes a file in five hundred pieces and counts what the kernel
// wants to know before each.
func writeOften(t *testing.T, m *shared, cache string) {
	id := "writer-" + cache
	before := m.asked.Load()
	spec := guesttest.Spec("dd", "if=/dev/zero", "of=/here/written", "bs=1k", "count=500")
	spec.Mounts = append(spec.Mounts, bindShare(cache, "/here"))
	p := m.Run(id, spec)
	if code := p.Wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	_, errs := p.Delete()
	asked := m.asked.Load() - before
	t.Logf("asked %d times; %s", asked, errs)
	if asked > 5 {
		t.Errorf("asked for security.capability %d times in 500 writes", asked)
	}
}

// manyFiles is in every share before the guest has it.
const manyFiles = 100

func makeFiles(t *testing.T, root p9srv.Node) {
	t.Helper()
	if _, e := root.Mkdir("many", 0o755, p9srv.Owner{}); e != 0 {
		t.Fatal(e)
	}
	dir, e := root.Walk("many")
	for i := 0; i < manyFiles && e == 0; i++ {
		_, _, e = dir.Create(strconv.Itoa(i), linux.OWronly, 0o644, p9srv.Owner{})
	}
	if e != 0 {
		t.Fatal(e)
	}
}

// listFiles has the guest meet files and counts the attributes it wants.
func listFiles(t *testing.T, m *shared, cache string) {
	id := "lister-" + cache
	m.MountRoot(id)
	spec := guesttest.Spec("ls", "-ln", "/here/many")
	spec.Mounts = append(spec.Mounts, bindShare(cache, "/here"))
	before := m.walked.Load()
	p := m.Run(id, spec)
	if code := p.Wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	out, errs := p.Delete()
	if n := strings.Count(out, "\n"); n < manyFiles {
		t.Errorf("%d lines; %s", n, errs)
	}
	if walked := m.walked.Load() - before; walked > 10 {
		t.Errorf("%d requests for attributes of %d files that have none", walked, manyFiles)
	}
}

// countRequests has a hundred files made, met, read, renamed and removed, and
// compares the requests that each took with what a file may cost.
func countRequests(t *testing.T, m *shared, cache string) {
	const files = 100
	for _, step := range []struct {
		what, here, script string
		loose, none        float64
	}{
		{"create, write and close", "", "mkdir few && cd few && for i in $(seq 100); do echo x > $i; done", 3.3, 4.3},
		{"meet", "2", "cd few && ls -ln $(seq 100)", 1.3, 4.3},
		{"open, read and close", "2", "cd few && cat $(seq 100)", 3.3, 7.3},
		{"rename", "", "mkdir few/moved && cd few && mv $(seq 100) moved", 4.3, 12.3},
		{"look at and remove", "", "cd few/moved && rm -f $(seq 100)", 4.3, 6.3},
		{"make, write, close and remove", "", "cd few && for i in $(seq 100); do echo x > $i; done; rm -f $(seq 100)", 4.3, 9.3},
		{"make a directory", "", "mkdir dirs && cd dirs && mkdir $(seq 100)", 4.3, 5.3},
		{"list a directory", "", "cd dirs && ls -R", 2.3, 8.3},
	} {
		m.requests.Store(0)
		id := "few-" + strings.Fields(step.what)[0][:4] + cache
		m.MountRoot(id)
		spec := guesttest.Spec("sh", "-c", "cd /here && "+step.script)
		spec.Mounts = append(spec.Mounts, bindShare(cache+step.here, "/here"))
		p := m.Run(id, spec)
		if code := p.Wait(); code != 0 {
			t.Errorf("%s: exit code %d", step.what, code)
		}
		_, errs := p.Delete()
		may := step.loose
		if cache == "none" {
			may = step.none
		}
		got := float64(m.requests.Load()) / files
		t.Logf("%s: %.2f requests a file %s", step.what, got, errs)
		if got > may {
			t.Errorf("%s: %.2f requests a file, at most %.1f", step.what, got, may)
		}
	}
}

// frames counts the messages of one type that are read from a connection.
type frames struct {
	net.Conn
	typ       p9.Type
	seen, all *atomic.Int64
	// head holds what was read of the header of the next message, left the
	// bytes that the present one has yet.
	head []byte
	left int
}

func (f *frames) Read(b []byte) (int, error) {
	n, err := f.Conn.Read(b)
	for rest := b[:n]; len(rest) > 0; {
		skip := min(f.left, len(rest))
		rest, f.left = rest[skip:], f.left-skip
		take := min(5-len(f.head), len(rest))
		f.head, rest = append(f.head, rest[:take]...), rest[take:]
		if len(f.head) < 5 {
			break
		}
		f.all.Add(1)
		if p9.Type(f.head[4]) == f.typ {
			f.seen.Add(1)
		}
		f.left = int(binary.LittleEndian.Uint32(f.head)) - 5
		f.head = f.head[:0]
	}
	return n, err
}

func bindShare(name, at string) specs.Mount {
	source := guestapi.RuntimeDir + "/shares/" + name
	return specs.Mount{Destination: at, Type: "bind", Source: source, Options: []string{"rbind"}}
}

// keepContract runs the tests of package p9test. Its suite runs with cache=none
// here and with cache=loose in TestSharesKeepTheContractInAGuest.
func keepContract(t *testing.T, m *shared, cache string) {
	flag := "-test.skip=Polled|LocalFileSystem"
	if cache == "none" {
		// Thousands of files, at several requests each, are too many, and no
		// name is kept.
		flag = "-test.skip=Polled|WarmNames|Keeps/ten_thousand|Keeps/emptied_while|Keeps/hundred_levels"
	}
	runContract(t, m, cache, flag, "P9TEST_UNCACHED=/here/uncached")
}

// runContract runs tests of package p9test in a container that has a share by
// both its mounts.
func runContract(t *testing.T, m *shared, cache, flag, env string) {
	id := "contract-" + cache + flag[len("-test."):len("-test.")+3]
	m.MountRoot(id)
	args := []string{"/prog/test", "-test.timeout=8m", flag}
	if testing.Verbose() {
		args = append(args, "-test.v")
	}
	spec := guesttest.Spec(args...)
	spec.Process.Env = append(spec.Process.Env, "P9TEST_DIR=/here", "P9TEST_OTHER_DIR=/there", "P9TEST_SLOW=1", env)
	spec.Process.Capabilities.Bounding = append(spec.Process.Capabilities.Bounding, "CAP_SYS_ADMIN", "CAP_FSETID", "CAP_SETFCAP")
	spec.Process.Capabilities.Effective = spec.Process.Capabilities.Bounding
	spec.Process.Capabilities.Permitted = spec.Process.Capabilities.Bounding
	spec.Linux.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
	spec.Mounts = append(spec.Mounts, bindShare(cache, "/here"), bindShare(cache+"2", "/there"),
		specs.Mount{Destination: "/prog", Type: "bind", Source: disks + "2", Options: []string{"rbind"}})
	p, err := m.Create(id, spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 9*time.Minute)
	defer cancel()
	r, err := m.Task.Wait(ctx, &taskapi.WaitRequest{ID: id})
	if err != nil {
		t.Fatalf("wait: %v; output so far: %s", err, p.Output())
	}
	out, errs := p.Delete()
	if r.ExitStatus != 0 {
		t.Errorf("exit code %d", r.ExitStatus)
	}
	if r.ExitStatus != 0 || testing.Verbose() {
		t.Logf("%s%s", out, errs)
	}
}

// watched is a tree that counts requests for security.capability. Its files
// named "uncached" have version 0: clients must not cache them.
type watched struct {
	p9srv.Node
	zero  bool
	asked *atomic.Int64
}

func (v watched) Getxattr(name string) ([]byte, linux.Errno) {
	if name == "security.capability" {
		v.asked.Add(1)
	}
	return v.Node.Getxattr(name)
}

func (v watched) QID() p9.QID {
	q := v.Node.QID()
	if v.zero {
		q.Version = 0
	}
	return q
}

func (v watched) Clone() p9srv.Node { return watched{v.Node.Clone(), v.zero, v.asked} }

func (v watched) Walk(name string) (p9srv.Node, linux.Errno) {
	n, e := v.Node.Walk(name)
	if e != 0 {
		return nil, e
	}
	return watched{n, name == "uncached", v.asked}, 0
}

func (v watched) Getattr(mask uint64, a *p9.Attr) linux.Errno {
	e := v.Node.Getattr(mask, a)
	a.QID = v.QID()
	return e
}

func (v watched) Create(name string, flags linux.OpenFlags, mode linux.Mode, o p9srv.Owner) (p9srv.Node, p9srv.File, linux.Errno) {
	n, f, e := v.Node.Create(name, flags, mode, o)
	if e != 0 {
		return nil, nil, e
	}
	return watched{n, name == "uncached", v.asked}, f, 0
}

// bare takes the wrapper off what comes back as an argument.
func bare(n p9srv.Node) p9srv.Node {
	if v, ok := n.(watched); ok {
		return v.Node
	}
	return n
}

func (v watched) Link(target p9srv.Node, name string) linux.Errno {
	return v.Node.Link(bare(target), name)
}

func (v watched) Renameat(oldName string, dir p9srv.Node, newName string, flags uint32) linux.Errno {
	return v.Node.Renameat(oldName, bare(dir), newName, flags)
}

func (v watched) Tmpfile(flags linux.OpenFlags, mode linux.Mode, o p9srv.Owner) (p9srv.Node, p9srv.File, linux.Errno) {
	n, f, e := v.Node.Tmpfile(flags, mode, o)
	if e != 0 {
		return nil, nil, e
	}
	return watched{n, false, v.asked}, f, 0
}

func (v watched) Rename(dir p9srv.Node, name string) linux.Errno {
	return v.Node.Rename(bare(dir), name)
}
