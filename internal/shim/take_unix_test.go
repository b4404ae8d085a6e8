// SPDX-License-Identifier: Apache-2.0

//go:build unix

package shim

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"byre.dev/byre/internal/shimapi"
)

// spareMode makes the test binary play a spare shim: "serve" is the real one
// without its machine, the others fail in a way of their own.
const spareMode = "SHIM_TEST_SPARE"

func TestMain(m *testing.M) {
	if mode := os.Getenv(spareMode); mode != "" {
		os.Exit(playSpare(mode))
	}
	os.Exit(m.Run())
}

func playSpare(mode string) int {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: os.Args[1], Net: "unix"})
	if err != nil {
		return 1
	}
	fmt.Println("ready")
	if mode != "serve" {
		return playBad(mode, l)
	}
	s := &spareShim{
		call: &call{}, log: slog.New(slog.DiscardHandler), output: &logOutput{w: io.Discard}, level: &slog.LevelVar{},
		identity: "this", l: l, stale: make(chan struct{}),
	}
	taken := make(chan *taker, 1)
	go func() { // ends with the process
		<-s.stale
		l.Close()
	}()
	s.accept(taken)
	_ = os.Remove(os.Args[1])
	_ = l.Close()
	select {
	case t := <-taken:
		fmt.Println("taken", t.call.id, t.call.bundle)
		conn, err := t.l.Accept() // as the bundle's shim
		if err != nil {
			return 1
		}
		io.WriteString(conn, "served")
		conn.Close()
	default:
		fmt.Println("stale")
	}
	return 0
}

// playBad answers a request and then does not serve.
func playBad(mode string, l *net.UnixListener) int {
	conn, err := l.AcceptUnix()
	if err != nil {
		return 1
	}
	conn.ReadMsgUnix(make([]byte, 1), make([]byte, 128))
	d := json.NewDecoder(conn)
	var r takeRequest
	d.Decode(&r)
	if mode == "dies" {
		return 0
	}
	json.NewEncoder(conn).Encode(takeAnswer{PID: os.Getpid()})
	var goAhead bool
	d.Decode(&goAhead)
	if mode == "dies late" {
		return 0
	}
	time.Sleep(time.Hour)
	return 0
}

// spareProcess starts a spare shim in dir and returns its process and what it
// says next.
func spareProcess(t *testing.T, dir, name, mode string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], filepath.Join(dir, name))
	cmd.Env = append(os.Environ(), spareMode+"="+mode)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); line != "ready\n" {
		t.Fatalf("spare shim says %q, %v", line, err)
	}
	return cmd, lines
}

// taking is a bundle whose shim is to be found, with its socket.
func taking(t *testing.T, dir, id string) (*call, *os.File, string) {
	t.Helper()
	bundle := t.TempDir()
	path := filepath.Join(dir, id+".sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = f.Close()
		_ = l.Close()
	})
	return &call{id: id, bundle: bundle, namespace: "test"}, f, path
}

func (c *call) request(identity string) takeRequest {
	return takeRequest{Identity: identity, ID: c.id, Bundle: c.bundle, Namespace: c.namespace, Began: time.Now().UnixNano()}
}

func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "byre-take.")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestOneOfManyStartsGetsTheSpareShim(t *testing.T) {
	dir := shortDir(t)
	_, says := spareProcess(t, dir, "spare-1", "serve")
	const starts = 5
	var wg sync.WaitGroup
	won := make(chan string, starts)
	for i := range starts {
		c, f, path := taking(t, dir, fmt.Sprint("box", i))
		wg.Go(func() {
			if _, err := c.take(filepath.Join(dir, "spare-1"), c.request("this"), f); err == nil {
				won <- c.id + " " + c.bundle + " " + path
			}
		})
	}
	wg.Wait()
	if len(won) != 1 {
		t.Fatalf("%d of %d starts have the spare shim", len(won), starts)
	}
	winner := strings.Fields(<-won)
	if line, _ := says.ReadString('\n'); line != "taken "+winner[0]+" "+winner[1]+"\n" {
		t.Errorf("spare shim says %q, %v has it", line, winner)
	}
	if _, err := os.Stat(filepath.Join(winner[1], lockFile)); err != nil {
		t.Errorf("bundle is not marked: %v", err)
	}
	conn, err := net.Dial("unix", winner[2])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if b, err := io.ReadAll(conn); string(b) != "served" {
		t.Errorf("the bundle's socket says %q, %v", b, err)
	}
}

func TestASpareShimOfAnotherBuildIsNotTakenAndEnds(t *testing.T) {
	dir := shortDir(t)
	cmd, says := spareProcess(t, dir, "spare-1", "serve")
	c, f, _ := taking(t, dir, "box")
	if pid, err := c.take(filepath.Join(dir, "spare-1"), c.request("that"), f); err == nil {
		t.Errorf("process %d was taken", pid)
	}
	if line, _ := says.ReadString('\n'); line != "stale\n" {
		t.Errorf("spare shim says %q", line)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestALookAtASpareShimLeavesItFree(t *testing.T) {
	dir := shortDir(t)
	spareProcess(t, dir, "spare-1", "serve")
	conn, err := net.Dial("unix", filepath.Join(dir, "spare-1"))
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	c, f, _ := taking(t, dir, "box")
	if _, err := c.take(filepath.Join(dir, "spare-1"), c.request("this"), f); err != nil {
		t.Error(err)
	}
}

func TestASpareShimThatDiesWhileItIsTakenIsNot(t *testing.T) {
	for _, mode := range []string{"dies", "dies late"} {
		dir := shortDir(t)
		spareProcess(t, dir, "spare-1", mode)
		c, f, _ := taking(t, dir, "box")
		if pid, err := c.take(filepath.Join(dir, "spare-1"), c.request("this"), f); err == nil {
			t.Errorf("%s: process %d was taken", mode, pid)
		}
	}
}

func TestASpareShimThatHangsIsKilledAndNotTaken(t *testing.T) {
	dir := shortDir(t)
	cmd, _ := spareProcess(t, dir, "spare-1", "hangs")
	c, f, _ := taking(t, dir, "box")
	if pid, err := c.take(filepath.Join(dir, "spare-1"), c.request("this"), f); err == nil {
		t.Errorf("process %d was taken", pid)
	}
	_ = cmd.Wait()
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		t.Errorf("the spare shim ended with %v", cmd.ProcessState)
	}
}

func TestAMachineOfAnotherSizeIsNoSpareOne(t *testing.T) {
	if !standard(shimapi.Settings{}) {
		t.Error("a container that asks for nothing takes no spare machine")
	}
	for _, s := range []shimapi.Settings{{CPUs: 1}, {MaxMemory: 1 << 30}} {
		if standard(s) {
			t.Errorf("%+v takes a spare machine", s)
		}
	}
}
