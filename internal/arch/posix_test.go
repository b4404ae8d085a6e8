// SPDX-License-Identifier: Apache-2.0

package arch_test

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// testPackages are the directories of the packages that the document names.
var testPackages = map[string]string{
	"hostfs": "hostfs", "hostlock": "hostlock", "memfs": "memfs", "p9srv": "p9/p9srv", "p9test": "p9/p9test",
	"p9client": "p9/p9client", "replay": "p9/replay", "arch": "arch",
	"engine": "engine", "sandbox": "sandbox", "guest": "../test/guest", "apps": "../test/apps",
}

func TestThePosixDocumentNamesTestsThatExist(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "posix.md"))
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for name, dir := range testPackages {
		collect(t, known, name+".", dir, "*_test.go", `(?m)^func ((?:Test|Fuzz)\w+)\(`)
	}
	collect(t, known, "suite: ", "p9/p9test", "cases_*.go", `(?m)^\t\{"([^"]+)", func\(x \*exam\)`)
	named := map[string]bool{}
	for _, m := range regexp.MustCompile("`((?:suite: |\\w+\\.(?:Test|Fuzz))[^`]*)`").FindAllStringSubmatch(string(text), -1) {
		if m[1] == "suite: …" || m[1] == "hostfs.TestX" {
			continue
		}
		named[m[1]] = true
		if !known[m[1]] {
			t.Errorf("docs/posix.md: there is no %q", m[1])
		}
	}
	for _, m := range regexp.MustCompile("test/e2e `([^`]*)`").FindAllStringSubmatch(string(text), -1) {
		if _, err := os.Stat(filepath.Join("..", "..", "test", "e2e", "testdata", m[1])); err != nil {
			t.Errorf("docs/posix.md names a script: %v", err)
		}
	}
	if len(named) < 80 {
		t.Errorf("docs/posix.md names %d tests: is its form another one?", len(named))
	}
}

// collect enters what a pattern finds in the files of a package.
func collect(t *testing.T, known map[string]bool, prefix, dir, files, pattern string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("..", filepath.FromSlash(dir), files))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no %s in %s: %v", files, dir, err)
	}
	for _, p := range paths {
		text, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(string(text), -1) {
			known[prefix+m[1]] = true
		}
	}
}
