// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"os"
	"path"
	"slices"
)

// dockerSockets are names under which tools bind the daemon's socket into a
// container, on any host: the daemon that is asked is the one that is meant.
var dockerSockets = []string{"/var/run/docker.sock", "/run/docker.sock", "//var/run/docker.sock", "//run/docker.sock"}

// ownSocket says whether a bind's source is this daemon's socket: under one of
// the names above, under its own, or through symbolic links to it.
func (e *Engine) ownSocket(source string) bool {
	if e.cfg.Socket == "" {
		return false
	}
	if slices.Contains(dockerSockets, source) || source == e.cfg.Socket || path.Clean(source) == e.cfg.Socket {
		return true
	}
	there, err := os.Stat(source)
	if err != nil {
		return false
	}
	own, err := os.Stat(e.cfg.Socket)
	return err == nil && os.SameFile(own, there)
}

// hostSource is what the shim is given as a mount's source.
func (e *Engine) hostSource(m Mount) string {
	if m.Socket {
		return e.cfg.Socket
	}
	return m.Source
}
