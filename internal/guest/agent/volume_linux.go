// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"net"
	"strconv"

	"github.com/containerd/errdefs"

	"byre.dev/byre/internal/guestapi"
	"byre.dev/byre/internal/hostfs"
	"byre.dev/byre/internal/p9/p9srv"
)

// serveVolume answers 9P of a volume's disk for another machine, whose
// containers see in it what this one's do: locks are the kernel's own.
func (a *Agent) serveVolume(ctx context.Context, conn net.Conn) {
	name, ok := a.admit(conn, guestapi.PortVolume)
	if !ok {
		return
	}
	if err := a.lend(ctx, name, conn); err != nil && ctx.Err() == nil {
		a.cfg.Log.Warn("volume no longer lent", "disk", name, "err", err)
	}
}

func (a *Agent) lend(ctx context.Context, name string, conn net.Conn) error {
	defer conn.Close()
	number, err := strconv.ParseUint(name, 10, 31)
	if err != nil {
		return fmt.Errorf("disk %q: %w", name, errdefs.ErrInvalidArgument)
	}
	fs, err := hostfs.Open(hostfs.Config{Path: guestapi.VolumeDir(int(number)), Log: a.cfg.Log})
	if err != nil {
		return err
	}
	defer fs.Close()
	root := fs.Root()
	defer root.Release()
	return (&p9srv.Server{Root: root, Locks: &a.locks}).Serve(ctx, conn)
}
