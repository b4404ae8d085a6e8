// SPDX-License-Identifier: Apache-2.0

//go:build linux

package p9test_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The tests of this file say what locks do on a local file system, and run on
// one. In a guest P9TEST_DIR is a share; P9TEST_OTHER_DIR is the same directory
// mounted once more, as another machine has it.

// lockDirs returns a new directory by its path on both mounts.
func lockDirs(t *testing.T) (here, there string) {
	t.Helper()
	base, other := os.Getenv("P9TEST_DIR"), os.Getenv("P9TEST_OTHER_DIR")
	if base == "" {
		base = t.TempDir()
	}
	if other == "" {
		other = base
	}
	here, err := os.MkdirTemp(base, "lock")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(here) })
	return here, filepath.Join(other, filepath.Base(here))
}

// pair is two partners that have one file open under the name f.
func pair(t *testing.T, pathA, pathB string) (a, b *partner) {
	t.Helper()
	a, b = newPartner(t), newPartner(t)
	a.must("open", "f", pathA)
	b.must("open", "f", pathB)
	return a, b
}

// handOver has one process wait for what the other holds, in turns, and returns
// how long each waited for what was free, the quickest first.
func handOver(t *testing.T, a, b *partner, kind string, hold time.Duration) []time.Duration {
	t.Helper()
	a.must(kind, "f", "wait", "write", 0, 0)
	var took []time.Duration
	for range 7 {
		b.tell(kind, "f", "wait", "write", 0, 0)
		time.Sleep(hold)
		begin := time.Now()
		a.must(kind, "f", "wait", "unlock", 0, 0)
		if e := b.answer(); e != "" {
			t.Fatalf("waiting for a lock: %s", e)
		}
		took = append(took, time.Since(begin))
		a, b = b, a
	}
	a.must(kind, "f", "wait", "unlock", 0, 0)
	slices.Sort(took)
	t.Logf("%s: %v", kind, took)
	return took
}

func TestALockIsHandedOverWithinMilliseconds(t *testing.T) {
	here, _ := lockDirs(t)
	for _, kind := range []string{"fcntl", "flock", "ofd"} {
		a, b := pair(t, here+"/f", here+"/f")
		took := handOver(t, a, b, kind, 50*time.Millisecond)
		if d := took[len(took)/2]; d > 100*time.Millisecond {
			t.Errorf("%s: handed over after %v", kind, d)
		}
		// One that came too early and sleeps for locktimeout took a second.
		if d := took[len(took)-1]; d > 900*time.Millisecond {
			t.Errorf("%s: handed over after %v once", kind, d)
		}
	}
}

func TestALockIsHandedToAnotherMachineInAQuarterOfTheWait(t *testing.T) {
	here, there := lockDirs(t)
	for _, kind := range []string{"fcntl", "flock", "ofd"} {
		a, b := pair(t, here+"/f", there+"/f")
		const hold = 200 * time.Millisecond
		took := handOver(t, a, b, kind, hold)
		if d := took[len(took)/2]; d > hold/4+100*time.Millisecond {
			t.Errorf("%s: handed over after %v", kind, d)
		}
	}
}

