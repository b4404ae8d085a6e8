// SPDX-License-Identifier: Apache-2.0

package task

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"byre.dev/byre/internal/guest/reap"
)

func TestARuncThatHangsIsKilledWithItsCall(t *testing.T) {
	reaper := reap.New()
	var wg sync.WaitGroup
	wg.Go(func() { reaper.Run(t.Context()) })
	t.Cleanup(wg.Wait)
	r := &runc{reaper: reaper}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if _, err := r.await(ctx, exec.Command("sleep", "60")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("err = %v", err)
	}
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("the call ended after %v", took)
	}
	if code, err := r.await(t.Context(), exec.Command("sh", "-c", "exit 3")); err != nil || code != 3 {
		t.Errorf("exit code %d, %v", code, err)
	}
}

func TestTheLastErrorOfRuncsLogIsShown(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	for text, want := range map[string]string{
		"": "", "no JSON\n": "",
		`{"level":"warning","msg":"w"}` + "\n" + `{"level":"error","msg":" exec failed \n"}` + "\n" + `{"level":"info","msg":"i"}` + "\n{\"cut": "exec failed",
	} {
		if err := os.WriteFile(log, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := lastError(log); got != want {
			t.Errorf("log %q: %q, want %q", text, got, want)
		}
	}
	for text, want := range map[string]int{"12\n": 12, "": 0, "-1": 0, "x": 0} {
		if err := os.WriteFile(log, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := readPid(log); got != want || (err == nil) != (want != 0) {
			t.Errorf("pid file %q: %d, %v", text, got, err)
		}
	}
}
