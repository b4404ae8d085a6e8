// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"flag"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"byre.dev/byre/internal/engine/request"
)

var update = flag.Bool("update", false, "rewrite docs/docker-api.md")

// beyond are the operations that dockerd serves and its description omits.
var beyond = []string{"POST /build/cancel", "POST /grpc"}

func TestTheTableHoldsEveryOperationOfDockersDescription(t *testing.T) {
	want := slices.Clone(beyond)
	for _, d := range described(t) {
		want = append(want, d.operation)
	}
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

// beyondQueries are the parameters that dockerd reads and its description
// omits, those of /build and of operations beyond it excepted.
var beyondQueries = map[string][]string{
	"GET /containers/{id}/logs":   {"details"},
	"POST /containers/{id}/start": {"checkpoint", "checkpoint-dir"},
	"GET /images/json":            {"filter"},
	"POST /build/prune":           {"keep-storage"},
}

func TestEveryParameterOfDockersDescriptionHasARule(t *testing.T) {
	rules := parameters()
	refused := map[string]bool{}
	for _, op := range (&api{}).operations() {
		refused[op.method+" "+op.path] = op.verdict() == verdictRefused
	}
	known := map[string]bool{}
	for _, d := range described(t) {
		known[d.operation] = true
		if refused[d.operation] {
			continue
		}
		var have []string
		for _, r := range rules[d.operation] {
			have = append(have, r.Field)
			if r.Verdict != request.Honored && r.Why == "" {
				t.Errorf("%s: parameter %s is %s without a reason", d.operation, r.Field, r.Verdict)
			}
		}
		want := append(slices.Clone(d.query), beyondQueries[d.operation]...)
		if d.operation == "POST /build" {
			// BuildKit's clients send more than is described.
			for _, name := range want {
				if !slices.Contains(have, name) {
					t.Errorf("%s: parameter %s has no rule", d.operation, name)
				}
			}
			continue
		}
		slices.Sort(want)
		slices.Sort(have)
		if diff := cmp.Diff(want, have, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: parameters (-described +table):\n%s", d.operation, diff)
		}
	}
	for op := range rules {
		if !known[op] && !slices.Contains(beyond, op) {
			t.Errorf("parameters of %s, which is no operation", op)
		}
	}
}

// description is one operation of Docker's description of its API.
type description struct {
	operation string
	// query has the names of its query's parameters; json says that it takes a
	// JSON object as its body.
	query []string
	json  bool
}

// described reads the operations from the description of the API that the
// module of its types carries.
func described(t *testing.T) []description {
	t.Helper()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/moby/moby/api").Output()
	if err != nil {
		t.Fatalf("find the description: %v", err)
	}
	text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "swagger.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if v := regexp.MustCompile(`(?m)^  version: "?([0-9.]+)`).FindSubmatch(text); v == nil || string(v[1]) != MaxVersion {
		t.Errorf("the description is of version %s, served is %s", v, MaxVersion)
	}
	_, paths, _ := strings.Cut(string(text), "\npaths:\n")
	path, method := regexp.MustCompile(`^  "?(/[^":]*)"?:\s*$`), regexp.MustCompile(`^    (get|head|post|put|delete|patch|options):\s*$`)
	parameter, in := regexp.MustCompile(`^        - name: "?([^"]+)"?$`), regexp.MustCompile(`^          in: "?(\w+)"?$`)
	object := regexp.MustCompile(`^            (allOf:|type: "?object"?|\$ref: .*)$`)
	var ops []description
	var at, name, kind string
	ids, queries := 0, 0
	for line := range strings.SplitSeq(paths, "\n") {
		if m := path.FindStringSubmatch(line); m != nil {
			at = m[1]
		} else if m := method.FindStringSubmatch(line); m != nil {
			ops = append(ops, description{operation: strings.ToUpper(m[1]) + " " + at})
			name, kind = "", ""
		} else if m := parameter.FindStringSubmatch(line); m != nil {
			name, kind = m[1], ""
		} else if m := in.FindStringSubmatch(line); m != nil && name != "" {
			if kind = m[1]; kind == "query" {
				op := &ops[len(ops)-1]
				op.query = append(op.query, name)
			}
		} else if kind == "body" && object.MatchString(line) {
			ops[len(ops)-1].json = true
		}
		if s := strings.TrimSpace(line); strings.HasPrefix(s, "operationId:") {
			ids++
		} else if s == `in: "query"` || s == "in: query" {
			queries++
		}
	}
	read := 0
	for _, op := range ops {
		read += len(op.query)
	}
	if ids != len(ops) || len(ops) < 100 || read != queries || queries < 100 {
		t.Fatalf("%d operations with %d parameters read from a description with %d and %d: its form has changed", len(ops), read, ids, queries)
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

// TestUnknownFieldsOfEveryBodyAreRefused sends to every operation that takes a
// JSON object one with a field that nobody knows: before anything else is looked
// at, it is refused by its name.
func TestUnknownFieldsOfEveryBodyAreRefused(t *testing.T) {
	rt := New(nil, nil, nil).(*router)
	n := 0
	for _, d := range described(t) {
		method, path, _ := strings.Cut(d.operation, " ")
		i := slices.IndexFunc(rt.routes, func(r route) bool { return r.method == method && r.path == path })
		if !d.json || rt.routes[i].verdict() == verdictRefused {
			continue
		}
		n++
		req := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(`{"Image":"a","Frobnicate":1}`))
		r := &call{Request: req, version: MaxVersion, params: map[string]string{"id": "x", "name": "x"}}
		if err := r.parse(); err != nil {
			t.Fatal(err)
		}
		err := rt.routes[i].serve(httptest.NewRecorder(), r)
		if err == nil || statusOf(err) != http.StatusBadRequest || !strings.Contains(err.Error(), "byre does not support Frobnicate: ") {
			t.Errorf("%s: error %v, want a refusal that names the field", d.operation, err)
		}
	}
	if n != len(request.Bodies()) {
		t.Errorf("%d operations take an object, there are rules for %d", n, len(request.Bodies()))
	}
}

func TestParametersThatCannotBeHonoredAreRefusedByName(t *testing.T) {
	rules := parameters()
	for _, tc := range []struct{ op, query, want string }{
		{"POST /containers/{id}/start", "checkpoint=x", "checkpoint"},
		{"POST /containers/{id}/start", "checkpoint-dir=x&detachKeys=ctrl-a", "checkpoint-dir"},
		{"DELETE /containers/{id}", "link=1", "link"},
		{"DELETE /containers/{id}", "link=0&v=1&Image=a", ""},
		{"POST /images/load", "quiet=1", ""},
		{"POST /containers/create", "name=a&HostConfig=%7B%7D&Image=b", ""},
	} {
		query, err := url.ParseQuery(tc.query)
		if err != nil {
			t.Fatal(err)
		}
		err = request.CheckQuery(rules[tc.op], query)
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), "byre does not support "+tc.want+": ")) {
			t.Errorf("%s?%s: error %v, want a refusal that names %q", tc.op, tc.query, err, tc.want)
		}
	}
}

// A parameter that the table calls honored is read somewhere: its name stands in
// the code, the table's own file excepted.
func TestHonoredParametersAreRead(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var code strings.Builder
	for _, name := range files {
		if name == "parameters.go" || strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		code.Write(text)
	}
	for op, rules := range parameters() {
		for _, r := range rules {
			if r.Verdict == request.Honored && !strings.Contains(code.String(), strconv.Quote(r.Field)) {
				t.Errorf("%s: parameter %s is honored, and nobody reads it", op, r.Field)
			}
		}
	}
}
