// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// packages are moby's suites, in the order in which they run.
var packages = []string{"container", "image", "volume", "network", "system", "build"}

// lab is what the engines and suites share.
type lab struct {
	// root is the project's, cache has what is kept from one run to the next.
	root, cache string
	results     *results
}

// row is one test beside itself. Tests that have subtests are not in rows of
// their own, unless they failed where no subtest did.
type row struct {
	pkg, test, byre, dockerd, reason string
}

// differs says whether the engines came to different ends.
func (r row) differs() bool { return r.byre != r.dockerd }

// short says whether byre falls short of dockerd.
func (r row) short() bool { return r.dockerd == passed && r.byre != passed }

const (
	// absent is the outcome of a subtest that was not reached.
	absent      = "not reached"
	notRun      = "not run"
	unexplained = "unexplained"
)

// rows puts the results of two engines side by side, in the order of packages
// and names.
func rows(all map[string]result, reasons *reasons) []row {
	type name struct{ pkg, test string }
	both := map[name]*[2]string{}
	ran := map[name]*[2]bool{}
	for _, r := range all {
		engine := slices.Index([]string{"byre", "dockerd"}, r.Engine)
		top := name{r.Package, r.Test}
		if ran[top] == nil {
			ran[top] = &[2]bool{}
		}
		ran[top][engine] = true
		for test, outcome := range leaves(r.Outcome) {
			n := name{r.Package, test}
			if both[n] == nil {
				both[n] = &[2]string{}
			}
			both[n][engine] = outcome
		}
	}
	var out []row
	for n, o := range both {
		r := row{pkg: n.pkg, test: n.test, byre: o[0], dockerd: o[1]}
		top, _, _ := strings.Cut(n.test, "/")
		for i, side := range []*string{&r.byre, &r.dockerd} {
			switch {
			case *side != "":
			case ran[name{n.pkg, top}][i]:
				*side = absent
			default:
				*side = notRun
			}
		}
		if r.differs() {
			r.reason = reasons.of(n.pkg + "/" + n.test)
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b row) int {
		if c := slices.Index(packages, a.pkg) - slices.Index(packages, b.pkg); c != 0 {
			return c
		}
		return strings.Compare(a.test, b.test)
	})
	return out
}

// leaves returns the outcomes that say something by themselves.
func leaves(all map[string]string) map[string]string {
	out := map[string]string{}
	for test, outcome := range all {
		parent, told := false, false
		for other, o := range all {
			if strings.HasPrefix(other, test+"/") {
				parent, told = true, told || o == outcome
			}
		}
		if !parent || (outcome == failed || outcome == hung) && !told {
			out[test] = outcome
		}
	}
	return out
}

// score counts, for one package or for all.
type score struct {
	tests, byre, dockerd, both int
}

func (s *score) add(r row) {
	s.tests++
	if r.byre == passed {
		s.byre++
	}
	if r.dockerd == passed {
		s.dockerd++
		if r.byre == passed {
			s.both++
		}
	}
}

func (s score) share() string {
	if s.dockerd == 0 {
		return "–"
	}
	return fmt.Sprintf("%.1f %%", 100*float64(s.both)/float64(s.dockerd))
}

const preamble = `# byre beside dockerd in moby's own tests

Moby's integration suites, built unchanged from the module that ` + "`test/peer/suites/go.mod`" + ` pins, run by ` + "`make peer`" + `
against byre and against the dockerd of that module on the same host, each test in a process of its own and for four minutes
at the most. The suites are told that the daemon is remote, so they skip tests that start daemons of their own.

dockerd has network and mount namespaces of its own and changes no packet filter, as it must on a host without iptables. Images are made
without a registry: busybox:glibc and debian:trixie-slim are the host's static busybox under those names, hello-world is a program of a few
lines. Tests that pull from a public registry fail on both where there is none.

A test counts by its subtests where it has some. Reasons come from ` + "`test/peer/reasons.txt`" + `; a difference without one is
*unexplained*.
`

// report writes the page.
func report(all []row) string {
	scores := map[string]*score{}
	var total score
	var open int
	for _, r := range all {
		if scores[r.pkg] == nil {
			scores[r.pkg] = &score{}
		}
		scores[r.pkg].add(r)
		total.add(r)
		if r.reason == unexplained {
			open++
		}
	}
	var b strings.Builder
	b.WriteString(preamble)
	fmt.Fprintf(&b, "\n**Of the %d tests that dockerd passes, byre passes %d: %s.** Differences unexplained: %d.\n\n", total.dockerd, total.both, total.share(), open)
	b.WriteString("| package | tests | dockerd passes | byre passes | byre, of what dockerd passes |\n|---|--:|--:|--:|--:|\n")
	for _, pkg := range slices.SortedFunc(maps.Keys(scores), func(a, b string) int { return slices.Index(packages, a) - slices.Index(packages, b) }) {
		s := scores[pkg]
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d, %s |\n", pkg, s.tests, s.dockerd, s.byre, s.both, s.share())
	}
	b.WriteString("\n## Differences\n\n| test | byre | dockerd | reason |\n|---|---|---|---|\n")
	for _, r := range all {
		if r.differs() {
			fmt.Fprintf(&b, "| %s/%s | %s | %s | %s |\n", r.pkg, cell(r.test), r.byre, r.dockerd, cell(r.reason))
		}
	}
	b.WriteString("\n## Test by test\n")
	pkg := ""
	for _, r := range all {
		if r.pkg != pkg {
			pkg = r.pkg
			fmt.Fprintf(&b, "\n### %s\n\n| test | byre | dockerd |\n|---|---|---|\n", pkg)
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", cell(r.test), r.byre, r.dockerd)
	}
	return b.String()
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
