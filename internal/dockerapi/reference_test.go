// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"bufio"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite docs/docker-api.md")

// beyond are the operations that dockerd serves and its description omits.
var beyond = []string{"POST /build/cancel", "POST /grpc"}

func TestTheTableHoldsEveryOperationOfDockersDescription(t *testing.T) {
	want := append(described(t), beyond...)
	var have []string
	for _, op := range (&api{}).operations() {
		have = append(have, op.method+" "+op.path)
	}
	slices.Sort(want)
	slices.Sort(have)
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("table of operations (-described +table):\n%s", diff)
	}
}

// described reads the operations from the description of the API that the
// module of its types carries.
func described(t *testing.T) []string {
	t.Helper()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/moby/moby/api").Output()
	if err != nil {
		t.Fatalf("find the description: %v", err)
	}
	f, err := os.Open(filepath.Join(strings.TrimSpace(string(dir)), "swagger.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	path, method := regexp.MustCompile(`^  "?(/[^":]*)"?:\s*$`), regexp.MustCompile(`^    (get|head|post|put|delete|patch|options):\s*$`)
	var ops []string
	var at string
	ids, inPaths, version := 0, false, ""
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		if v, ok := strings.CutPrefix(line, "  version: "); ok && version == "" {
			version = strings.Trim(v, `"`)
		}
		inPaths = inPaths || line == "paths:"
		if !inPaths {
			continue
		}
		if m := path.FindStringSubmatch(line); m != nil {
			at = m[1]
		} else if m := method.FindStringSubmatch(line); m != nil {
			ops = append(ops, strings.ToUpper(m[1])+" "+at)
		}
		if strings.HasPrefix(strings.TrimSpace(line), "operationId:") {
			ids++
		}
	}
	if ids != len(ops) || len(ops) < 100 {
		t.Fatalf("%d operations read from a description with %d: its form has changed", len(ops), ids)
	}
	if version != MaxVersion {
		t.Errorf("the description is of version %s, served is %s", version, MaxVersion)
	}
	return ops
}

func TestWhatIsRefusedSaysWhy(t *testing.T) {
	for _, op := range (&api{}).operations() {
		if op.verdict() == verdictRefused && op.note == "" {
			t.Errorf("%s %s is refused without a reason", op.method, op.path)
		}
	}
}

func TestTheReferenceIsWrittenFromTheTable(t *testing.T) {
	page := filepath.Join("..", "..", "docs", "docker-api.md")
	want := Reference()
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, strings.ReplaceAll(string(have), "\r\n", "\n")); diff != "" {
		t.Errorf("%s is not what the table says, run with -update (-table +page):\n%s", page, diff)
	}
}
