// SPDX-License-Identifier: Apache-2.0

package request

import (
	"maps"
	"net/url"
	"slices"
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

// CheckBuild refuses a request to build with parameters that byre cannot honor.
// Values that mean nothing, such as 0 and false, are taken for none.
func CheckBuild(query url.Values) error {
	rules := index(BuildRules())
	for _, name := range slices.Sorted(maps.Keys(query)) {
		c := checker{}
		rule, known := rules[name]
		if !known {
			rule = Rule{Field: name, Why: "it is not known"}
		}
		for _, v := range query[name] {
			if slices.Contains([]string{"", "0", "false", "null", "[]", "{}"}, v) {
				continue
			}
			if !known || rule.Verdict == Refused || rule.Verdict == Partly && !rule.Allow(v) {
				c.refuse(rule)
				return c.err
			}
		}
	}
	return nil
}
