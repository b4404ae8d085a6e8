// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
)

const (
	// fewWatches is less than the directories of a middling source tree.
	fewWatches = 32 << 10
	// fewInstances is less than what a desktop and a few shares take.
	fewInstances = 64
)

// notifyChecks examines what the host tells of changes to shares.
func notifyChecks() []Check {
	return []Check{{Name: "notification", Run: func(context.Context) Finding { return inotify("/proc/sys/fs/inotify") }}}
}

// inotify reads the limits of a user: a share takes an instance and a watch
// for each directory that its container looks into. Without an instance a
// share is not cached; without watches its directories are compared.
func inotify(dir string) Finding {
	watches, err := readLimit(dir + "/max_user_watches")
	if err != nil {
		return Finding{Warning, err.Error(), "Shares are not cached where the host does not tell of changes."}
	}
	instances, err := readLimit(dir + "/max_user_instances")
	if err != nil {
		return Finding{Warning, err.Error(), "Shares are not cached where the host does not tell of changes."}
	}
	detail := fmt.Sprintf("inotify, up to %d directories for this user, a quarter of them for a machine, and %d shares", watches, instances)
	if watches < fewWatches || instances < fewInstances {
		return Finding{Warning, detail,
			"Directories beyond are compared in turn, some thousands of names every two seconds, shares beyond not cached: raise fs.inotify.max_user_watches and fs.inotify.max_user_instances with sysctl."}
	}
	return Finding{OK, detail, ""}
}

func readLimit(path string) (int, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", path, err)
	}
	return n, nil
}
