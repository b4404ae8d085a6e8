// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"byre.dev/byre/internal/engine/filter"
	"byre.dev/byre/internal/engine/request"
)

// call is a request with its parameters decoded.
type call struct {
	*http.Request
	version string
	params  map[string]string
}

// parse reads the query. A body is left alone, whatever its type says.
func (r *call) parse() error {
	query := r.URL.Query()
	if _, err := parseQuery(r.URL.RawQuery); err != nil {
		return err
	}
	r.Form = query
	return nil
}

// name returns the path's parameter, which is called id or name.
func (r *call) name() string {
	if id, ok := r.params["id"]; ok {
		return id
	}
	return r.params["name"]
}

// before says whether the client speaks an older version of the API.
func (r *call) before(version string) bool { return versionLess(r.version, version) }

// flag reads a query parameter as moby does: everything is true but "", 0, no,
// false and none.
func (r *call) flag(name string) bool { return r.flagOr(name, false) }

// flagOr does the same, with a default for a parameter that is missing.
func (r *call) flagOr(name string, fallback bool) bool {
	values, ok := r.Form[name]
	if !ok {
		return fallback
	}
	switch strings.ToLower(strings.TrimSpace(values[0])) {
	case "", "0", "no", "false", "none":
		return false
	}
	return true
}

// number reads a query parameter as an integer; nil where there is none.
func (r *call) number(name string) (*int, error) {
	s := r.Form.Get(name)
	if s == "" {
		return nil, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return nil, badRequest("invalid value for %q: %q is no number", name, s)
	}
	return &n, nil
}

// size reads the parameters h and w of a resize.
func (r *call) size() (height, width uint32, err error) {
	for _, d := range []struct {
		name, words string
		to          *uint32
	}{{"h", "height", &height}, {"w", "width", &width}} {
		value := r.Form.Get(d.name)
		n, err := strconv.ParseUint(value, 10, 32)
		if err == nil {
			*d.to = uint32(n)
			continue
		}
		why := strconv.ErrSyntax
		if _, signed := strconv.ParseInt(value, 10, 64); signed == nil || errors.Is(err, strconv.ErrRange) {
			why = strconv.ErrRange
		}
		return 0, 0, badRequest("invalid resize %s %q: %v", d.words, value, why)
	}
	return height, width, nil
}

func (r *call) filters() (filter.Args, error) { return filter.Decode(r.Form.Get("filters")) }

// maxBody bounds JSON bodies.
const maxBody = 16 << 20

// body reads a JSON body into v and returns it as it came. An empty body is an
// error unless optional.
func (r *call) body(v any, optional bool) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return nil, fmt.Errorf("read request: %w", err)
	}
	if len(b) > maxBody {
		return nil, badRequest("request of more than %d bytes", maxBody)
	}
	if len(strings.TrimSpace(string(b))) == 0 {
		if optional {
			return nil, nil
		}
		return nil, badRequest("invalid JSON: got EOF while reading request body")
	}
	if ct := r.Header.Get("Content-Type"); ct != "" && !strings.HasPrefix(ct, "application/json") {
		return nil, badRequest("unsupported Content-Type header (%s): must be 'application/json'", ct)
	}
	d := json.NewDecoder(strings.NewReader(string(b)))
	if err := d.Decode(v); err != nil {
		return nil, badRequest("invalid JSON: %v", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, badRequest("unexpected content after JSON")
	}
	return b, nil
}

// request reads a JSON body into v, which points to a value of the type that
// kind has, and refuses fields that byre does not honor. An empty body is an
// error unless optional, and leaves v alone then.
func (r *call) request(kind request.Body, v any, optional bool) error {
	raw, err := r.body(v, optional)
	if err != nil || raw == nil {
		return err
	}
	return kind.Check(v, raw)
}

func badRequest(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(format, args...))
}

// validVersion says whether s is "major.minor".
func validVersion(s string) bool {
	_, _, ok := cutVersion(s)
	return ok
}

func cutVersion(s string) (major, minor int, ok bool) {
	a, b, found := strings.Cut(s, ".")
	major, errA := strconv.Atoi(a)
	minor, errB := strconv.Atoi(b)
	return major, minor, found && errA == nil && errB == nil
}

// versionLess compares valid versions.
func versionLess(a, b string) bool {
	majorA, minorA, _ := cutVersion(a)
	majorB, minorB, _ := cutVersion(b)
	if majorA != majorB {
		return majorA < majorB
	}
	return minorA < minorB
}
