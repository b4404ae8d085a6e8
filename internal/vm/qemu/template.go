// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"byre.dev/byre/internal/lockfile"
)

// settleLimit bounds how long a machine to be saved may take to give its free
// memory back; the guest reports every two seconds.
const settleLimit = 8 * time.Second

// maxTemplates is how many templates are kept; the oldest go first.
const maxTemplates = 4

// template is a saved machine: a directory that is never changed once it has
// its name.
type template struct {
	dir string
	// sizes is template.json.
	sizes templateSizes
}

// templateSizes is written last: a template without it, or of other sizes, is
// damaged.
type templateSizes struct {
	Memory int64 `json:"memory"`
	State  int64 `json:"state"`
}

func (t template) memory() string { return filepath.Join(t.dir, "memory") }
func (t template) state() string  { return filepath.Join(t.dir, "state") }

// templateKey names everything that a saved machine depends on.
func (d *Driver) templateKey(s spec) string {
	s.name, s.warm = "", false
	h := sha256.New()
	fmt.Fprintln(h, "layout 2", d.version, d.cfg.Image.Digests["vmlinux"], d.cfg.Image.Digests["initrd"])
	fmt.Fprintln(h, strings.Join(args(d.bootable(s)), "\x00"))
	return hex.EncodeToString(h.Sum(nil))[:24]
}

// template returns the template for machines like s and makes it when there is
// none. Processes that want the same one at once make it once.
func (d *Driver) template(ctx context.Context, s spec) (template, error) {
	key := d.templateKey(s)
	if t, err := openTemplate(filepath.Join(d.cfg.StateDir, key)); err == nil {
		return t, nil
	}
	if err := os.MkdirAll(d.cfg.StateDir, 0o700); err != nil {
		return template{}, fmt.Errorf("make template directory: %w", err)
	}
	lock, err := lockfile.Wait(ctx, filepath.Join(d.cfg.StateDir, "lock"))
	if err != nil {
		return template{}, err
	}
	defer lock.Close()
	dir := filepath.Join(d.cfg.StateDir, key)
	if t, err := openTemplate(dir); err == nil {
		return t, nil
	}
	if err := d.sweep(dir); err != nil {
		return template{}, err
	}
	d.cfg.Log.Info("making the template that machines are cloned from", "key", key)
	if err := d.makeTemplate(ctx, s, dir); err != nil {
		return template{}, fmt.Errorf("make template: %w", err)
	}
	return openTemplate(dir)
}

func openTemplate(dir string) (template, error) {
	t := template{dir: dir}
	b, err := os.ReadFile(filepath.Join(dir, "template.json"))
	if err != nil {
		return t, err
	}
	if err := json.Unmarshal(b, &t.sizes); err != nil {
		return t, fmt.Errorf("read template: %w", err)
	}
	for path, size := range map[string]int64{t.memory(): t.sizes.Memory, t.state(): t.sizes.State} {
		fi, err := os.Stat(path)
		if err != nil {
			return t, err
		}
		if fi.Size() != size {
			return t, fmt.Errorf("template is damaged: %s has %d bytes of %d", path, fi.Size(), size)
		}
	}
	return t, nil
}

// sweep removes what a killed process left of templates in the making, and the
// oldest templates. The lock is held.
func (d *Driver) sweep(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove damaged template: %w", err)
	}
	entries, err := os.ReadDir(d.cfg.StateDir)
	if err != nil {
		return fmt.Errorf("read template directory: %w", err)
	}
	var kept []fs.FileInfo
	for _, e := range entries {
		fi, err := e.Info()
		switch {
		case err != nil || !e.IsDir():
		case strings.HasPrefix(e.Name(), ".making-"):
			if err := os.RemoveAll(filepath.Join(d.cfg.StateDir, e.Name())); err != nil {
				return fmt.Errorf("remove unfinished template: %w", err)
			}
		default:
			kept = append(kept, fi)
		}
	}
	for len(kept) >= maxTemplates {
		oldest := 0
		for i := range kept {
			if kept[i].ModTime().Before(kept[oldest].ModTime()) {
				oldest = i
			}
		}
		if err := os.RemoveAll(filepath.Join(d.cfg.StateDir, kept[oldest].Name())); err != nil {
			return fmt.Errorf("remove old template: %w", err)
		}
		kept = append(kept[:oldest], kept[oldest+1:]...)
	}
	return nil
}

