// SPDX-License-Identifier: Apache-2.0

//go:build unix

package spare

import (
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"byre.dev/byre/internal/shimapi"
)

// shimMode makes the test binary play a shim of the kind named.
const shimMode = "SPARE_TEST_SHIM"

func TestMain(m *testing.M) {
	switch mode := os.Getenv(shimMode); {
	case mode == "":
		os.Exit(m.Run())
	case os.Args[len(os.Args)-1] == "spare":
		os.Exit(spawnFake(mode))
	default:
		os.Exit(fake(mode))
	}
}

// spawnFake is the first of the two processes: it starts the second and ends.
func spawnFake(mode string) int {
	cmd := exec.Command(os.Args[0], "rehearse")
	cmd.ExtraFiles = []*os.File{os.NewFile(3, "owner")}
	if cmd.Start() != nil {
		return 1
	}
	if mode == "slow" {
		time.Sleep(3 * testQuiet)
	}
	return 0
}

// fake notes that it lives in the directory it was started in and stays until
// its owner is gone.
func fake(mode string) int {
	conn, err := net.FileConn(os.NewFile(3, "owner"))
	if err != nil {
		return 1
	}
	f, err := os.CreateTemp(".", "alive-")
	if err != nil {
		return 1
	}
	io.WriteString(conn, shimapi.SpareWarm)
	switch mode {
	case "take":
		io.WriteString(conn, shimapi.SpareTaken)
		conn.Close()
	case "needless":
		io.WriteString(conn, shimapi.SpareNeedless)
	case "die":
	default:
		io.Copy(io.Discard, conn)
		os.Remove(f.Name())
	}
	return 0
}

const (
	testQuiet = 150 * time.Millisecond
	// endWaitOfTests is less than a keeper waits for a shim that does not end.
	endWaitOfTests = 8 * time.Second
)

func newKeeper(t *testing.T, mode string, count Count) (*Keeper, string) {
	t.Helper()
	t.Setenv(shimMode, mode)
	dir := filepath.Join(t.TempDir(), "spares")
	k, err := New(Config{
		Program: os.Args[0], Namespace: "test", Dir: dir, Sockets: dir, Spec: &specs.Spec{},
		Count: count, Quiet: testQuiet,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return k, dir
}

func alive(t *testing.T, dir string) int {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "alive-*"))
	if err != nil {
		t.Fatal(err)
	}
	return len(found)
}

// await waits until so many shims have been started in dir.
func await(t *testing.T, dir string, want int) {
	t.Helper()
	for range 1000 {
		if alive(t, dir) == want {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%d spare shims, want %d", alive(t, dir), want)
}

func TestNoMachineIsMadeBeforeAContainerWasStarted(t *testing.T) {
	_, dir := newKeeper(t, "stay", 1)
	time.Sleep(3 * testQuiet)
	if n := alive(t, dir); n != 0 {
		t.Errorf("%d spare shims", n)
	}
}

func TestMachinesAreMadeOnceItIsQuiet(t *testing.T) {
	k, dir := newKeeper(t, "stay", 2)
	first := k.Starting()
	k.Starting()()
	time.Sleep(3 * testQuiet)
	if n := alive(t, dir); n != 0 {
		t.Errorf("%d spare shims while a container is being started", n)
	}
	first()
	await(t, dir, 2)
	k.Starting()()
	time.Sleep(3 * testQuiet)
	if n := alive(t, dir); n != 2 {
		t.Errorf("%d spare shims, want no more than 2", n)
	}
}

func TestAMachineThatWasTakenIsReplaced(t *testing.T) {
	k, dir := newKeeper(t, "take", 1)
	k.Starting()()
	await(t, dir, 2)
}

func TestAMachineThatEndsIsNotReplacedWithoutAStart(t *testing.T) {
	k, dir := newKeeper(t, "die", 1)
	k.Starting()()
	await(t, dir, 1)
	time.Sleep(5 * testQuiet)
	if n := alive(t, dir); n != 1 {
		t.Errorf("%d spare shims were made, want the one", n)
	}
}

func TestAHostThatGainsNothingKeepsNone(t *testing.T) {
	k, dir := newKeeper(t, "needless", Auto)
	k.Starting()()
	await(t, dir, 1)
	for range 3 {
		k.Starting()()
		time.Sleep(2 * testQuiet)
	}
	if n := alive(t, dir); n != 1 {
		t.Errorf("%d spare shims were made, want the first alone", n)
	}
}

func TestClosingEndsTheShimsAndLeavesNothing(t *testing.T) {
	k, dir := newKeeper(t, "stay", 1)
	k.Starting()()
	await(t, dir, 1)
	if err := k.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("directory after the end: %v", err)
	}
	if err := k.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
	k.Starting()() // and nothing comes of it
}

func TestClosingEndsAShimThatIsBeingStarted(t *testing.T) {
	k, dir := newKeeper(t, "slow", 1)
	k.Starting()()
	await(t, dir, 1) // the shim lives, its starter does too
	begin := time.Now()
	if err := k.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took > endWaitOfTests {
		t.Errorf("closing took %v", took)
	}
}

func TestWhatAKilledDaemonLeftIsRemoved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spares")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	stale := filepath.Join(dir, "spare-1-1"+shimapi.SpareSuffix)
	if err := os.WriteFile(stale, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	k, err := New(Config{Program: "/nowhere", Dir: dir, Sockets: dir, Spec: &specs.Spec{}, Count: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	if _, err := os.Stat(stale); !os.IsNotExist(err) {
		t.Errorf("stale status: %v", err)
	}
}

func TestCountsAreRefusedByName(t *testing.T) {
	for value, want := range map[string]Count{"": Auto, "auto": Auto, "0": 0, "1": 1, "8": 8} {
		if got, err := ParseCount(value); got != want || err != nil {
			t.Errorf("%q: %v, %v; want %v", value, got, err, want)
		}
	}
	for _, value := range []string{"-1", "9", "many", "1.5", " 1"} {
		if _, err := ParseCount(value); err == nil || !strings.Contains(err.Error(), Env) {
			t.Errorf("%q: %v", value, err)
		}
	}
}
