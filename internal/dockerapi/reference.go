// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"fmt"
	"slices"
	"strings"

	"byre.dev/byre/internal/engine/request"
)

// Reference writes docs/docker-api.md from the table of operations and the
// rules for the fields of requests.
func Reference() string {
	var b strings.Builder
	ops := (&api{}).operations()
	count := map[string]int{}
	for _, op := range ops {
		count[op.verdict()]++
	}
	fmt.Fprintf(&b, `# The Docker API

byre serves version %s of the Docker Engine API, and clients of %s and newer.
This page is written from the table that the server works from; a test holds it against Docker's own description of the
API and writes it with `+"`go test ./internal/dockerapi -run Reference -update`"+`.

%d operations: %d are done, %d with a difference that is stated, %d are refused with an error that names them.

| operation | | |
|---|---|---|
`, MaxVersion, MinVersion, len(ops), count[verdictDone]+count[verdictDiffers], count[verdictDiffers], count[verdictRefused])
	for _, op := range ops {
		fmt.Fprintf(&b, "| %s `%s` | %s | %s |\n", op.method, op.path, op.verdict(), cell(op.note))
	}
	writeParameters(&b, ops)
	for _, body := range request.Bodies() {
		writeFields(&b, "Fields of a request to "+body.To, slices.Concat(body.Rules, body.Beyond))
	}
	writeFields(&b, "Parameters of a request to build an image", request.BuildRules())
	return b.String()
}

// What becomes of an operation.
const (
	verdictDone    = "done"
	verdictDiffers = "done, with a difference"
	verdictRefused = "refused"
)

// verdict says what becomes of an operation.
func (op operation) verdict() string {
	switch {
	case op.serve == nil, strings.HasPrefix(op.note, "503: "), strings.HasPrefix(op.note, "404: "):
		return verdictRefused
	case op.note != "":
		return verdictDiffers
	}
	return verdictDone
}

// writeParameters lists the parameters of queries, those of a build excepted.
func writeParameters(b *strings.Builder, ops []operation) {
	b.WriteString(`
## Parameters of queries

A parameter that is not here is ignored, as dockerd ignores what it does not know; of a build it is refused. Those of a build are listed below.

| operation | honored | |
|---|---|---|
`)
	rules := parameters()
	for _, op := range ops {
		of := rules[op.method+" "+op.path]
		if len(of) == 0 || op.path == "/build" {
			continue
		}
		var honored, others []string
		for _, r := range of {
			if r.Verdict == request.Honored {
				honored = append(honored, "`"+r.Field+"`")
			} else {
				others = append(others, fmt.Sprintf("`%s` %s: %s", r.Field, parameterVerdict(r.Verdict), cell(r.Why)))
			}
		}
		fmt.Fprintf(b, "| %s `%s` | %s | %s |\n", op.method, op.path, strings.Join(honored, ", "), strings.Join(others, "; "))
	}
}

func parameterVerdict(v request.Verdict) string {
	if v == request.Harmless {
		return "has no effect"
	}
	return "is refused"
}

func writeFields(b *strings.Builder, title string, rules []request.Rule) {
	fmt.Fprintf(b, "\n## %s\n\nA field that is not here is refused by its name.\n\n", title)
	for _, v := range []request.Verdict{request.Honored, request.Partly, request.Harmless, request.Refused} {
		var lines []string
		for _, r := range rules {
			if r.Verdict == v {
				lines = append(lines, fieldLine(r))
			}
		}
		if len(lines) == 0 {
			continue
		}
		slices.Sort(lines)
		fmt.Fprintf(b, "%s:\n\n", verdictTitle(v))
		if v == request.Honored {
			fmt.Fprintf(b, "%s\n\n", strings.Join(lines, ", "))
			continue
		}
		fmt.Fprintf(b, "| field | |\n|---|---|\n%s\n", strings.Join(lines, ""))
	}
}

func fieldLine(r request.Rule) string {
	if r.Verdict == request.Honored {
		return "`" + r.Field + "`"
	}
	return fmt.Sprintf("| `%s` | %s |\n", r.Field, cell(r.Why))
}

func verdictTitle(v request.Verdict) string {
	return map[request.Verdict]string{
		request.Honored:  "Honored",
		request.Partly:   "Honored in part; other values are refused",
		request.Harmless: "Accepted, and without effect because none is needed",
		request.Refused:  "Refused with an error that names the field",
	}[v]
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
