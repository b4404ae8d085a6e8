// SPDX-License-Identifier: Apache-2.0

// Package filter decodes and applies the filters of Docker's list requests.
package filter

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
)

// Args are filters: for each name the values of which one must match.
type Args map[string][]string

// Decode reads filters as clients send them: a JSON object of lists, or of
// objects whose keys are the values (API 1.21 and older, and Docker's own CLI
// to this day). "" means no filters.
func Decode(s string) (Args, error) {
	args := Args{}
	if s == "" {
		return args, nil
	}
	sets := map[string]map[string]bool{}
	if err := json.Unmarshal([]byte(s), &sets); err == nil {
		for name, values := range sets {
			args[name] = slices.Sorted(maps.Keys(values))
		}
		return args, nil
	}
	lists := map[string][]string{}
	if err := json.Unmarshal([]byte(s), &lists); err != nil {
		return nil, errdefs.ErrInvalidArgument.WithMessage("invalid filter: " + err.Error())
	}
	maps.Copy(args, lists)
	return args, nil
}

// notLabel is the filter for what has not certain labels.
const notLabel = "label!"

// Check refuses filters that are not among those named. Who knows label knows
// label! as well.
func (a Args) Check(known ...string) error {
	for name := range a {
		if !slices.Contains(known, name) && (name != notLabel || !slices.Contains(known, "label")) {
			return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid filter '%s'", name))
		}
	}
	return nil
}

// Has says whether there is a filter of that name.
func (a Args) Has(name string) bool { return len(a[name]) > 0 }

// Exact says whether value is one of the filter's, or there is no such filter.
func (a Args) Exact(name, value string) bool {
	return !a.Has(name) || slices.Contains(a[name], value)
}

// Match says whether one of the filter's values, taken as regular expressions
// or as they are, is found in value, or there is no such filter.
func (a Args) Match(name, value string) bool {
	if a.Exact(name, value) {
		return true
	}
	return slices.ContainsFunc(a[name], func(pattern string) bool {
		ok, err := regexp.MatchString(pattern, value)
		return ok && err == nil
	})
}

// Prefix says whether value starts with one of the filter's values, or there
// is no such filter.
func (a Args) Prefix(name, value string) bool {
	return !a.Has(name) || slices.ContainsFunc(a[name], func(p string) bool { return strings.HasPrefix(value, p) })
}

// Labels says whether labels hold every one of the values of the filter label,
// each "name" or "name=value", and not every one of label!, as dockerd reads
// them.
func (a Args) Labels(labels map[string]string) bool {
	return a.Pairs("label", labels) && (!a.Has(notLabel) || !a.Pairs(notLabel, labels))
}

// Pairs says whether labels hold every one of the filter's values, each "name"
// or "name=value".
func (a Args) Pairs(name string, labels map[string]string) bool {
	for _, want := range a[name] {
		key, value, exact := strings.Cut(want, "=")
		got, ok := labels[key]
		if !ok || exact && got != value {
			return false
		}
	}
	return true
}

// Bool reads a filter that is true or false; fallback where there is none.
func (a Args) Bool(name string, fallback bool) (bool, error) {
	if !a.Has(name) {
		return fallback, nil
	}
	yes := a.Exact(name, "1") || a.Exact(name, "true")
	no := a.Exact(name, "0") || a.Exact(name, "false")
	if yes == no {
		return fallback, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid filter '%s=%v'", name, a[name]))
	}
	return yes, nil
}
