// SPDX-License-Identifier: Apache-2.0

package reap_test

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/guest/reap"
)

// The reaper takes the exits of all children of its process: these tests are a
// process of their own, and start no child by other ways.
func reaper(t *testing.T) *reap.Reaper {
	t.Helper()
	r := reap.New()
	var wg sync.WaitGroup
	wg.Go(func() { r.Run(t.Context()) })
	t.Cleanup(wg.Wait) // the context ends before cleanups run
	return r
}

func start(t *testing.T, r *reap.Reaper, script string) (int, <-chan reap.Exit) {
	t.Helper()
	pid, exit, err := r.Start(exec.Command("sh", "-c", script))
	if err != nil {
		t.Fatal(err)
	}
	return pid, exit
}

func await(t *testing.T, exit <-chan reap.Exit) reap.Exit {
	t.Helper()
	select {
	case e := <-exit:
		return e
	case <-time.After(20 * time.Second):
		t.Fatal("the exit is not told")
		return reap.Exit{}
	}
}

func TestExitsReachTheirOwners(t *testing.T) {
	r := reaper(t)
	for script, code := range map[string]int{"exit 0": 0, "exit 7": 7, "kill -9 $$": 137, "kill -TERM $$": 143} {
		_, exit := start(t, r, script)
		if e := await(t, exit); e.Code != code || time.Since(e.At) > time.Minute {
			t.Errorf("%s: %+v, want code %d", script, e, code)
		}
	}
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			cmd := exec.Command("sh", "-c", "exit "+strconv.Itoa(i))
			_, exit, err := r.Start(cmd)
			if err != nil {
				t.Error(err)
				return
			}
			if e := await(t, exit); e.Code != i {
				t.Errorf("process %d has code %d", i, e.Code)
			}
		})
	}
	wg.Wait()
}

func TestSignalsReachOnlyWhatWasNotReaped(t *testing.T) {
	r := reaper(t)
	pid, exit := start(t, r, "exec sleep 100")
	if err := r.Signal(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if e := await(t, exit); e.Code != 137 {
		t.Errorf("%+v", e)
	}
	if err := r.Signal(pid, unix.SIGKILL); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("signal to a process that was reaped: %v", err)
	}
	if err := r.Signal(os.Getpid(), 0); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("signal to a process that is nobody's child: %v", err)
	}
}

func TestAnExitBeforeItsWatchIsKeptDuringAHold(t *testing.T) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	defer unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
	r := reaper(t)
	release := r.Hold()
	defer release()
	// The grandchild becomes ours when its parent ends, and ends at once.
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command("sh", "-c", "(sh -c 'echo $$; sleep 0.2; exit 5' &)")
	cmd.Stdout = in
	_, exit, err := r.Start(cmd)
	if err := errors.Join(err, in.Close()); err != nil {
		t.Fatal(err)
	}
	await(t, exit)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); unix.Kill(pid, 0) == nil && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if e := await(t, r.Watch(pid)); e.Code != 5 || e.Pid != pid {
		t.Errorf("%+v, want code 5 of %d", e, pid)
	}
}

func TestStreamsThatAreNoFilesAreRefused(t *testing.T) {
	r := reap.New()
	cmd := exec.Command("true")
	cmd.Stdout = new(bytes.Buffer)
	if _, _, err := r.Start(cmd); err == nil || cmd.Process != nil {
		t.Errorf("err = %v: os/exec would wait for the child itself", err)
	}
	if _, _, err := r.Start(exec.Command("/no/such/program")); err == nil {
		t.Error("a program that is not there started")
	}
}
