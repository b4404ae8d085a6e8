// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/docker/go-units"

	"byre.dev/byre/internal/home"
	"byre.dev/byre/internal/localsock"
)

const (
	// lowSpace is the free space under which a warning is given: a large image
	// needs some gigabytes while it is unpacked.
	lowSpace = 5 << 30
	// noSpace is what not even a small image fits in.
	noSpace = 256 << 20
	// lowMemory is the available memory under which few machines fit.
	lowMemory = 1 << 30
)

// HostChecks returns the checks that every host shares: the state directory,
// its space, memory, the daemon, what it keeps warm, the shares in use and what the host tells of
// changes to them.
func HostChecks(dir home.Dir) []Check {
	checks := []Check{
		{Name: "state directory", Run: func(context.Context) Finding { return stateDirectory(dir) }},
		{Name: "disk space", Run: func(context.Context) Finding { return diskSpace(dir) }},
		{Name: "memory", Run: func(context.Context) Finding { return memory() }},
		{Name: "daemon", Run: func(ctx context.Context) Finding { return daemon(ctx, dir) }},
		{Name: "spare machine", Run: func(context.Context) Finding { return spares(dir) }},
		{Name: "shares", Run: func(ctx context.Context) Finding { return shares(ctx, dir) }},
	}
	return append(checks, notifyChecks()...)
}

func stateDirectory(dir home.Dir) Finding {
	if err := dir.Prepare(); err != nil {
		return Finding{Failure, err.Error(), "Make the directory writable for this user, or set " + home.Env + " to one that is."}
	}
	probe, err := os.CreateTemp(string(dir), ".doctor-*")
	if err != nil {
		return Finding{Failure, err.Error(), "Make the directory writable for this user, or set " + home.Env + " to one that is."}
	}
	if err := errors.Join(probe.Close(), os.Remove(probe.Name())); err != nil {
		return Finding{Warning, err.Error(), "Look whether the file system is sound."}
	}
	return Finding{OK, string(dir), ""}
}

// existing returns the nearest directory that exists at or above path.
func existing(path string) string {
	for {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) || filepath.Dir(path) == path {
			return path
		}
		path = filepath.Dir(path)
	}
}

func diskSpace(dir home.Dir) Finding {
	free, err := freeSpace(existing(string(dir)))
	if err != nil {
		return Finding{Warning, err.Error(), ""}
	}
	detail := fmt.Sprintf("%s free under %s", units.BytesSize(float64(free)), dir)
	advice := "Free some space (byre image prune, byre container prune), or set " + home.Env + " to a larger disk."
	switch {
	case free < noSpace:
		return Finding{Failure, detail, advice}
	case free < lowSpace:
		return Finding{Warning, detail, advice}
	}
	return Finding{OK, detail, ""}
}

func memory() Finding {
	available, err := availableMemory()
	if err != nil {
		return Finding{Warning, err.Error(), ""}
	}
	detail := units.BytesSize(float64(available)) + " available"
	if available < lowMemory {
		return Finding{Warning, detail, "Each container costs some 90 MB and what its processes use: end some, or other programs."}
	}
	return Finding{OK, detail, ""}
}

func daemon(ctx context.Context, dir home.Dir) Finding {
	conn, err := localsock.Dial(ctx, dir.Path("docker.sock"))
	if err == nil {
		return Finding{OK, "answers on " + localsock.Address(dir.Path("docker.sock")), joinClose(conn.Close())}
	}
	return Finding{OK, "not running; the next command that needs it starts it", ""}
}

func joinClose(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
