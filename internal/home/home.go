// SPDX-License-Identifier: Apache-2.0

// Package home says where byre keeps its state: one directory, versioned,
// owned by the user who runs it.
//
//	version        layout version; a newer one is refused
//	daemon.lock    held by the daemon for as long as it lives
//	docker.sock    the Docker API
//	serve.log      the daemon's log
//	containerd/    content, metadata, snapshots, layers
//	run/           containerd's sockets, shims' bundles
//	containers/ networks/ volumes/   the engine's objects
//	template/      saved machines, one per key
package home

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Env is the environment variable that moves all state.
const Env = "BYRE_HOME"

// LayoutVersion is the version of the directory's layout.
const LayoutVersion = "1"

// maxSocketPath leaves room below the 108 bytes that sun_path has on Linux
// (104 on macOS) for the longest name below the directory.
const maxSocketPath = 103

// Dir is byre's state directory, an absolute path.
type Dir string

// Find returns the state directory from the environment: $BYRE_HOME, else the
// place that the host's conventions give it. It does not make it.
func Find(getenv func(string) string) (Dir, error) {
	if p := getenv(Env); p != "" {
		abs, err := filepath.Abs(p)
		if err != nil {
			return "", fmt.Errorf("resolve %s=%s: %w", Env, p, err)
		}
		return Dir(abs), nil
	}
	return platformDir(getenv)
}

// TakenError says that another daemon holds a state directory.
type TakenError struct {
	Dir Dir
	// Process is the other's, "" where it is not known.
	Process string
}

// Error says who has it and what to do.
func (e *TakenError) Error() string {
	by := ""
	if e.Process != "" {
		by = " (process " + e.Process + ")"
	}
	return fmt.Sprintf("another byre daemon%s serves %s: stop it first, or set %s to another directory", by, e.Dir, Env)
}

// Path joins names to the directory.
func (d Dir) Path(names ...string) string {
	return filepath.Join(append([]string{string(d)}, names...)...)
}

// Holder returns the process that was the last to become the directory's daemon,
// in decimal as it wrote it into daemon.pid; "" if there was none. It is known
// before that daemon answers.
func (d Dir) Holder() string {
	b, err := os.ReadFile(d.Path("daemon.pid"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// Prepare makes the directory if it is missing, readable by its owner alone,
// and checks the layout's version.
func (d Dir) Prepare() error {
	if n := len(d.Path("docker.sock")); n > maxSocketPath {
		return fmt.Errorf("state directory %s: its socket's path has %d bytes, over the %d that the system allows: set %s to a shorter path",
			d, n, maxSocketPath, Env)
	}
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return fmt.Errorf("make state directory: %w", err)
	}
	b, err := os.ReadFile(d.Path("version"))
	if errors.Is(err, fs.ErrNotExist) {
		return d.writeVersion()
	}
	if err != nil {
		return fmt.Errorf("read version of state directory: %w", err)
	}
	if v := strings.TrimSpace(string(b)); v != LayoutVersion && v != "" {
		return fmt.Errorf("state directory %s has layout version %q, this byre knows %q: use the byre that made it, or set %s to another directory",
			d, v, LayoutVersion, Env)
	}
	return nil
}

// writeVersion writes the version whole or not at all; others may be writing
// it, too.
func (d Dir) writeVersion() (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write version of state directory: %w", err)
		}
	}()
	tmp, err := os.CreateTemp(string(d), ".version.")
	if err != nil {
		return err
	}
	_, err = tmp.WriteString(LayoutVersion + "\n")
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), d.Path("version"))
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return nil
}
