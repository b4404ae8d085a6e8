// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"errors"
	"net/http"
	"net/url"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/common"
)

// statuses is the one table from the classes of errors to HTTP; moby's is
// daemon/server/httpstatus.
func statuses() []struct {
	class  error
	status int
} {
	return []struct {
		class  error
		status int
	}{
		{errdefs.ErrNotFound, http.StatusNotFound},
		{errdefs.ErrInvalidArgument, http.StatusBadRequest},
		{errdefs.ErrConflict, http.StatusConflict},
		{errdefs.ErrAlreadyExists, http.StatusConflict},
		{errdefs.ErrUnauthenticated, http.StatusUnauthorized},
		{errdefs.ErrPermissionDenied, http.StatusForbidden},
		{errdefs.ErrNotModified, http.StatusNotModified},
		{errdefs.ErrNotImplemented, http.StatusNotImplemented},
		{errdefs.ErrUnavailable, http.StatusServiceUnavailable},
		{errdefs.ErrFailedPrecondition, http.StatusBadRequest},
		{errdefs.ErrOutOfRange, http.StatusBadRequest},
	}
}

// statusOf returns the HTTP status of an error.
func statusOf(err error) int {
	resolved := errdefs.Resolve(err)
	for _, s := range statuses() {
		if errors.Is(resolved, s.class) || classOf(resolved, s.class) {
			return s.status
		}
	}
	return http.StatusInternalServerError
}

// classOf says whether an error belongs to a class without wrapping it.
func classOf(err, class error) bool {
	checks := map[error]func(error) bool{
		errdefs.ErrNotFound:         errdefs.IsNotFound,
		errdefs.ErrInvalidArgument:  errdefs.IsInvalidArgument,
		errdefs.ErrConflict:         errdefs.IsConflict,
		errdefs.ErrNotModified:      errdefs.IsNotModified,
		errdefs.ErrNotImplemented:   errdefs.IsNotImplemented,
		errdefs.ErrUnauthenticated:  errdefs.IsUnauthorized,
		errdefs.ErrPermissionDenied: errdefs.IsPermissionDenied,
	}
	check := checks[class]
	return check != nil && check(err)
}

// fail answers with an error, unless the client has gone.
func (a *api) fail(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		return
	}
	status := statusOf(err)
	if status == http.StatusNotModified {
		w.WriteHeader(status)
		return
	}
	if status == http.StatusInternalServerError {
		a.log.Error("request failed", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	if err := writeJSON(w, status, common.ErrorResponse{Message: err.Error()}); err != nil {
		a.log.Debug("error not delivered", "err", err)
	}
}

// parseQuery refuses queries that do not decode.
func parseQuery(raw string) (url.Values, error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, badRequest("invalid query: %v", err)
	}
	return values, nil
}
