// SPDX-License-Identifier: Apache-2.0

package doctor_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"byre.dev/byre/internal/doctor"
	"byre.dev/byre/internal/home"
)

func fixed(f doctor.Finding) doctor.Check {
	return doctor.Check{Name: "thing", Run: func(context.Context) doctor.Finding { return f }}
}

func TestFailureIsShownWithItsAdvice(t *testing.T) {
	var out bytes.Buffer
	err := doctor.Run(t.Context(), &out, []doctor.Check{
		fixed(doctor.Finding{State: doctor.OK, Detail: "fine"}),
		fixed(doctor.Finding{State: doctor.Failure, Detail: "broken", Advice: "Mend it."}),
	})
	if !errors.Is(err, doctor.ErrUnfit) {
		t.Fatalf("Run = %v, want ErrUnfit", err)
	}
	for _, want := range []string{"ok       thing            fine\n", "FAILED   thing            broken\n", "→ Mend it.\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("output lacks %q:\n%s", want, out.String())
		}
	}
}

func TestWarningsDoNotFail(t *testing.T) {
	var out bytes.Buffer
	if err := doctor.Run(t.Context(), &out, []doctor.Check{fixed(doctor.Finding{State: doctor.Warning, Detail: "slow"})}); err != nil {
		t.Fatal(err)
	}
}

func TestHostChecksOfAFreshDirectoryPass(t *testing.T) {
	dir := home.Dir(filepath.Join(t.TempDir(), "b"))
	for _, c := range doctor.HostChecks(dir) {
		if f := c.Run(t.Context()); f.State == doctor.Failure {
			t.Errorf("%s: %s", c.Name, f.Detail)
		}
	}
	if left, _ := filepath.Glob(dir.Path(".doctor-*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestStateDirectoryThatIsAFileFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f := doctor.HostChecks(home.Dir(path))[0].Run(t.Context())
	if f.State != doctor.Failure || !strings.Contains(f.Advice, home.Env) {
		t.Errorf("finding = %+v, want a failure that names %s", f, home.Env)
	}
}
