// SPDX-License-Identifier: Apache-2.0

package arch_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// directRequirements returns the modules that a go.mod requires without the
// mark "// indirect", and its tools.
func directRequirements(mod string) map[string]bool {
	found := map[string]bool{}
	block := ""
	for line := range strings.Lines(mod) {
		f := strings.Fields(line)
		switch {
		case len(f) == 0 || f[0] == "//":
		case len(f) == 2 && f[1] == "(":
			block = f[0]
		case f[0] == ")":
			block = ""
		default:
			directive := block
			if directive == "" {
				directive, f = f[0], f[1:]
			}
			indirect := strings.Contains(line, "// indirect")
			if directive == "tool" || directive == "require" && !indirect {
				found[f[0]] = true
			}
		}
	}
	return found
}

// explained returns the modules that have a row with a reason in the tables of
// docs/dependencies.md.
func explained(t *testing.T, doc string) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	for line := range strings.Lines(doc) {
		rest, ok := strings.CutPrefix(line, "| `")
		if !ok {
			continue
		}
		module, reason, ok := strings.Cut(rest, "` |")
		switch {
		case !ok || strings.Trim(reason, " |\n") == "":
			t.Errorf("docs/dependencies.md: no reason in %q", line)
		case found[module]:
			t.Errorf("docs/dependencies.md: %s has two rows", module)
		}
		found[module] = true
	}
	return found
}

func TestEveryDirectDependencyHasItsReason(t *testing.T) {
	read := func(name ...string) string {
		b, err := os.ReadFile(filepath.Join(append([]string{"..", ".."}, name...)...))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	required, reasons := directRequirements(read("go.mod")), explained(t, read("docs", "dependencies.md"))
	if len(required) == 0 {
		t.Fatal("go.mod: no requirement was read")
	}
	for module := range required {
		if !reasons[module] {
			t.Errorf("%s is in go.mod and has no row in docs/dependencies.md", module)
		}
	}
	for module := range reasons {
		if !required[module] {
			t.Errorf("%s has a row in docs/dependencies.md and go.mod does not require it directly", module)
		}
	}
}

func TestDirectRequirementsAreReadFromEveryForm(t *testing.T) {
	const mod = `module m

go 1.26

require a.test/one v1.0.0

require (
	a.test/two v1.0.0
	a.test/three v1.0.0 // indirect
)

tool a.test/four

tool (
	a.test/five/cmd/x
)

replace a.test/six => ../six
`
	got := directRequirements(mod)
	for _, want := range []string{"a.test/one", "a.test/two", "a.test/four", "a.test/five/cmd/x"} {
		if !got[want] {
			t.Errorf("%s was not read", want)
		}
	}
	if len(got) != 4 {
		t.Errorf("read %v, want four of them", got)
	}
}
