// SPDX-License-Identifier: Apache-2.0

package home_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"byre.dev/byre/internal/home"
)

func env(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i+1 < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func TestHomeVariableMovesAllState(t *testing.T) {
	want := filepath.Join(t.TempDir(), "elsewhere")
	got, err := home.Find(env(home.Env, want, "HOME", "/unused", "XDG_DATA_HOME", "/unused"))
	if err != nil || string(got) != want {
		t.Fatalf("Find = %q, %v, want %q", got, err, want)
	}
}

func TestRelativeHomeBecomesAbsolute(t *testing.T) {
	got, err := home.Find(env(home.Env, "state"))
	if err != nil || !filepath.IsAbs(string(got)) {
		t.Fatalf("Find = %q, %v, want an absolute path", got, err)
	}
}

func TestNoVariableAtAllIsAnError(t *testing.T) {
	if got, err := home.Find(env()); err == nil {
		t.Fatalf("Find = %q, want an error", got)
	}
}

func TestPrepareMakesAPrivateDirectoryOnce(t *testing.T) {
	d := home.Dir(filepath.Join(t.TempDir(), "b"))
	for range 2 {
		if err := d.Prepare(); err != nil {
			t.Fatal(err)
		}
	}
	fi, err := os.Stat(string(d))
	if err != nil {
		t.Fatal(err)
	}
	if filepath.Separator == '/' && fi.Mode().Perm() != 0o700 {
		t.Errorf("mode = %v, want 0700", fi.Mode().Perm())
	}
}

func TestNewerLayoutIsRefusedByName(t *testing.T) {
	d := home.Dir(t.TempDir())
	if err := os.WriteFile(d.Path("version"), []byte("99\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := d.Prepare()
	if err == nil || !strings.Contains(err.Error(), `"99"`) || !strings.Contains(err.Error(), home.Env) {
		t.Fatalf("Prepare = %v, want an error naming the version and %s", err, home.Env)
	}
}

func TestPathTooLongForASocketIsRefused(t *testing.T) {
	d := home.Dir(filepath.Join(t.TempDir(), strings.Repeat("x", 100)))
	if err := d.Prepare(); err == nil || !strings.Contains(err.Error(), home.Env) {
		t.Fatalf("Prepare = %v, want an error naming %s", err, home.Env)
	}
}

func TestManyMayPrepareOneDirectoryAtOnce(t *testing.T) {
	for range 20 {
		dir := home.Dir(filepath.Join(t.TempDir(), "state"))
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if err := dir.Prepare(); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if entries, err := os.ReadDir(string(dir)); err != nil || len(entries) != 1 {
			t.Fatalf("entries %v, error %v", entries, err)
		}
	}
}
