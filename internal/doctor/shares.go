// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"byre.dev/byre/internal/home"
	"byre.dev/byre/internal/shimapi"
)

// bundles is where containerd keeps a directory for each task, below the
// state directory.
const bundles = "run/io.containerd.runtime.v2.task/byre"

// shares tells how the running machines' shares are cached.
func shares(ctx context.Context, dir home.Dir) Finding {
	found, err := filepath.Glob(filepath.Join(dir.Path(filepath.FromSlash(bundles)), "*", shimapi.BootstrapFile))
	if err != nil {
		return Finding{Warning, err.Error(), ""}
	}
	cached, total := 0, 0
	var unwatched, untracked, requests, told uint64
	var uncached []string
	var silent error
	asked := map[string]bool{}
	for _, file := range found {
		list, err := sharesOf(ctx, file, asked)
		silent = errors.Join(silent, err)
		for _, sh := range list {
			total++
			unwatched, untracked = unwatched+sh.GetUnwatched(), untracked+sh.GetUntracked()
			requests, told = requests+sh.GetRequests(), told+sh.GetTold()
			if sh.Cache == "none" {
				uncached = append(uncached, sh.Source)
			} else {
				cached++
			}
		}
	}
	if silent != nil {
		return Finding{Warning, fmt.Sprintf("a machine does not tell of its shares: %v", silent), ""}
	}
	detail := describeShares(cached, total, uncached)
	if total > 0 {
		detail += fmt.Sprintf("; requests so far: %d, changes told: %d", requests, told)
	}
	return behind(detail, unwatched, untracked)
}

// behind adds to what shares found what containers learn late, or not at all.
func behind(detail string, unwatched, untracked uint64) Finding {
	switch {
	case untracked > 0:
		return Finding{Warning, fmt.Sprintf("%s; directories that are too many to follow: %d", detail, untracked),
			"Files in them are not cached, but containers go on to see names and attributes there that the host has changed. Share smaller trees, or with -v SOURCE:TARGET:consistent."}
	case unwatched > 0:
		return Finding{Warning, fmt.Sprintf("%s; directories without a watch of the host's: %d", detail, unwatched),
			"They are compared in turn, some thousands of names every two seconds. A machine takes a quarter of fs.inotify.max_user_watches: raise it with sysctl."}
	}
	return Finding{OK, detail, ""}
}

// describeShares says in a phrase what shares found.
func describeShares(cached, total int, uncached []string) string {
	if total == 0 {
		return "none in use"
	}
	detail := fmt.Sprintf("%d in use, %d cached (loose) and told of the host's changes", total, cached)
	if len(uncached) > 0 {
		slices.Sort(uncached)
		detail += fmt.Sprintf(", %d not cached (none): %s", len(uncached), strings.Join(slices.Compact(uncached), ", "))
	}
	return detail
}

// sharesOf asks a shim that was not asked before, by the file that tells of it.
func sharesOf(ctx context.Context, file string, asked map[string]bool) ([]*shimapi.Share, error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // it has just ended
	}
	if err != nil {
		return nil, err
	}
	address, err := shimapi.Address(b)
	if err != nil || asked[address] {
		return nil, err
	}
	asked[address] = true
	shim, err := shimapi.Dial(ctx, address)
	if err != nil {
		return nil, nil // left by one that was killed
	}
	resp, err := shim.Shares(ctx, &shimapi.SharesRequest{})
	return resp.GetShares(), errors.Join(err, shim.Close())
}
