// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	buildtype "github.com/moby/moby/api/types/build"

	"byre.dev/byre/internal/build"
)

// builder returns what serves builds, or says that there is nothing.
func (a *api) builder() (*build.Service, error) {
	if a.builds == nil {
		return nil, errdefs.ErrUnavailable.WithMessage("this daemon has no builder")
	}
	return a.builds, nil
}

// session takes a client's session: on its connection the client is a server,
// which builds ask for files, secrets and credentials.
func (a *api) session(w http.ResponseWriter, r *call) error {
	builds, err := a.builder()
	if err != nil {
		return err
	}
	conn, err := upgrade(w, r)
	if err != nil {
		return err
	}
	if err := builds.ServeSession(r.Context(), conn, r.Header); err != nil {
		a.log.Warn("build session refused", "err", err)
	}
	return nil
}

// grpc serves BuildKit's control API.
func (a *api) grpc(w http.ResponseWriter, r *call) error {
	builds, err := a.builder()
	if err != nil {
		return err
	}
	conn, err := upgrade(w, r)
	if err != nil {
		return err
	}
	if err := builds.ServeControl(r.Context(), conn); err != nil {
		a.log.Warn("control connection refused", "err", err)
	}
	return nil
}

// isCall says whether a request is a gRPC call that comes by itself, over
// HTTP/2, rather than an operation of the Docker API.
func isCall(r *http.Request) bool {
	return r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")
}

// controlCall serves a call of BuildKit's control API.
func (a *api) controlCall(w http.ResponseWriter, r *http.Request) {
	builds, err := a.builder()
	if err == nil {
		err = builds.ServeCall(w, r)
	}
	if err != nil {
		a.fail(w, r, err)
	}
}

// buildPrune answers /build/prune. Until API 1.48 what is kept was called
// keep-storage.
func (a *api) buildPrune(w http.ResponseWriter, r *call) error {
	builds, err := a.builder()
	if err != nil {
		return err
	}
	req := build.PruneRequest{All: r.flag("all")}
	for name, dst := range map[string]*int64{
		"keep-storage": &req.ReservedSpace, "reserved-space": &req.ReservedSpace,
		"max-used-space": &req.MaxUsedSpace, "min-free-space": &req.MinFreeSpace,
	} {
		n, err := r.number(name)
		if err != nil {
			return err
		}
		if n != nil {
			*dst = int64(*n)
		}
	}
	if req.Filters, err = r.filters(); err != nil {
		return err
	}
	report, err := builds.Prune(r.Context(), req)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, report)
}

// cacheUsage is what the build cache holds.
func (a *api) cacheUsage(r *call) ([]buildtype.CacheRecord, error) {
	if a.builds == nil {
		return nil, nil
	}
	return a.builds.Usage(r.Context())
}

// cacheReport puts the records in the form of API 1.52.
func cacheReport(records []buildtype.CacheRecord) *buildtype.DiskUsage {
	du := &buildtype.DiskUsage{TotalCount: int64(len(records)), Items: records}
	for _, r := range records {
		du.TotalSize += r.Size
		if r.InUse {
			du.ActiveCount++
		} else if !r.Shared {
			du.Reclaimable += r.Size
		}
	}
	return du
}

// upgrade takes the connection over for HTTP/2.
func upgrade(w http.ResponseWriter, r *call) (net.Conn, error) {
	if proto := r.Header.Get("Upgrade"); proto != "h2c" {
		return nil, badRequest("%s is served over Upgrade: h2c, not over %q", r.URL.Path, proto)
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, fmt.Errorf("take over connection: %w", err)
	}
	// The server may have left deadlines on it.
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if _, err := fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return upgraded{duplex{Conn: conn, in: rw.Reader}}, nil
}

// upgraded reads what the client sent behind its request first.
type upgraded struct{ duplex }

// Read reads from the client.
func (u upgraded) Read(p []byte) (int, error) { return u.in.Read(p) }
