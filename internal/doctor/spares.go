// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"byre.dev/byre/internal/home"
	"byre.dev/byre/internal/shimapi"
	"byre.dev/byre/internal/spare"
)

// spareWait bounds the look whether a spare machine is there.
const spareWait = time.Second

// spares tells how many machines are kept warm.
func spares(dir home.Dir) Finding {
	found, err := filepath.Glob(dir.Path(spare.Dir, "*"+shimapi.SpareSuffix))
	if err != nil {
		return Finding{Warning, err.Error(), ""}
	}
	warm, since := 0, time.Time{}
	for _, path := range found {
		s, err := readSpare(path)
		if err != nil {
			continue // taken, or ended, since
		}
		warm++
		if since.IsZero() || s.Since.Before(since) {
			since = s.Since
		}
	}
	if warm == 0 {
		return Finding{OK, "none is warm: one is made after a container has been started (" + spare.Env + " says how many)", ""}
	}
	return Finding{OK, fmt.Sprintf("%d warm since %s, for the next container; it goes after %v without one",
		warm, since.Local().Format(time.TimeOnly), spare.DefaultIdle), ""}
}

// readSpare reads what a spare shim says of itself and looks whether it is
// there.
func readSpare(path string) (s shimapi.Spare, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, fmt.Errorf("read %s: %w", path, err)
	}
	conn, err := net.DialTimeout("unix", s.Socket, spareWait)
	if err != nil {
		return s, errors.Join(errors.New("spare shim is gone"), err)
	}
	return s, conn.Close()
}
