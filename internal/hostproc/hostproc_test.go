// SPDX-License-Identifier: Apache-2.0

//go:build unix

package hostproc_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"byre.dev/byre/internal/hostproc"
)

// ownerEnv makes the test binary start a tied child, print its number and
// wait to be killed.
const ownerEnv = "HOSTPROC_TEST_OWNER"

func TestMain(m *testing.M) {
	if os.Getenv(ownerEnv) != "" {
		p, err := hostproc.Start(exec.Command("sleep", "1000"))
		if err != nil {
			os.Exit(1)
		}
		fmt.Println(p.PID())
		select {}
	}
	os.Exit(m.Run())
}

func TestChildDiesWithItsKilledOwner(t *testing.T) {
	owner := exec.CommandContext(t.Context(), os.Args[0])
	owner.Env = append(os.Environ(), ownerEnv+"=1")
	out, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	_ = owner.Process.Kill()
	_ = owner.Wait()
	for range 500 {
		if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("child %d outlives its owner", pid)
}

func TestChildOutlivesTheGoroutineThatStartedIt(t *testing.T) {
	got := make(chan *hostproc.Process)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		p, err := hostproc.Start(exec.Command("sleep", "1000"))
		if err != nil {
			t.Error(err)
		}
		got <- p
	}()
	p := <-got
	time.Sleep(100 * time.Millisecond)
	if err := syscall.Kill(p.PID(), 0); err != nil {
		t.Fatalf("child is gone: %v", err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	<-p.Done()
}

func TestStartOfNothingFails(t *testing.T) {
	if _, err := hostproc.Start(exec.Command("/no/such/program")); err == nil {
		t.Fatal("Start succeeds")
	}
}
