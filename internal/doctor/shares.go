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
	var uncached []string
	var silent error
	asked := map[string]bool{}
	for _, file := range found {
		list, err := sharesOf(ctx, file, asked)
		silent = errors.Join(silent, err)
		for _, sh := range list {
			total++
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
	return Finding{OK, describeShares(cached, total, uncached), ""}
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
	info, err := shim.Info(ctx, &shimapi.InfoRequest{})
	return info.GetShares(), errors.Join(err, shim.Close())
}
