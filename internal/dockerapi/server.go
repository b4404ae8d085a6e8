// SPDX-License-Identifier: Apache-2.0

// Package dockerapi serves the Docker Engine API over an engine: requests are
// decoded and checked here, answers put in the form of the API version that the
// client speaks, and streams carried over the connection. What containers are
// and do is the engine's.
package dockerapi

import (
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"strings"

	"github.com/containerd/errdefs"

	"byre.dev/byre/internal/build"
	"byre.dev/byre/internal/engine"
	"byre.dev/byre/internal/engine/request"
)

const (
	// MaxVersion is the newest version of the API that is served.
	MaxVersion = "1.56"
	// MinVersion is the oldest version of the API that is served.
	MinVersion = "1.40"
)

// api serves requests.
type api struct {
	engine *engine.Engine
	builds *build.Service
	log    *slog.Logger
}

// handler serves one operation. An error becomes the answer, unless one has
// been started.
type handler func(w http.ResponseWriter, r *call) error

// New returns the handler of all of the API. With nil builds there is no
// builder; a nil log discards messages.
func New(e *engine.Engine, builds *build.Service, log *slog.Logger) http.Handler {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	a := &api{engine: e, builds: builds, log: log}
	return &router{api: a, routes: compile(a.operations(), parameters())}
}

// operation is one operation of the API.
type operation struct {
	// method and path are those of swagger.yaml; {name} may hold slashes where
	// it is an image's.
	method, path string
	// serve is nil for operations that are refused.
	serve handler
	// note says what is different from dockerd, or why the operation is
	// refused; "" where nothing is different.
	note string
}

// router finds the operation of a request.
type router struct {
	api    *api
	routes []route
}

type route struct {
	operation
	pattern *regexp.Regexp
	params  []string
	// query has the rules for the parameters of the query.
	query []request.Rule
}

// compile makes a route of every operation; those with parameters come after
// those without, so that they match last.
func compile(ops []operation, queries map[string][]request.Rule) []route {
	var fixed, open []route
	for _, op := range ops {
		r := route{operation: op, query: queries[op.method+" "+op.path]}
		pattern := "^"
		for part := range strings.SplitSeq(strings.TrimPrefix(op.path, "/"), "/") {
			pattern += "/"
			if name, ok := strings.CutPrefix(part, "{"); ok {
				r.params = append(r.params, strings.TrimSuffix(name, "}"))
				pattern += "(.+)"
			} else {
				pattern += regexp.QuoteMeta(part)
			}
		}
		r.pattern = regexp.MustCompile(pattern + "$")
		if len(r.params) == 0 {
			fixed = append(fixed, r)
		} else {
			open = append(open, r)
		}
	}
	return append(fixed, open...)
}

// ServeHTTP negotiates the version and serves the operation.
func (rt *router) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if isCall(req) {
		rt.api.controlCall(w, req.WithContext(rt.api.engine.Context(req.Context())))
		return
	}
	build := rt.api.engine.Build()
	h := w.Header()
	h.Set("Server", "byre/"+build.Version+" (linux)")
	h.Set("Api-Version", MaxVersion)
	h.Set("Ostype", "linux")
	version, path, err := splitVersion(req.URL.Path)
	if err != nil {
		rt.api.fail(w, req, err)
		return
	}
	r := &call{Request: req.WithContext(rt.api.engine.Context(req.Context())), version: version}
	if err := rt.serve(w, r, path); err != nil {
		rt.api.fail(w, req, err)
	}
}

func (rt *router) serve(w http.ResponseWriter, r *call, path string) error {
	if len(path) > 1 {
		path = strings.TrimSuffix(path, "/")
	}
	for _, route := range rt.routes {
		if route.method != r.Method {
			continue
		}
		m := route.pattern.FindStringSubmatch(path)
		if m == nil {
			continue
		}
		r.params = map[string]string{}
		for i, name := range route.params {
			r.params[name] = m[i+1]
		}
		if route.serve == nil {
			return refused(route.operation)
		}
		if err := r.parse(); err != nil {
			return err
		}
		if err := request.CheckQuery(route.query, r.Form); err != nil {
			return err
		}
		return route.serve(w, r)
	}
	return errdefs.ErrNotFound.WithMessage("page not found")
}

func refused(op operation) error {
	return errdefs.ErrNotImplemented.WithMessage(fmt.Sprintf("byre does not serve %s %s of the Docker API: %s", op.method, op.path, op.note))
}

// splitVersion takes the version off the path; a path without one asks for the
// newest.
func splitVersion(path string) (version, rest string, err error) {
	m := regexp.MustCompile(`^/v([0-9.]+)(/.*)$`).FindStringSubmatch(path)
	if m == nil {
		return MaxVersion, path, nil
	}
	switch {
	case !validVersion(m[1]):
		return "", "", errdefs.ErrInvalidArgument.WithMessage("invalid API version: " + m[1])
	case versionLess(m[1], MinVersion):
		return "", "", errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(
			"client version %s is too old. Minimum supported API version is %s, please upgrade your client to a newer version", m[1], MinVersion))
	case versionLess(MaxVersion, m[1]):
		return "", "", errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(
			"client version %s is too new. Maximum supported API version is %s", m[1], MaxVersion))
	}
	return m[1], m[2], nil
}
