// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"
)

// Outcomes of a test.
const (
	passed  = "pass"
	failed  = "fail"
	skipped = "skip"
	// hung is a test that was ended by the bound on its time.
	hung = "hang"
)

// result is what one test of a suite, with its subtests, came to.
type result struct {
	Engine, Package, Test string
	// Outcome has the test and its subtests by name.
	Outcome map[string]string
	Seconds float64
	// Output is the end of what the test said, where it did not pass.
	Output string `json:",omitempty"`
}

// results are kept in a file of one JSON object a line; the last of a test holds.
type results struct {
	file *os.File
	all  map[string]result
}

func key(engine, pkg, test string) string { return engine + " " + pkg + " " + test }

func openResults(name string) (*results, error) {
	r := &results{all: map[string]result{}}
	b, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for line := range strings.Lines(string(b)) {
		var one result
		// The last line of a run that was killed may be half a line.
		if json.Unmarshal([]byte(line), &one) == nil {
			r.all[key(one.Engine, one.Package, one.Test)] = one
		}
	}
	r.file, err = os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	return r, err
}

func (r *results) close() { _ = r.file.Close() }

func (r *results) has(engine, pkg, test string) bool {
	_, ok := r.all[key(engine, pkg, test)]
	return ok
}

func (r *results) add(one result) error {
	b, err := json.Marshal(one)
	if err != nil {
		return err
	}
	r.all[key(one.Engine, one.Package, one.Test)] = one
	if _, err := r.file.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("keep result: %w", err)
	}
	return nil
}

var outcomeLine = regexp.MustCompile(`^\s*--- (PASS|FAIL|SKIP): (\S+) \(`)
var runLine = regexp.MustCompile(`^\s*=== RUN\s+(\S+)`)

// outcomes reads the output of a test that ran verbosely. A test that started
// and is not told of at the end hung where late is true, and failed otherwise.
func outcomes(test, output string, late bool) map[string]string {
	all := map[string]string{}
	lines := bufio.NewScanner(strings.NewReader(output))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if m := runLine.FindStringSubmatch(lines.Text()); m != nil {
			all[m[1]] = ""
		}
		if m := outcomeLine.FindStringSubmatch(lines.Text()); m != nil {
			all[m[2]] = map[string]string{"PASS": passed, "FAIL": failed, "SKIP": skipped}[m[1]]
		}
	}
	if _, ok := all[test]; !ok {
		all[test] = ""
	}
	for name, o := range all {
		if o != "" {
			continue
		}
		all[name] = failed
		if late {
			all[name] = hung
		}
	}
	return all
}
