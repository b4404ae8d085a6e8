// SPDX-License-Identifier: Apache-2.0

package testenv

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
)

// ending is a test that notes how it was ended.
type ending struct {
	testing.TB
	how string
}

func (e *ending) Helper() {}

func (e *ending) Fatal(args ...any) { e.how = "failed: " + fmt.Sprint(args...); runtime.Goexit() }
func (e *ending) Skip(args ...any)  { e.how = "skipped: " + fmt.Sprint(args...); runtime.Goexit() }

// end runs f as a test and returns how it ended.
func end(t *testing.T, f func(testing.TB)) string {
	e := &ending{TB: t, how: "passed"}
	done := make(chan struct{})
	go func() { // waited for below
		defer close(done)
		f(e)
	}()
	<-done
	return e.how
}

func TestSkipsAreFailuresWhereWhatIsWantedCouldBeHad(t *testing.T) {
	for _, strict := range []bool{false, true} {
		t.Setenv("CI", "")
		t.Setenv("BYRE_TEST_NO_SKIP", map[bool]string{true: "1"}[strict])
		for lack, excuse := range map[Lack]bool{
			Tool: false, GuestImage: false, FileSystem: false, Root: os.Geteuid() != 0,
			Address: true, Limit: true, Guest: true, Feature: true, "a lack nobody knows": false,
		} {
			want := "failed: "
			if !strict || excuse {
				want = "skipped: "
			}
			want += "no " + string(lack) + ": try 1 thing"
			if got := end(t, func(tb testing.TB) { Skip(tb, lack, "try %d thing", 1) }); got != want {
				t.Errorf("strict %v: %q, want %q", strict, got, want)
			}
		}
	}
	if !excused(Root, false) || excused(Root, true) {
		t.Error("the lack of root is an excuse of root's, or none of an ordinary user's")
	}
}

func TestCIIsStrict(t *testing.T) {
	t.Setenv("BYRE_TEST_NO_SKIP", "")
	t.Setenv("CI", "true")
	if !Strict() {
		t.Error("CI does not make skips failures")
	}
}

func TestTheFirstToolThatIsThereIsTaken(t *testing.T) {
	t.Setenv("CI", "1")
	if got := NeedTool(t, "byre-no-such-tool", "go"); !strings.HasSuffix(got, "go") && !strings.HasSuffix(got, "go.exe") {
		t.Errorf("got %q", got)
	}
	got := end(t, func(tb testing.TB) { NeedTool(tb, "byre-no-such-tool") })
	if !strings.HasPrefix(got, "failed: no tool: ") || !strings.Contains(got, "byre-no-such-tool") {
		t.Errorf("got %q", got)
	}
}
