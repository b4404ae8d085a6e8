// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// restore takes the results of engines that the cache has lost from
// docs/peer-results.md, so that an engine that did not change need not run
// again. What a test said is not there, only how it ended.
func (l *lab) restore(engines []string) error {
	b, err := os.ReadFile(filepath.Join(l.root, "docs", "peer-results.md"))
	if err != nil {
		return fmt.Errorf("restore results: %w", err)
	}
	for _, one := range readReport(string(b)) {
		if !slices.Contains(engines, one.Engine) || l.results.has(one.Engine, one.Package, one.Test) {
			continue
		}
		if err := l.results.add(one); err != nil {
			return err
		}
	}
	return nil
}

// readReport reads the tables "test by test" that report wrote.
func readReport(page string) []result {
	var all []result
	at := map[string]int{}
	_, tables, _ := strings.Cut(page, "\n## Test by test\n")
	pkg := ""
	for line := range strings.Lines(tables) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "### "); ok {
			pkg = name
			continue
		}
		cells := strings.Split(strings.ReplaceAll(line, `\|`, "\x00"), "|")
		if len(cells) != 5 || !strings.HasPrefix(strings.TrimSpace(cells[1]), "Test") {
			continue
		}
		test := strings.ReplaceAll(strings.TrimSpace(cells[1]), "\x00", "|")
		top, _, _ := strings.Cut(test, "/")
		for i, engine := range []string{"byre", "dockerd"} {
			outcome := strings.TrimSpace(cells[2+i])
			if outcome == absent || outcome == notRun {
				continue
			}
			k := key(engine, pkg, top)
			if _, ok := at[k]; !ok {
				at[k] = len(all)
				all = append(all, result{Engine: engine, Package: pkg, Test: top, Outcome: map[string]string{}})
			}
			all[at[k]].Outcome[test] = outcome
		}
	}
	return all
}
