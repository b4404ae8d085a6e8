// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLowLimitsOfNotificationAreAWarning(t *testing.T) {
	for _, c := range []struct {
		watches, instances string
		want               State
	}{{"524288\n", "128\n", OK}, {"8192\n", "128\n", Warning}, {"524288\n", "16\n", Warning}, {"many\n", "128\n", Warning}} {
		dir := t.TempDir()
		for name, text := range map[string]string{"max_user_watches": c.watches, "max_user_instances": c.instances} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if f := inotify(dir); f.State != c.want || f.State == Warning && f.Advice == "" && !strings.Contains(f.Detail, "many") {
			t.Errorf("%q and %q: %+v", c.watches, c.instances, f)
		}
	}
	if f := inotify(filepath.Join(t.TempDir(), "gone")); f.State != Warning {
		t.Errorf("without the files: %+v", f)
	}
}

func TestSharesAreToldByTheirCacheMode(t *testing.T) {
	if got := describeShares(0, 0, nil); got != "none in use" {
		t.Error(got)
	}
	got := describeShares(2, 4, []string{"/b", "/a"})
	if want := "4 in use, 2 cached (loose) and told of the host's changes, 2 not cached (none): /a, /b"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestSharesThatLearnLateAreAWarning(t *testing.T) {
	for _, c := range []struct {
		unwatched, untracked uint64
		want                 State
		says                 string
	}{{0, 0, OK, ""}, {12, 0, Warning, "without a watch of the host's: 12"}, {12, 3, Warning, "too many to follow: 3"}} {
		f := behind("2 in use", c.unwatched, c.untracked)
		if f.State != c.want || !strings.Contains(f.Detail, c.says) || (f.Advice != "") != (c.want == Warning) {
			t.Errorf("%d and %d: %+v", c.unwatched, c.untracked, f)
		}
	}
}
