// SPDX-License-Identifier: Apache-2.0

package main

import (
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const verbose = `INFO: Testing against a remote daemon
=== RUN   TestOne
=== RUN   TestOne/a
=== RUN   TestOne/b
--- FAIL: TestOne (0.10s)
    --- PASS: TestOne/a (0.05s)
    --- FAIL: TestOne/b (0.05s)
FAIL
`

func TestOutcomesAreReadFromVerboseOutput(t *testing.T) {
	want := map[string]string{"TestOne": failed, "TestOne/a": passed, "TestOne/b": failed}
	if got := outcomes("TestOne", verbose, false); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	cut, _, _ := strings.Cut(verbose, "--- FAIL")
	if got := outcomes("TestOne", cut, true); got["TestOne/a"] != hung || got["TestOne"] != hung {
		t.Errorf("a test that was ended is %v", got)
	}
	if got := outcomes("TestOne", "panic: no daemon", false); !maps.Equal(got, map[string]string{"TestOne": failed}) {
		t.Errorf("a suite that did not start is %v", got)
	}
}

func TestATestCountsByItsSubtests(t *testing.T) {
	got := leaves(map[string]string{"A": failed, "A/x": passed, "A/y": failed, "A/y/z": failed, "B": failed, "B/x": passed, "C": passed})
	want := map[string]string{"A/x": passed, "A/y/z": failed, "B": failed, "B/x": passed, "C": passed}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestADifferenceWithoutAReasonIsUnexplained(t *testing.T) {
	file := filepath.Join(t.TempDir(), "reasons.txt")
	if err := os.WriteFile(file, []byte("# why\nsystem/TestA/*: because\nimage/TestGone: was\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := readReasons(file)
	if err != nil {
		t.Fatal(err)
	}
	all := rows(map[string]result{
		"1": {Engine: "byre", Package: "system", Test: "TestA", Outcome: map[string]string{"TestA": failed, "TestA/x": failed}},
		"2": {Engine: "dockerd", Package: "system", Test: "TestA", Outcome: map[string]string{"TestA": passed, "TestA/x": passed}},
		"3": {Engine: "byre", Package: "system", Test: "TestB", Outcome: map[string]string{"TestB": hung}},
		"4": {Engine: "dockerd", Package: "system", Test: "TestB", Outcome: map[string]string{"TestB": passed}},
		"5": {Engine: "dockerd", Package: "system", Test: "TestC", Outcome: map[string]string{"TestC": passed}},
		"6": {Engine: "byre", Package: "image", Test: "TestD", Outcome: map[string]string{"TestD": passed}},
		"7": {Engine: "dockerd", Package: "image", Test: "TestD", Outcome: map[string]string{"TestD": passed}},
	}, r)
	page := report(all)
	for _, want := range []string{
		"Of the 4 tests that dockerd passes, byre passes 1: 25.0 %.** Differences unexplained: 2.",
		"| system/TestA/x | fail | pass | because |",
		"| system/TestB | hang | pass | unexplained |",
		"| system/TestC | not run | pass | unexplained |",
		"| image | 1 | 1 | 1 | 1, 100.0 % |",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
	if got := r.unused(); len(got) != 1 || got[0] != "image/TestGone" {
		t.Errorf("unused reasons: %v", got)
	}
}

func TestReasonsSayWhatTheyAreFor(t *testing.T) {
	file := filepath.Join(t.TempDir(), "reasons.txt")
	for _, bad := range []string{"system/TestA", "system/TestA:  "} {
		if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readReasons(file); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// The page in the tree names the reason of each difference that it tells of.
func TestThePageInTheTreeAgreesWithItsReasons(t *testing.T) {
	r, err := readReasons("reasons.txt")
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join("..", "..", "docs", "peer-results.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "\n## Differences\n")
	differences, _, ok := strings.Cut(rest, "\n## Test by test\n")
	if !ok {
		t.Fatal("the page has no differences to read")
	}
	for line := range strings.Lines(differences) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "| "), " | ")
		if len(cells) != 4 || cells[0] == "test" || strings.HasPrefix(cells[0], "---") {
			continue
		}
		if want := cell(r.of(cells[0])); cells[3] != want {
			t.Errorf("%s: the page says %q, reasons.txt %q", cells[0], cells[3], want)
		}
	}
}

func TestAReportIsReadBack(t *testing.T) {
	all := map[string]result{
		"1": {Engine: "byre", Package: "system", Test: "TestA", Outcome: map[string]string{"TestA": failed, "TestA/x|y": failed, "TestA/z": passed}},
		"2": {Engine: "dockerd", Package: "system", Test: "TestA", Outcome: map[string]string{"TestA": passed, "TestA/x|y": passed, "TestA/w": passed}},
		"3": {Engine: "dockerd", Package: "image", Test: "TestB", Outcome: map[string]string{"TestB": hung}},
	}
	page := report(rows(all, &reasons{used: map[string]bool{}}))
	back := map[string]result{}
	for i, one := range readReport(page) {
		back[strconv.Itoa(i)] = one
	}
	if len(back) != len(all) {
		t.Errorf("%d results were read, want %d", len(back), len(all))
	}
	if again := report(rows(back, &reasons{used: map[string]bool{}})); again != page {
		t.Errorf("read back and written again it is\n%s\nnot\n%s", again, page)
	}
}