// makeTemplate boots a machine, saves it and gives the result its name.
func (d *Driver) makeTemplate(ctx context.Context, s spec, dir string) (err error) {
	if err := d.cfg.Image.Verify(); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(d.cfg.StateDir, ".making-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(tmp))
		}
	}()
	memory, err := newMemoryFile(s.memory)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, memory.Close()) }()
	s.name, s.warm = "template", false
	if err := d.saveBooted(ctx, s, memory, filepath.Join(tmp, "state")); err != nil {
		return err
	}
	sizes := templateSizes{Memory: int64(s.memory)}
	if err := writeMemory(filepath.Join(tmp, "memory"), memory, sizes.Memory); err != nil {
		return err
	}
	fi, err := os.Stat(filepath.Join(tmp, "state"))
	if err != nil {
		return err
	}
	sizes.State = fi.Size()
	b, err := json.Marshal(sizes)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(tmp, "template.json"), b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, dir)
}

func writeMemory(path string, memory *os.File, size int64) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Truncate(size); err != nil {
		return err
	}
	if err := copyMemory(f, memory, size); err != nil {
		return err
	}
	return f.Sync()
}

// saveBooted boots a machine on memory and writes the state of its devices to
// path.
func (d *Driver) saveBooted(ctx context.Context, s spec, memory *os.File, path string) (err error) {
	migration := make(chan string, 8)
	p, err := start(ctx, launch{binary: d.binary, spec: d.bootable(s), memory: memory, onEvent: migrationStatus(migration)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	if err := p.awaitAgent(ctx, bootLimit); err != nil {
		return err
	}
	settle(ctx, memory)
	if err := p.monitor.run(ctx, "stop", nil, nil); err != nil {
		return err
	}
	return p.save(ctx, path, migration)
}

// settle waits until the guest has given back the memory that it does not use.
func settle(ctx context.Context, memory *os.File) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(settleLimit)
	for last, same := int64(-1), 0; same < 5; {
		select {
		case <-tick.C:
		case <-deadline:
			return
		case <-ctx.Done():
			return
		}
		now := allocated(memory)
		if now != last {
			same = 0
		}
		last, same = now, same+1
	}
}

// migrationStatus passes the states of a migration on.
func migrationStatus(to chan<- string) func(event) {
	return func(e event) {
		var data struct {
			Status string `json:"status"`
		}
		if e.Name != "MIGRATION" || json.Unmarshal(e.Data, &data) != nil {
			return
		}
		select {
		case to <- data.Status:
		default: // nobody waits any more
		}
	}
}

func awaitMigration(ctx context.Context, p *process, states <-chan string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, loadLimit, fmt.Errorf("not done within %v", loadLimit))
	defer cancel()
	for {
		select {
		case s := <-states:
			switch s {
			case "completed":
				return nil
			case "failed", "cancelled":
				return p.explain(fmt.Errorf("QEMU says %s", s))
			}
		case <-p.monitor.done:
			return p.explain(errMonitorClosed)
		case <-ctx.Done():
			return p.explain(context.Cause(ctx))
		}
	}
}

// ignoreShared leaves memory files out of the saved state, and asks for the
// migration's events.
func (p *process) ignoreShared(ctx context.Context) error {
	type capability struct {
		Capability string `json:"capability"`
		State      bool   `json:"state"`
	}
	return p.monitor.run(ctx, "migrate-set-capabilities", map[string]any{
		"capabilities": []capability{{"x-ignore-shared", true}, {"events", true}},
	}, nil)
}

// save writes the state of the devices of a stopped machine to path.
func (p *process) save(ctx context.Context, path string, states <-chan string) (err error) {
	if err := p.ignoreShared(ctx); err != nil {
		return err
	}
	ours, theirs, err := socketPair("saved state")
	if err != nil {
		return err
	}
	defer ours.Close()
	err = p.monitor.runWithFile(ctx, theirs, "getfd", map[string]any{"fdname": "state"}, nil)
	if err := errors.Join(err, theirs.Close()); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	copied := make(chan error, 1)
	go func() { // ends with the socket, which QEMU closes when it is done
		_, err := io.Copy(f, ours)
		copied <- err
	}()
	if err := p.monitor.run(ctx, "migrate", map[string]any{"uri": "fd:state"}, nil); err != nil {
		return err
	}
	if err := awaitMigration(ctx, p, states); err != nil {
		return fmt.Errorf("save machine: %w", err)
	}
	select {
	case err := <-copied:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
