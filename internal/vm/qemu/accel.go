// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"byre.dev/byre/internal/lockfile"
)

// probeLimit bounds the boot that tells whether an acceleration works: with one
// a machine is up in a fraction of a second.
const probeLimit = 8 * time.Second

// probeResult is what is remembered of a probe, for as long as the host runs
// and QEMU and the guest image stay.
type probeResult struct {
	Key   string `json:"key"`
	Accel string `json:"accel"`
	// Why says why there is no acceleration.
	Why string `json:"why,omitempty"`
}

// Acceleration tells what machines run with, and when that is TCG, why: it
// boots a machine to find out, unless it is known.
func (d *Driver) Acceleration(ctx context.Context) (accel, why string, err error) {
	r, err := d.probe(ctx)
	return r.Accel, r.Why, err
}

func (d *Driver) acceleration(ctx context.Context) (string, error) {
	r, err := d.probe(ctx)
	return r.Accel, err
}

func (d *Driver) probe(ctx context.Context) (probeResult, error) {
	if d.cfg.Accel != "" {
		return probeResult{Accel: d.cfg.Accel}, nil
	}
	if d.cfg.StateDir == "" {
		return d.examine(ctx, "")
	}
	key := d.version + " " + d.cfg.Image.Digests["vmlinux"] + " " + hostBoot()
	path := filepath.Join(d.cfg.StateDir, "acceleration.json")
	if r, ok := readProbe(path); ok && r.Key == key {
		return r, nil
	}
	// Processes that want to know at once find out, and warn, once.
	if err := os.MkdirAll(d.cfg.StateDir, 0o700); err != nil {
		return probeResult{}, fmt.Errorf("find out about acceleration: %w", err)
	}
	lock, err := lockfile.Wait(ctx, filepath.Join(d.cfg.StateDir, "acceleration.lock"))
	if err != nil {
		return probeResult{}, fmt.Errorf("find out about acceleration: %w", err)
	}
	defer lock.Close()
	if r, ok := readProbe(path); ok && r.Key == key {
		return r, nil
	}
	r, err := d.examine(ctx, key)
	if err != nil {
		return r, err
	}
	return r, d.rememberProbe(path, r)
}

// examine boots a machine with what this host might have. Only the end of ctx
// is an error: a host whose acceleration does not work has TCG.
func (d *Driver) examine(ctx context.Context, key string) (probeResult, error) {
	r := probeResult{Key: key, Accel: "tcg"}
	candidate, err := d.candidate()
	if err == nil {
		err = d.tryAccel(ctx, candidate)
	}
	switch {
	case ctx.Err() != nil:
		return r, ctx.Err()
	case err == nil:
		r.Accel = candidate
	default:
		r.Why = err.Error()
		d.cfg.Log.Warn("no hardware virtualisation: machines run on software emulation, which is slow", "err", err)
	}
	return r, nil
}

// candidateAccel is the acceleration that this host might have.
func candidateAccel() (string, error) {
	switch runtime.GOOS {
	case "darwin":
		return "hvf", nil
	case "linux":
		f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
		if err != nil {
			return "", err
		}
		return "kvm", f.Close()
	}
	return "", fmt.Errorf("none known for %s", runtime.GOOS)
}

// tryAccel boots a machine with an acceleration: a device that opens may still
// not run ordinary guests.
func (d *Driver) tryAccel(ctx context.Context, accel string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, d.probeLimit, fmt.Errorf("a guest does not start with it within %v", d.probeLimit))
	defer cancel()
	s := d.bootable(spec{name: "probe", accel: accel, cpus: 1, memory: 256 << 20})
	p, err := start(ctx, launch{binary: d.binary, spec: s, onEvent: func(event) {}})
	if err != nil {
		return fmt.Errorf("%s: %w", accel, err)
	}
	if err = p.awaitAgent(ctx, d.probeLimit); err != nil {
		err = fmt.Errorf("%s: %w", accel, err)
	}
	return errors.Join(err, p.close())
}

func readProbe(path string) (probeResult, bool) {
	var r probeResult
	b, err := os.ReadFile(path)
	return r, err == nil && json.Unmarshal(b, &r) == nil
}

func (d *Driver) rememberProbe(path string, r probeResult) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(d.cfg.StateDir, ".acceleration-*")
	if err != nil {
		return fmt.Errorf("remember acceleration: %w", err)
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("remember acceleration: %w", err), os.Remove(f.Name()))
	}
	return nil
}