func TestTimesReachTheServerWhole(t *testing.T) {
	here, there := lockDirs(t)
	if err := os.WriteFile(here+"/f", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	want := []unix.Timespec{{Sec: -100, Nsec: 123456789}, {Sec: 1 << 33, Nsec: 999999999}}
	if err := unix.UtimesNano(here+"/f", want); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{here, there} {
		var st unix.Stat_t
		if err := unix.Stat(dir+"/f", &st); err != nil {
			t.Fatal(err)
		}
		if got := []unix.Timespec{st.Atim, st.Mtim}; !slices.Equal(got, want) {
			t.Errorf("times are %v, want %v", got, want)
		}
	}
}

func TestFlockAndFcntlDoNotConflict(t *testing.T) {
	here, there := lockDirs(t)
	for name, dir := range map[string]string{"f": here, "g": there} {
		a, b := pair(t, here+"/"+name, dir+"/"+name)
		a.must("flock", "f", "try", "write")
		a.must("fcntl", "f", "try", "write", 0, 0)
		for _, kind := range []string{"flock", "fcntl", "ofd"} {
			if e := b.do(kind, "f", "try", "read", 0, 0); e != "EAGAIN" {
				t.Errorf("%s against both: %q", kind, e)
			}
		}
		a.must("flock", "f", "try", "unlock")
		b.must("flock", "f", "try", "write")
		if e := b.do("fcntl", "f", "try", "write", 0, 0); e != "EAGAIN" {
			t.Errorf("unlocking by flock gave up fcntl's lock: %q", e)
		}
		a.must("fcntl", "f", "try", "unlock", 0, 0)
		b.must("fcntl", "f", "try", "write", 0, 0)
	}
}

func TestAnOpenFileOwnsItsFlock(t *testing.T) {
	here, there := lockDirs(t)
	a, b := pair(t, here+"/f", there+"/f")
	a.must("open", "g", here+"/f")
	a.must("flock", "f", "try", "write")
	if e := a.do("flock", "g", "try", "write"); e != "EAGAIN" {
		t.Errorf("a second open file of one process: %q", e)
	}
	a.must("close", "g") // which gives up nothing of f
	if e := b.do("flock", "f", "try", "read"); e != "EAGAIN" {
		t.Errorf("after another open file was closed: %q", e)
	}
	a.must("close", "f")
	b.must("flock", "f", "try", "write")
}

func TestAnOpenFileOwnsItsOFDLocks(t *testing.T) {
	here, there := lockDirs(t)
	a, b := pair(t, here+"/f", there+"/f")
	a.must("open", "g", here+"/f")
	a.must("ofd", "f", "try", "write", 0, 10)
	a.must("ofd", "g", "try", "write", 10, 10)
	for _, name := range []string{"f", "g"} {
		if e := a.do("ofd", name, "try", "write", 5, 10); e != "EAGAIN" {
			t.Errorf("over the other file's lock through %s: %q", name, e)
		}
		if e := a.do("fcntl", name, "try", "write", 5, 10); e != "EAGAIN" {
			t.Errorf("the process itself through %s: %q", name, e)
		}
	}
	if e := b.do("fcntl", "f", "try", "read", 15, 1); e != "EAGAIN" {
		t.Errorf("another process: %q", e)
	}
	if e := b.do("asked", "f"); e != "type 1" {
		t.Errorf("F_GETLK says %s, want F_WRLCK", e)
	}
	a.must("close", "g")
	b.must("fcntl", "f", "try", "write", 10, 0)
}

func TestAFailedUpgradeKeepsTheOldLock(t *testing.T) {
	here, there := lockDirs(t)
	for name, dir := range map[string]string{"f": here, "g": there} {
		a, b := pair(t, here+"/"+name, dir+"/"+name)
		a.must("fcntl", "f", "try", "read", 0, 10)
		b.must("fcntl", "f", "try", "read", 0, 10)
		if e := a.do("fcntl", "f", "try", "write", 0, 10); e != "EAGAIN" {
			t.Fatalf("upgrade beside another reader: %q", e)
		}
		if e := b.do("fcntl", "f", "try", "write", 0, 10); e != "EAGAIN" {
			t.Errorf("the reader whose upgrade failed is no obstacle: %q", e)
		}
		a.must("open", "again", here+"/"+name)
		a.must("close", "again") // gives up all of the process's, so it must know of some
		b.must("fcntl", "f", "try", "write", 0, 10)
	}
}

func TestAFailedChangeOfAFlockLosesIt(t *testing.T) {
	here, there := lockDirs(t)
	for name, dir := range map[string]string{"f": here, "g": there} {
		a, b := pair(t, here+"/"+name, dir+"/"+name)
		a.must("flock", "f", "try", "read")
		b.must("flock", "f", "try", "read")
		if e := a.do("flock", "f", "try", "write"); e != "EAGAIN" {
			t.Fatalf("upgrade beside another reader: %q", e)
		}
		b.must("flock", "f", "try", "write")
	}
}

func TestGETLKAsksForWhatItWasAsked(t *testing.T) {
	here, there := lockDirs(t)
	a, b := pair(t, here+"/f", there+"/f")
	a.must("fcntl", "f", "try", "read", 0, 10)
	fd, err := unix.Open(there+"/f", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	l := unix.Flock_t{Type: unix.F_RDLCK, Len: 20}
	if err := unix.FcntlFlock(uintptr(fd), unix.F_GETLK, &l); err != nil || l.Type != unix.F_UNLCK {
		t.Errorf("a read lock beside a read lock: type %d, %v", l.Type, err)
	}
	if e := b.do("asked", "f"); e != "type 0" {
		t.Errorf("a write lock against a read lock: %s, want F_RDLCK", e)
	}
}

func TestASignalDoesNotFailTheWaitForALock(t *testing.T) {
	here, there := lockDirs(t)
	a, b := pair(t, here+"/f", there+"/f")
	for _, kind := range []string{"fcntl", "flock", "ofd"} {
		a.must(kind, "f", "try", "write", 0, 0)
		b.tell(kind, "f", "wait", "write", 0, 0)
		for range 3 {
			time.Sleep(50 * time.Millisecond)
			b.signal(unix.SIGURG) // whose handler does nothing; the call goes on
		}
		a.must(kind, "f", "try", "unlock", 0, 0)
		if e := b.answer(); e != "" {
			t.Errorf("%s: the wait ended with %s", kind, e)
		}
		b.must(kind, "f", "try", "unlock", 0, 0)
	}
}

func TestAKilledOwnersLocksAreFree(t *testing.T) {
	here, there := lockDirs(t)
	for _, kind := range []string{"fcntl", "flock", "ofd"} {
		a, b := pair(t, here+"/f", there+"/f")
		c := newPartner(t)
		c.must("open", "f", here+"/f")
		a.must(kind, "f", "try", "write", 0, 0)
		c.tell(kind, "f", "wait", "write", 0, 0)
		time.Sleep(50 * time.Millisecond)
		c.kill() // while it waits
		a.kill()
		b.must(kind, "f", "wait", "write", 0, 0)
		b.must(kind, "f", "try", "unlock", 0, 0)
	}
}

func TestTwoWhoWaitForEachOtherAreToldSo(t *testing.T) {
	here, _ := lockDirs(t)
	a, b := pair(t, here+"/f", here+"/f")
	a.must("fcntl", "f", "try", "write", 0, 1)
	b.must("fcntl", "f", "try", "write", 1, 1)
	a.tell("fcntl", "f", "wait", "write", 1, 1)
	time.Sleep(100 * time.Millisecond)
	if e := b.do("fcntl", "f", "wait", "write", 0, 1); e != "EDEADLK" {
		t.Errorf("the second to wait: %q, want EDEADLK", e)
	}
	b.must("fcntl", "f", "try", "unlock", 0, 0)
	if e := a.answer(); e != "" {
		t.Errorf("the first to wait: %s", e)
	}
}

func TestWhatWasWrittenUnderALockIsReadUnderTheNext(t *testing.T) {
	here, there := lockDirs(t)
	a, b := pair(t, here+"/f", there+"/f")
	const piece = 10000
	for i := range 4 {
		a.must("fcntl", "f", "wait", "write", 0, 0)
		a.must("append", "f", piece)
		a.must("fcntl", "f", "wait", "unlock", 0, 0)
		b.must("fcntl", "f", "wait", "read", 0, 0)
		b.must("holds", "f", (i+1)*piece)
		b.must("fcntl", "f", "wait", "unlock", 0, 0)
		a, b = b, a
	}
}
