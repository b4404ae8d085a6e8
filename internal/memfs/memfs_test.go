// SPDX-License-Identifier: Apache-2.0

package memfs_test

import (
	"testing"

	"byre.dev/byre/internal/memfs"
	"byre.dev/byre/internal/p9/p9srv"
	"byre.dev/byre/internal/p9/p9test"
)

func TestMemoryKeepsTheContract(t *testing.T) {
	root := p9test.Attach(t, &p9srv.Server{Root: memfs.New().Root()}, 0)
	p9test.Run(t, p9test.Client(root, 0), p9test.Traits{})
}
