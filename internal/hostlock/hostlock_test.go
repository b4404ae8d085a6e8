// SPDX-License-Identifier: Apache-2.0

package hostlock_test

import (
	"bufio"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"byre.dev/byre/internal/hostlock"
)

func open(t *testing.T, path string) *hostlock.File {
	t.Helper()
	f, err := hostlock.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func lockPath(t *testing.T) string { return filepath.Join(t.TempDir(), "locks") }

func TestReadersShareARangeAndAWriterHasItAlone(t *testing.T) {
	path := lockPath(t)
	a, b := open(t, path), open(t, path)
	for _, s := range []struct {
		f     *hostlock.File
		write bool
		want  error
	}{
		{a, false, nil},
		{b, false, nil},
		{a, true, hostlock.ErrHeld},
	} {
		if err := s.f.Set(s.write, 10, 19); !errors.Is(err, s.want) {
			t.Fatalf("write %v: %v, want %v", s.write, err, s.want)
		}
	}
	if err := b.Clear(0, math.MaxUint64); err != nil {
		t.Fatal(err)
	}
	if err := a.Set(true, 0, math.MaxUint64); err != nil {
		t.Errorf("the only reader cannot write: %v", err)
	}
	if err := b.Set(false, 1<<40, 1<<40); !errors.Is(err, hostlock.ErrHeld) {
		t.Errorf("what another has locked to the end: %v", err)
	}
	if r, ok := b.Find(false, 5, math.MaxUint64); !ok || !r.Write || r.End != math.MaxUint64 {
		t.Errorf("Find = %+v, %v", r, ok)
	}
}

// model is what each of several Files has locked of the first bytes: 0 is
// nothing, 1 read, 2 written.
type model [3][40]int

// inTheWay says whether byte i cannot be locked by f.
func (m *model) inTheWay(f int, write bool, i uint64) bool {
	for g := range m {
		if g != f && (m[g][i] == 2 || write && m[g][i] != 0) {
			return true
		}
	}
	return false
}

func TestLocksAreThoseOfAModel(t *testing.T) {
	path := lockPath(t)
	var m model
	var files [len(m)]*hostlock.File
	for i := range files {
		files[i] = open(t, path)
	}
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	for step := range 20000 {
		f, write := r.IntN(len(m)), r.IntN(2) == 0
		start := r.Uint64N(uint64(len(m[0])))
		end := min(start+r.Uint64N(12), uint64(len(m[0])-1))
		held := false
		for i := start; i <= end; i++ {
			held = held || m.inTheWay(f, write, i)
		}
		switch r.IntN(3) {
		case 0:
			err := files[f].Set(write, start, end)
			if held != errors.Is(err, hostlock.ErrHeld) || !held && err != nil {
				t.Fatalf("step %d: %d locks %d-%d, write %v: %v, in the way %v", step, f, start, end, write, err, held)
			}
			kind := 1
			if write {
				kind = 2
			}
			if held { // any state, says the contract
				kind = 0
				if err := files[f].Clear(start, end); err != nil {
					t.Fatal(err)
				}
			}
			for i := start; i <= end; i++ {
				m[f][i] = kind
			}
		case 1:
			if err := files[f].Clear(start, end); err != nil {
				t.Fatal(err)
			}
			for i := start; i <= end; i++ {
				m[f][i] = 0
			}
		case 2:
			k, found := files[f].Find(write, start, end)
			if found != held {
				t.Fatalf("step %d: %d looks at %d-%d, write %v: %v, in the way %v", step, f, start, end, write, found, held)
			}
			if found && (k.Start > end || k.End < start || !m.inTheWay(f, write, max(k.Start, start))) {
				t.Fatalf("step %d: %d looks at %d-%d, write %v: finds %+v", step, f, start, end, write, k)
			}
		}
	}
}

func TestALockFileGoesWithItsLastUser(t *testing.T) {
	path := lockPath(t)
	a, b := open(t, path), open(t, path)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("gone while it is used: %v", err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}
}

// The file is made and removed all the time, and two must never have different
// ones.
func TestLocksHoldWhileTheirFileComesAndGoes(t *testing.T) {
	path := lockPath(t)
	var inside, entered atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 200 {
				f, err := hostlock.Open(path)
				if err != nil {
					t.Error(err)
					return
				}
				if f.Set(true, 0, 0) == nil {
					if inside.Add(1) != 1 {
						t.Error("two have locked one range for writing")
					}
					entered.Add(1)
					inside.Add(-1)
				}
				if err := f.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if entered.Load() == 0 {
		t.Error("nobody ever had the lock")
	}
}

// holderPath makes this test binary, run again, a process that locks a range
// until it is killed.
const holderPath = "HOSTLOCK_HOLDER"

func TestMain(m *testing.M) {
	path := os.Getenv(holderPath)
	if path == "" {
		os.Exit(m.Run())
	}
	f, err := hostlock.Open(path)
	if err == nil {
		err = f.Set(true, 100, 149)
	}
	if err != nil {
		io.WriteString(os.Stdout, err.Error()+"\n")
		os.Exit(1)
	}
	io.WriteString(os.Stdout, "locked\n")
	time.Sleep(time.Minute)
}

func TestWhatAKilledProcessHadLockedIsGivenUp(t *testing.T) {
	path := lockPath(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), holderPath+"="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	if said, err := bufio.NewReader(out).ReadString('\n'); said != "locked\n" {
		t.Fatalf("the other process says %q, %v", said, err)
	}
	f := open(t, path)
	if err := f.Set(false, 120, 120); !errors.Is(err, hostlock.ErrHeld) {
		t.Errorf("what another process has locked: %v", err)
	}
	if r, ok := f.Find(false, 0, 500); !ok || r.Start != 100 || !r.Write {
		t.Errorf("Find = %+v, %v", r, ok)
	}
	if err := f.Set(true, 150, 500); err != nil {
		t.Errorf("what comes after it: %v", err)
	}
	cmd.Process.Kill()
	deadline := time.Now().Add(10 * time.Second)
	for f.Set(true, 0, 500) != nil {
		if time.Now().After(deadline) {
			t.Fatal("the lock of a killed process is still there")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestALockFileThatCannotBeHadIsAnError(t *testing.T) {
	if _, err := hostlock.Open(filepath.Join(t.TempDir(), "no", "locks")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}
