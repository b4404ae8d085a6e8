// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types"

	"byre.dev/byre/internal/shimapi"
	"byre.dev/byre/internal/vm"
)

// Spare is a running machine that waits to be a sandbox's, see Config.Spare. It
// has had a container, of which nothing is left but what the host's emulation
// learned by it.
type Spare struct {
	machine vm.Machine
	link    *link

	closeOnce sync.Once
	closeErr  error
}

const (
	// rehearsals is how many containers a spare machine has had: the second goes
	// the ways that only a machine takes that has had one.
	rehearsals = 2
	// renewWait bounds the renewal of a spare machine. One that does not answer
	// is worth less than a new one.
	renewWait = 3 * time.Second
)

// Warm starts a machine by cfg and rehearses containers of the specification
// given in it, whose process must end by itself. ctx bounds the call.
func Warm(ctx context.Context, cfg Config, spec Converted) (*Spare, error) {
	cfg.warm = true
	if path := filepath.Join(cfg.Dir, cfg.ID+".net"); len(path) <= maxSocketPath {
		deaf, err := listenDeaf(path)
		if err != nil {
			return nil, fmt.Errorf("rehearse: %w", err)
		}
		defer deaf.close()
		cfg.Network = deaf.network()
	}
	s, err := Start(ctx, cfg)
	if err != nil {
		return nil, err
	}
	for range rehearsals {
		if err := s.rehearse(ctx, spec); err != nil {
			return nil, s.abandon(err)
		}
	}
	if err := s.SetNetwork(ctx, &shimapi.Network{}); err != nil {
		return nil, s.abandon(err)
	}
	spare, err := s.retire(ctx)
	if err != nil {
		return nil, s.abandon(err)
	}
	return spare, nil
}

// maxSocketPath is the shortest limit of our systems, macOS's, less one. Where
// the directory's name is longer, the rehearsal goes without a network.
const maxSocketPath = 103

// deafSwitch is a switch for rehearsals: it takes frames and sends none.
type deafSwitch struct {
	path string
	l    net.Listener
	work sync.WaitGroup
}

func listenDeaf(path string) (_ *deafSwitch, err error) {
	d := &deafSwitch{path: path}
	if d.l, err = net.Listen("unix", path); err != nil {
		return nil, err
	}
	d.work.Go(func() {
		for {
			conn, err := d.l.Accept()
			if err != nil {
				return
			}
			d.work.Go(func() { // ends when the card is detached, or its machine
				_, _ = io.Copy(io.Discard, conn)
				_ = conn.Close()
			})
		}
	})
	return d, nil
}

// network connects a machine to the switch, which nothing outside ever sees.
func (d *deafSwitch) network() *shimapi.Network {
	return &shimapi.Network{
		Links: []shimapi.Link{{
			Socket: d.path, MAC: "02:00:00:00:00:02",
			Addresses: []string{"192.168.127.2/24"}, Gateway: "192.168.127.1",
		}},
		Nameservers: []string{"192.168.127.1"},
	}
}

// close ends the switch once the machine has left it.
func (d *deafSwitch) close() {
	_ = d.l.Close() // and removes the socket
	d.work.Wait()
}

// abandon ends a machine in which there is nothing to lose.
func (s *Sandbox) abandon(err error) error {
	err = fmt.Errorf("rehearse: %w", withConsole(err, s.machine))
	return errors.Join(err, s.machine.Close(), s.Close())
}

// rehearse does to a container what a short one goes through: disks, an
// overlay of them, a task with its streams, and the end of all that.
func (s *Sandbox) rehearse(ctx context.Context, spec Converted) error {
	id := s.cfg.ID
	names := [...]string{id + "/stdout", id + "/stderr"}
	var copies sync.WaitGroup
	defer copies.Wait()
	opened := make(chan error, len(names))
	for _, name := range names {
		copies.Go(func() {
			conn, err := s.OpenStream(ctx, name)
			opened <- err
			if err != nil {
				return
			}
			defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
			_, _ = io.Copy(io.Discard, conn)
			_ = conn.Close()
		})
	}
	scratch := filepath.Join(s.cfg.Dir, "scratch-"+id+".ext4")
	defer func() { _ = os.Remove(scratch) }() // the directory goes with the spare
	cfg := CreateConfig{ID: id, Spec: spec, Root: s.rehearsalRoot(scratch), Stdout: names[0], Stderr: names[1]}
	c, _, err := s.Create(ctx, cfg)
	for range names {
		err = errors.Join(err, <-opened)
	}
	if err != nil {
		return err
	}
	task := s.Task()
	if _, err := task.Start(ctx, &taskapi.StartRequest{ID: id}); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	if _, err := task.Wait(ctx, &taskapi.WaitRequest{ID: id}); err != nil {
		return fmt.Errorf("wait: %w", err)
	}
	if _, err := task.Delete(ctx, &taskapi.DeleteRequest{ID: id}); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	return c.Release(ctx)
}

// rehearsalRoot is a root file system like an image's: a scratch disk over a
// layer, for which the scratch disks' template stands, which has no files.
func (s *Sandbox) rehearsalRoot(scratch string) RootPlan {
	return RootPlan{
		Disks: []RootDisk{
			{Path: scratch, FSType: "ext4", Size: AnySize},
			{Path: s.cfg.Scratch, FSType: "ext4", ReadOnly: true},
		},
		Stack: &types.Mount{Type: "format/mkdir/overlay", Source: "overlay", Options: []string{
			"upperdir={{ mount 0 }}/upper", "workdir={{ mount 0 }}/work", "lowerdir={{ mount 1 }}",
		}},
	}
}

// retire makes a spare of a sandbox without containers: what goes on beside
// calls ends, and the link is made anew, so that no call is under way in the
// guest.
func (s *Sandbox) retire(ctx context.Context) (*Spare, error) {
	s.mu.Lock()
	s.closed = true
	left := len(s.containers)
	s.mu.Unlock()
	if left > 0 {
		return nil, errors.New("containers are left")
	}
	s.stop()
	s.shares.closeAll()
	s.work.Wait()
	if err := s.link.close(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, agentWait)
	defer cancel()
	l, err := newLink(ctx, s.machine, s.cfg, s.link.secret)
	if err != nil {
		return nil, err
	}
	return &Spare{machine: s.machine, link: l}, nil
}

// renew makes the machine another's than its maker's: seed, clock, names and
// the link's secret are new, as a clone's are.
func (sp *Spare) renew(ctx context.Context, cfg Config) error {
	select {
	case <-sp.machine.Done():
		return errors.New("the machine has ended")
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, renewWait)
	defer cancel()
	return sp.link.renew(ctx, cfg)
}

// Info describes the machine.
func (sp *Spare) Info() vm.Info { return sp.machine.Info() }

// Done is closed when the machine has ended.
func (sp *Spare) Done() <-chan struct{} { return sp.machine.Done() }

// Close ends the machine of a spare that no sandbox has taken.
func (sp *Spare) Close() error {
	sp.closeOnce.Do(func() { sp.closeErr = errors.Join(sp.link.close(), sp.machine.Close()) })
	return sp.closeErr
}
