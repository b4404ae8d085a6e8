// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
)

// maxOOMScore is the most that the kernel takes.
const maxOOMScore = 1000

// easeOOMScore makes the shim, and the machine below it, go before containerd
// when memory runs out, as containerd's own shims do.
func easeOOMScore(pid int) error {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(os.Getppid()) + "/oom_score_adj")
	if err != nil {
		return fmt.Errorf("read OOM score of containerd: %w", err)
	}
	score, err := strconv.Atoi(string(bytes.TrimSpace(b)))
	if err != nil {
		return fmt.Errorf("read OOM score of containerd: %w", err)
	}
	path := "/proc/" + strconv.Itoa(pid) + "/oom_score_adj"
	err = os.WriteFile(path, strconv.AppendInt(nil, int64(min(score+1, maxOOMScore)), 10), 0)
	// A parent that may go below its own limits leaves us unable to follow.
	if err != nil && !errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("set OOM score of shim: %w", err)
	}
	return nil
}
