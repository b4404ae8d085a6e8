// SPDX-License-Identifier: Apache-2.0

package request

import (
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strings"
)

// BuildRules are the rules for the parameters of a request to build an image.
func BuildRules() []Rule {
	limits := "the builder's machine is shared by all builds, which have no limits of their own"
	return append(honored("dockerfile", "t", "extrahosts", "remote", "q", "nocache", "cachefrom", "pull", "buildargs", "shmsize",
		"ulimits", "labels", "networkmode", "platform", "target", "outputs", "version", "session", "buildid"),
		Rule{Field: "rm", Verdict: Harmless, Why: "BuildKit leaves no containers"},
		Rule{Field: "forcerm", Verdict: Harmless, Why: "BuildKit leaves no containers"},
		Rule{Field: "isolation", Verdict: Partly, Why: "it concerns Windows containers", Allow: oneOf("default")},
		Rule{Field: "memory", Verdict: Refused, Why: limits},
		Rule{Field: "memswap", Verdict: Refused, Why: limits},
		Rule{Field: "cpushares", Verdict: Refused, Why: limits},
		Rule{Field: "cpusetcpus", Verdict: Refused, Why: limits},
		Rule{Field: "cpusetmems", Verdict: Refused, Why: limits},
		Rule{Field: "cpuperiod", Verdict: Refused, Why: limits},
		Rule{Field: "cpuquota", Verdict: Refused, Why: limits},
		Rule{Field: "cgroupparent", Verdict: Refused, Why: "builds run in a machine of their own"},
		Rule{Field: "securityopt", Verdict: Refused, Why: "builds run in a machine of their own; BuildKit's way is RUN --security"},
		Rule{Field: "squash", Verdict: Refused, Why: "BuildKit does not squash layers; use several stages"},
	)
}

// CheckBuild refuses a request to build with parameters that byre cannot honor
// or does not know: what a build is made with must not be lost.
func CheckBuild(query url.Values) error {
	rules := BuildRules()
	known := index(rules)
	for _, name := range slices.Sorted(maps.Keys(query)) {
		if _, ok := known[name]; !ok {
			rules = append(rules, Rule{Field: name, Verdict: Refused, Why: "it is not known"})
		}
	}
	return CheckQuery(rules, query)
}

// CheckQuery refuses a query with parameters that byre cannot honor; those
// without a rule pass. Values that mean nothing, such as 0 and false, are taken
// for none.
func CheckQuery(rules []Rule, query url.Values) error {
	var c checker
	for _, rule := range rules {
		for _, v := range query[rule.Field] {
			if slices.Contains([]string{"", "0", "false", "null", "[]", "{}"}, strings.ToLower(v)) {
				continue
			}
			c.apply(rule, reflect.ValueOf(v))
		}
	}
	return c.err
}
