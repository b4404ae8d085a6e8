// SPDX-License-Identifier: Apache-2.0

package arch_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// faultPackages are the directories of the packages that the table names.
var faultPackages = map[string]string{
	"guestimage": "guestimage", "qemu": "vm/qemu", "image": "engine/image", "layer": "layer", "ctrd": "ctrd", "snapshot": "snapshot",
	"archive": "guest/archive", "sandbox": "sandbox", "stdio": "guest/stdio", "task": "guest/task", "daemon": "daemon", "arch": "arch", "e2e": "../test/e2e",
}

func TestTheTableOfFaultsNamesTestsThatExist(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "testing.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "## Faults, and the test of each")
	if !ok {
		t.Fatal("docs/testing.md has no table of faults")
	}
	known := map[string]bool{}
	for name, dir := range faultPackages {
		collect(t, known, name+".", dir, "*_test.go", `(?m)^func (Test\w+)\(`)
	}
	name := regexp.MustCompile("`([^`]+)`")
	rows := 0
	for line := range strings.Lines(section) {
		cells := strings.Split(strings.Trim(line, "| \n"), "|")
		if len(cells) != 3 || strings.HasPrefix(cells[0], "-") || strings.HasPrefix(cells[0], "fault ") {
			continue
		}
		rows++
		named := name.FindAllStringSubmatch(cells[2], -1)
		if len(named) == 0 {
			t.Errorf("no test: %s", line)
		}
		for _, m := range named {
			if !known[m[1]] && !commented(t, m[1]) {
				t.Errorf("docs/testing.md: there is no %q", m[1])
			}
		}
	}
	if rows < 20 {
		t.Errorf("%d faults: is the table's form another one?", rows)
	}
}

// commented tells whether a script has a comment that starts so: "script.txt:
// words".
func commented(t *testing.T, name string) bool {
	t.Helper()
	script, words, ok := strings.Cut(name, ": ")
	if !ok || filepath.Base(script) != script {
		return false
	}
	text, err := os.ReadFile(filepath.Join("..", "..", "test", "e2e", "testdata", script))
	return err == nil && strings.Contains("\n"+string(text), "\n# "+words)
}
