// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"byre.dev/byre/internal/engine/filter"
)

func get(query string) *call {
	r := &call{Request: httptest.NewRequest(http.MethodGet, "/x", nil), version: MaxVersion}
	r.URL.RawQuery = query
	return r
}

func TestFlagsAreReadAsMobyDoes(t *testing.T) {
	for query, want := range map[string]bool{
		"": false, "all": false, "all=": false, "all=0": false, "all=no": false, "all=False": false, "all=none": false,
		"all=1": true, "all=true": true, "all=yes": true, "all=anything": true,
	} {
		r := get(query)
		if err := r.parse(); err != nil {
			t.Fatal(err)
		}
		if got := r.flag("all"); got != want {
			t.Errorf("%q: %t, want %t", query, got, want)
		}
	}
}

func TestVersionsAreNegotiatedAsMobyDoes(t *testing.T) {
	for _, tc := range []struct{ path, version, rest, text string }{
		{"/_ping", MaxVersion, "/_ping", ""},
		{"/v1.41/containers/json", "1.41", "/containers/json", ""},
		{"/v1.40/info", "1.40", "/info", ""},
		{"/v1.39/info", "", "", "client version 1.39 is too old. Minimum supported API version is 1.40, please upgrade your client to a newer version"},
		{"/v1.57/info", "", "", "client version 1.57 is too new. Maximum supported API version is " + MaxVersion},
		{"/v1/info", "", "", "invalid API version: 1"},
	} {
		version, rest, err := splitVersion(tc.path)
		if tc.text != "" {
			if err == nil || err.Error() != tc.text || statusOf(err) != http.StatusBadRequest {
				t.Errorf("%s: error %v, want %q", tc.path, err, tc.text)
			}
			continue
		}
		if version != tc.version || rest != tc.rest || err != nil {
			t.Errorf("%s: version %q, path %q, error %v", tc.path, version, rest, err)
		}
	}
}

func TestEveryClassOfErrorHasItsStatus(t *testing.T) {
	for err, want := range map[error]int{
		errdefs.ErrNotFound:           404,
		errdefs.ErrInvalidArgument:    400,
		errdefs.ErrConflict:           409,
		errdefs.ErrAlreadyExists:      409,
		errdefs.ErrUnauthenticated:    401,
		errdefs.ErrPermissionDenied:   403,
		errdefs.ErrNotModified:        304,
		errdefs.ErrNotImplemented:     501,
		errdefs.ErrUnavailable:        503,
		errdefs.ErrFailedPrecondition: 400,
		errdefs.ErrOutOfRange:         400,
		errdefs.ErrInternal:           500,
		errdefs.ErrUnknown:            500,
		errors.New("anything"):        500,
	} {
		if got := statusOf(fmt.Errorf("do: %w", err)); got != want {
			t.Errorf("%v: %d, want %d", err, got, want)
		}
	}
	if got := statusOf(errdefs.ErrNotFound.WithMessage("No such container: x")); got != 404 {
		t.Errorf("an error with a message of its own: %d, want 404", got)
	}
}

func TestRoutesTellTheirParameters(t *testing.T) {
	routes := compile((&api{}).operations(), parameters())
	find := func(method, path string) (string, []string) {
		for _, r := range routes {
			if m := r.pattern.FindStringSubmatch(path); r.method == method && m != nil {
				return r.path, m[1:]
			}
		}
		return "", nil
	}
	for _, tc := range []struct{ method, path, route, name string }{
		{"GET", "/containers/json", "/containers/json", ""},
		{"GET", "/containers/web/json", "/containers/{id}/json", "web"},
		{"GET", "/images/registry.example:5000/a/b:1/json", "/images/{name}/json", "registry.example:5000/a/b:1"},
		{"GET", "/images/get", "/images/get", ""},
		{"DELETE", "/images/a/b", "/images/{name}", "a/b"},
		{"POST", "/containers/prune", "/containers/prune", ""},
	} {
		route, params := find(tc.method, tc.path)
		if route != tc.route || tc.name != "" && (len(params) != 1 || params[0] != tc.name) {
			t.Errorf("%s %s: route %s with %v", tc.method, tc.path, route, params)
		}
	}
}

func FuzzQuery(f *testing.F) {
	for _, seed := range []string{
		"", "all=1&limit=-1&size=0", "t=10&signal=SIGTERM", "h=24&w=80", "tail=all&since=1.5&until=0", "a=%zz",
		`filters={"status":["running"],"label":["a=b"]}`, `filters={"status":{"running":true}}`, "filters=[", "tail=99999999999999999999",
		"since=9223372036854775807.999999999", "until=-1.-1",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, query string) {
		r := get(query)
		if r.parse() != nil {
			return
		}
		for _, name := range []string{"all", "size", "follow"} {
			r.flag(name)
		}
		if n, err := r.number("limit"); (n == nil) != (r.Form.Get("limit") == "" || err != nil) {
			t.Errorf("limit of %q: %v, error %v", query, n, err)
		}
		_, _, _ = r.size()
		if q, err := parseLogQuery(r); err == nil && q.Tail < -1 {
			t.Errorf("tail of %q is %d", query, q.Tail)
		}
		if args, err := r.filters(); err == nil {
			args.Match("name", "x")
			args.Labels(map[string]string{"a": "b"})
		}
		_, _ = parseEventsQuery(r)
	})
}

func FuzzParseTime(f *testing.F) {
	for _, seed := range []string{"0", "1700000000.123456789", "10m", "2026-01-02T03:04:05Z", "-5", "1e9", "."} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		at, err := filter.ParseTime(s, time.Unix(1_700_000_000, 0))
		if err != nil && !at.IsZero() {
			t.Errorf("%q: both a time and an error", s)
		}
	})
}

func TestCredentialsAreReadWithAndWithoutPadding(t *testing.T) {
	for _, header := range []string{"eyJ1c2VybmFtZSI6InUiLCJwYXNzd29yZCI6InAifQ==", "eyJ1c2VybmFtZSI6InUiLCJwYXNzd29yZCI6InAifQ"} {
		auth, err := decodeAuth(header)
		if err != nil || auth.Username != "u" || auth.Password != "p" {
			t.Errorf("%s: %+v, error %v", header, auth, err)
		}
	}
	if _, err := decodeAuth("!"); statusOf(err) != http.StatusBadRequest {
		t.Errorf("error %v for a header that does not decode", err)
	}
	if auth, err := decodeAuth(url.QueryEscape("e30=")[:4]); auth != nil && err == nil {
		t.Errorf("empty credentials are %+v", auth)
	}
}

func TestRefusedOperationNamesItself(t *testing.T) {
	err := refused(operation{method: "POST", path: "/swarm/init", note: "there is no swarm"})
	if statusOf(err) != http.StatusNotImplemented || !strings.Contains(err.Error(), "POST /swarm/init") {
		t.Fatalf("%v", err)
	}
}
