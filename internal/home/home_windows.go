// SPDX-License-Identifier: Apache-2.0

package home

import (
	"errors"
	"path/filepath"
)

func platformDir(getenv func(string) string) (Dir, error) {
	if p := getenv("ProgramData"); p != "" {
		return Dir(filepath.Join(p, "byre")), nil
	}
	return "", errors.New("find state directory: neither " + Env + " nor ProgramData is set")
}
