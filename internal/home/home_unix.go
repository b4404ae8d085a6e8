// SPDX-License-Identifier: Apache-2.0

//go:build unix

package home

import (
	"errors"
	"path/filepath"
)

func platformDir(getenv func(string) string) (Dir, error) {
	if p := getenv("XDG_DATA_HOME"); filepath.IsAbs(p) {
		return Dir(filepath.Join(p, "byre")), nil
	}
	if p := getenv("HOME"); p != "" {
		return Dir(filepath.Join(p, ".local", "share", "byre")), nil
	}
	return "", errors.New("find state directory: neither " + Env + ", XDG_DATA_HOME nor HOME is set")
}
