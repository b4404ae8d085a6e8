// SPDX-License-Identifier: Apache-2.0

//go:build linux

package hostfs_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/hostfs"
	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9client"
)

// openFile serves cfg and opens its file "f" for reading and writing.
func openFile(t *testing.T, cfg hostfs.Config) *p9client.FID {
	t.Helper()
	f, err := export(t, cfg).Walk("f")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Open(linux.ORdwr); err != nil {
		t.Fatal(err)
	}
	return f
}

func lockShare(t *testing.T) hostfs.Config {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	return hostfs.Config{Path: dir, LockDir: t.TempDir()}
}

// lockFiles lists the lock directory, but for what tells of writers and mappings.
func lockFiles(t *testing.T, cfg hostfs.Config) (names []string) {
	t.Helper()
	all, err := os.ReadDir(cfg.LockDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if !strings.HasSuffix(e.Name(), ".writers") && !strings.HasSuffix(e.Name(), ".mapped") {
			names = append(names, e.Name())
		}
	}
	return names
}

func lock(t *testing.T, f *p9client.FID, typ uint8, start, length uint64, client string) uint8 {
	t.Helper()
	got, err := f.Lock(p9.Lock{Type: typ, ProcID: 1, Start: start, Length: length, ClientID: client}, 0)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// lockerDir makes this test binary, run again, a server of another process: it
// takes the lock that it is told, says so, and keeps it until its input ends.
const lockerDir = "HOSTFS_LOCKER_DIR"

func TestLocksHoldBetweenProcesses(t *testing.T) {
	if dir := os.Getenv(lockerDir); dir != "" {
		f := openFile(t, hostfs.Config{Path: dir, LockDir: os.Getenv("HOSTFS_LOCKER_LOCKS")})
		got := lock(t, f, p9.LockWrite, 100, 50, os.Getenv("HOSTFS_LOCKER_CLIENT"))
		os.Stdout.WriteString("locked " + string('0'+rune(got)) + "\n")
		os.Stdin.Read(make([]byte, 1))
		return
	}
	for _, c := range []struct{ name, client string }{{"fcntl", "vm"}, {"flock", "vm" + p9.LockClientFlock}} {
		t.Run(c.name, func(t *testing.T) {
			cfg := lockShare(t)
			f := openFile(t, cfg)
			other, in := startLocker(t, cfg, c.client)
			if got := lock(t, f, p9.LockRead, 120, 1, c.client); got != p9.LockBlocked {
				t.Errorf("a range that another process holds: status %d", got)
			}
			if c.name == "fcntl" {
				if got := lock(t, f, p9.LockWrite, 0, 100, c.client); got != p9.LockSuccess {
					t.Errorf("what comes before: status %d", got)
				}
				k, err := f.Getlock(p9.Lock{Type: p9.LockWrite, ProcID: 1, ClientID: "vm"})
				if err != nil || k.Type != p9.LockWrite || k.Start != 100 || k.Length != 50 {
					t.Errorf("Getlock = %+v, %v", k, err)
				}
			}
			// A waiter has it soon after the other server was killed.
			r := new(p9.Rlock)
			p, err := f.Client().Start(&p9.Tlock{
				FID: f.Num(), LType: p9.LockWrite, Start: 100, Length: 50, ProcID: 1, ClientID: c.client, Flags: p9.LockFlagBlock,
			}, r)
			if err != nil {
				t.Fatal(err)
			}
			other.Process.Kill()
			other.Wait()
			in.Close()
			if err := p.Wait(); err != nil || r.Status != p9.LockSuccess {
				t.Errorf("after the kill: status %d, %v", r.Status, err)
			}
			if err := f.Clunk(); err != nil {
				t.Fatal(err)
			}
			if left := lockFiles(t, cfg); len(left) != 0 {
				t.Errorf("lock files are left: %v", left)
			}
		})
	}
}

func startLocker(t *testing.T, cfg hostfs.Config, client string) (*exec.Cmd, interface{ Close() error }) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestLocksHoldBetweenProcesses$")
	cmd.Env = append(os.Environ(), lockerDir+"="+cfg.Path, "HOSTFS_LOCKER_LOCKS="+cfg.LockDir, "HOSTFS_LOCKER_CLIENT="+client)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	said := make([]byte, 9)
	if n, err := out.Read(said); err != nil || string(said[:n]) != "locked 0\n" {
		t.Fatalf("the other server says %q, %v", said[:n], err)
	}
	return cmd, in
}

