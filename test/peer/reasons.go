// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// reasons say why byre differs, by patterns of tests; the first that matches
// holds.
type reasons struct {
	list []reason
	used map[string]bool
}

type reason struct {
	pattern, text string
}

// readReasons reads lines "PACKAGE/TEST[/SUBTEST]: REASON". A pattern that ends
// in "*" stands for all that begin so; "#" starts a comment.
func readReasons(name string) (*reasons, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	r := &reasons{used: map[string]bool{}}
	n := 0
	for line := range strings.Lines(string(b)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		pattern, text, ok := strings.Cut(line, ": ")
		if !ok || strings.TrimSpace(text) == "" {
			return nil, fmt.Errorf("%s:%d: %q is not PACKAGE/TEST: REASON", name, n, line)
		}
		r.list = append(r.list, reason{pattern, strings.TrimSpace(text)})
	}
	return r, nil
}

// of returns the reason of a test's difference.
func (r *reasons) of(test string) string {
	for _, one := range r.list {
		prefix, all := strings.CutSuffix(one.pattern, "*")
		if test == one.pattern || all && strings.HasPrefix(test, prefix) {
			r.used[one.pattern] = true
			return one.text
		}
	}
	return unexplained
}

// unused are patterns that nothing matched: their difference is gone.
func (r *reasons) unused() []string {
	var out []string
	for _, one := range r.list {
		if !r.used[one.pattern] {
			out = append(out, one.pattern)
		}
	}
	return out
}

// writeReport writes docs/peer-results.md from the results and the reasons.
func (l *lab) writeReport() error {
	reasons, err := readReasons(filepath.Join(l.root, "test", "peer", "reasons.txt"))
	if err != nil {
		return err
	}
	all := rows(l.results.all, reasons)
	for _, r := range all {
		if r.reason == unexplained {
			fmt.Printf("unexplained: %s/%s: byre %s, dockerd %s\n", r.pkg, r.test, r.byre, r.dockerd)
		}
	}
	for _, pattern := range reasons.unused() {
		fmt.Printf("reason without a difference: %s\n", pattern)
	}
	return os.WriteFile(filepath.Join(l.root, "docs", "peer-results.md"), []byte(report(all)), 0o644)
}
