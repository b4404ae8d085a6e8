// SPDX-License-Identifier: Apache-2.0

package initproc_test

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/guest/initproc"
)

// TestMain makes this program an init when it is asked to.
func TestMain(m *testing.M) {
	if os.Getenv("INITPROC") != "" {
		// Orphans come to it as to PID 1.
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			panic(err)
		}
		os.Exit(initproc.Main(os.Args[1:]))
	}
	os.Exit(m.Run())
}

func initCommand(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "INITPROC=1")
	return cmd
}

func exitCode(t *testing.T, err error) int {
	t.Helper()
	if err == nil {
		return 0
	}
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		t.Fatal(err)
	}
	return exit.ExitCode()
}

func TestInitEndsAsItsCommandDoes(t *testing.T) {
	for _, c := range []struct {
		args []string
		want int
	}{
		{[]string{"--", "sh", "-c", "exit 7"}, 7},
		{[]string{"true"}, 0},
		{[]string{"--", "sh", "-c", "kill -9 $$"}, 137},
		{[]string{"--", "no-such-program"}, 127},
		{[]string{"--", "/dev/null"}, 126},
		{[]string{"--"}, 126},
	} {
		if got := exitCode(t, initCommand(t, c.args...).Run()); got != c.want {
			t.Errorf("%q: %d, want %d", c.args, got, c.want)
		}
	}
}

func TestInitHandsSignalsOn(t *testing.T) {
	for sig, name := range map[syscall.Signal]string{unix.SIGTERM: "TERM", unix.SIGHUP: "HUP", unix.SIGUSR1: "USR1", unix.SIGINT: "INT"} {
		cmd := initCommand(t, "--", "sh", "-c", "trap 'exit 42' "+name+"; echo ready; while :; do sleep 0.01; done")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		if got := exitCode(t, cmd.Wait()); got != 42 {
			t.Errorf("%s: exit code %d, want that of the command's trap", name, got)
		}
	}
}

func TestInitReapsOrphans(t *testing.T) {
	// The subshell's child is orphaned at once and ends before the command.
	cmd := initCommand(t, "--", "sh", "-c", "(sleep 0.1 & echo $!); sleep 0.5; exec 3>&1; echo done; read x")
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
	lines := bufio.NewReader(out)
	orphan, err := lines.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lines.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		_, err := os.Stat("/proc/" + strings.TrimSpace(orphan))
		if os.IsNotExist(err) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("orphan %s is still there", strings.TrimSpace(orphan))
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	_ = exitCode(t, cmd.Wait())
}