func TestLocksMeetTheHostsOwnPrograms(t *testing.T) {
	cfg := lockShare(t)
	f := openFile(t, cfg)
	host, err := os.OpenFile(filepath.Join(cfg.Path, "f"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	set := func(typ int16) error {
		return unix.FcntlFlock(host.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: typ, Start: 10, Len: 10})
	}
	if err := set(unix.F_WRLCK); err != nil {
		t.Fatal(err)
	}
	if got := lock(t, f, p9.LockRead, 15, 1, "vm"); got != p9.LockBlocked {
		t.Errorf("a range that the host holds: status %d", got)
	}
	set(unix.F_UNLCK)
	if got := lock(t, f, p9.LockRead, 15, 1, "vm"); got != p9.LockSuccess {
		t.Errorf("status %d", got)
	}
	if err := set(unix.F_WRLCK); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("the host locks what the guest holds: %v", err)
	}
	if err := set(unix.F_RDLCK); err != nil {
		t.Errorf("readers do not share: %v", err)
	}
	set(unix.F_UNLCK)
	if got := lock(t, f, p9.LockWrite, 0, 0, "vm"+p9.LockClientFlock); got != p9.LockSuccess {
		t.Errorf("flock: status %d", got)
	}
	if err := unix.Flock(int(host.Fd()), unix.LOCK_SH|unix.LOCK_NB); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("flock on the host: %v", err)
	}
	// No lock is mandatory.
	if _, err := host.WriteAt([]byte("y"), 15); err != nil {
		t.Errorf("the host cannot write to what is locked: %v", err)
	}
	if err := f.Clunk(); err != nil {
		t.Fatal(err)
	}
	if err := set(unix.F_WRLCK); err != nil {
		t.Errorf("the host's lock after the clunk: %v", err)
	}
}

// What one guest gives up, another of the same process may still hold.
func TestUnlockingLeavesWhatOthersHold(t *testing.T) {
	cfg := lockShare(t)
	f := openFile(t, cfg)
	g, err := f.Client().Attach("", 0)
	if err != nil {
		t.Fatal(err)
	}
	if g, err = g.Walk("f"); err != nil {
		t.Fatal(err)
	}
	if err := g.Open(linux.ORdonly); err != nil {
		t.Fatal(err)
	}
	other := openFile(t, cfg) // has a table of locks of its own
	for _, s := range []struct {
		f             *p9client.FID
		client        string
		typ           uint8
		start, length uint64
		want          uint8
	}{
		{f, "vm" + p9.LockClientOFD, p9.LockRead, 0, 100, p9.LockSuccess},
		{g, "vm" + p9.LockClientOFD, p9.LockRead, 50, 100, p9.LockSuccess},
		{other, "vm", p9.LockWrite, 0, 1, p9.LockBlocked},
		{f, "vm" + p9.LockClientOFD, p9.LockUnlock, 0, 0, p9.LockSuccess},
		{other, "vm", p9.LockWrite, 0, 50, p9.LockSuccess},
		{other, "vm", p9.LockWrite, 50, 1, p9.LockBlocked},
		{other, "vm", p9.LockRead, 60, 500, p9.LockSuccess},
		{g, "vm" + p9.LockClientOFD, p9.LockWrite, 50, 100, p9.LockBlocked}, // an upgrade that fails
		{other, "vm", p9.LockUnlock, 0, 0, p9.LockSuccess},
		{other, "vm", p9.LockWrite, 149, 1, p9.LockBlocked}, // has lost nothing
	} {
		if got := lock(t, s.f, s.typ, s.start, s.length, s.client); got != s.want {
			t.Fatalf("%+v: status %d", s, got)
		}
	}
}

func TestLocksOfFilesThatCannotBeOpenedHoldAsWell(t *testing.T) {
	cfg := lockShare(t)
	a, b := openFile(t, cfg), openFile(t, cfg)
	os.Remove(filepath.Join(cfg.Path, "f")) // known by its handle alone
	if got := lock(t, a, p9.LockWrite, 0, 0, "vm"); got != p9.LockSuccess {
		t.Fatalf("status %d", got)
	}
	start := time.Now()
	if got := lock(t, b, p9.LockWrite, 0, 0, "vm"); got != p9.LockBlocked {
		t.Errorf("status %d", got)
	}
	if d := time.Since(start); d > time.Second {
		t.Errorf("a lock that does not wait takes %v", d)
	}
	names := lockFiles(t, cfg)
	if len(names) != 1 || !strings.HasSuffix(names[0], ".bytes") {
		t.Errorf("lock files %v", names)
	}
}
