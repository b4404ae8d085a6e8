// SPDX-License-Identifier: Apache-2.0

package lockfile_test

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"byre.dev/byre/internal/lockfile"
)

// holdEnv makes the test binary hold a lock until it is killed.
const holdEnv = "LOCKFILE_TEST_HOLD"

func TestMain(m *testing.M) {
	if path := os.Getenv(holdEnv); path != "" {
		if _, err := lockfile.Try(path); err != nil {
			os.Exit(1)
		}
		os.Stdout.WriteString("held\n")
		select {}
	}
	os.Exit(m.Run())
}

func TestSecondTryFailsAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "l")
	l, err := lockfile.Try(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockfile.Try(path); !errors.Is(err, lockfile.ErrHeld) {
		t.Fatalf("second Try = %v, want ErrHeld", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l, err = lockfile.Try(path)
	if err != nil {
		t.Fatalf("Try after Close = %v", err)
	}
	_ = l.Close()
}

func TestWaitEndsWithItsContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "l")
	l, err := lockfile.Try(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := lockfile.Wait(ctx, path); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Wait = %v, want the deadline", err)
	}
}

func TestKilledHolderGivesTheLockBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "l")
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), holdEnv+"="+path)
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
	if _, err := lockfile.Try(path); !errors.Is(err, lockfile.ErrHeld) {
		t.Fatalf("Try beside the holder = %v, want ErrHeld", err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	l, err := lockfile.Wait(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
}
