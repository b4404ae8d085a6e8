// SPDX-License-Identifier: Apache-2.0

package filter_test

import (
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"byre.dev/byre/internal/engine/filter"
)

func decode(t *testing.T, s string) filter.Args {
	t.Helper()
	a, err := filter.Decode(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestFiltersAreDecodedInBothForms(t *testing.T) {
	for _, s := range []string{`{"status":["running","exited"]}`, `{"status":{"running":true,"exited":true}}`} {
		a := decode(t, s)
		if !a.Exact("status", "running") || !a.Exact("status", "exited") || a.Exact("status", "paused") || !a.Exact("other", "x") {
			t.Errorf("%s is %v", s, a)
		}
	}
	if _, err := filter.Decode(`{"a":1}`); !errdefs.IsInvalidArgument(err) {
		t.Errorf("error %v", err)
	}
	if err := decode(t, `{"nope":["1"]}`).Check("status"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("an unknown filter: error %v", err)
	}
}

func TestLabelsMustAllMatch(t *testing.T) {
	a := decode(t, `{"label":["a","b=2"]}`)
	for labels, want := range map[*map[string]string]bool{
		{"a": "1", "b": "2"}: true, {"a": "", "b": "3"}: false, {"b": "2"}: false,
	} {
		if got := a.Labels(*labels); got != want {
			t.Errorf("%v: %t", *labels, got)
		}
	}
}

func TestTimesAreReadInAllForms(t *testing.T) {
	now := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	for s, want := range map[string]time.Time{
		"1700000000": time.Unix(1_700_000_000, 0), "1700000000.5": time.Unix(1_700_000_000, 500_000_000),
		"1700000000.000000001": time.Unix(1_700_000_000, 1), "10m": now.Add(-10 * time.Minute),
		"2026-01-01T10:00:00Z": time.Date(2026, 1, 1, 10, 0, 0, 0, time.UTC), "2026-01-01": time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
	} {
		if got, err := filter.ParseTime(s, now); !got.Equal(want) || err != nil {
			t.Errorf("%s: %s, error %v", s, got, err)
		}
	}
	for _, s := range []string{"", "x", "1.x", "1.0000000001", "99999999999999999999"} {
		if _, err := filter.ParseTime(s, now); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: error %v", s, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{"", "{}", `{"a":["b"]}`, `{"a":{"b":true}}`, `{"a":null}`, "[", `{"name":["("]}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := filter.Decode(s)
		if err != nil {
			if a != nil {
				t.Errorf("%q: both filters and an error", s)
			}
			return
		}
		for name := range a {
			a.Match(name, "value")
			a.Prefix(name, "value")
			_, _ = a.Bool(name, true)
		}
	})
}

func TestLabelsThatAreNotThere(t *testing.T) {
	for filters, want := range map[string]bool{
		`{"label!":["a"]}`: false, `{"label!":["a=1"]}`: false, `{"label!":["a=2"]}`: true, `{"label!":["b"]}`: true,
		// Both must be there to hide something, as in dockerd.
		`{"label!":["a","b"]}`: true, `{"label":["a"],"label!":["b"]}`: true, `{"label":["b"],"label!":["c"]}`: false,
	} {
		a := decode(t, filters)
		if err := a.Check("label"); err != nil {
			t.Errorf("%s: %v", filters, err)
		}
		if got := a.Labels(map[string]string{"a": "1"}); got != want {
			t.Errorf("%s: %t, want %t", filters, got, want)
		}
	}
	if err := decode(t, `{"label!":["a"]}`).Check("name"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("where there is no filter label: error %v", err)
	}
}
