// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"byre.dev/byre/internal/guestapi"
	"byre.dev/byre/internal/localsock"
	"byre.dev/byre/internal/lockfile"
	"byre.dev/byre/internal/mux"
)

// An ext4 has one kernel. A machine that has a volume's disk therefore serves it
// to the others, by 9P from its guest: each loan is a connection between two
// shims, and at the lender's end a stream of its guest link. A machine whose last
// container is gone stays for as long as it lends.

const (
	// loanWait bounds the opening of a loan.
	loanWait = 30 * time.Second
	// maxLoans bounds the loans of one volume.
	maxLoans = 256
)

// granted is what the lender writes first; 9P follows.
const granted = 'l'

// loanSocket is where the machine that has a volume's disk takes those who
// borrow it; "" where there is no place for it.
func (s *Sandbox) loanSocket(source string) string {
	if s.cfg.SidecarDir == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(source))
	return filepath.Join(s.cfg.SidecarDir, "lent-"+hex.EncodeToString(sum[:6]))
}

// lend begins to lend a volume, unless it is lent already. Where it cannot be,
// this machine has it alone.
func (s *Sandbox) lend(h *heldVolume) {
	t := &s.volumes
	t.mu.Lock()
	defer t.mu.Unlock()
	path := s.loanSocket(h.source)
	if h.listener != nil || t.ended || path == "" {
		return
	}
	err := os.MkdirAll(s.cfg.SidecarDir, 0o700)
	var l net.Listener
	if err == nil {
		l, err = localsock.Listen(path)
	}
	if err != nil {
		s.log.Warn("volume cannot be lent to other machines", "volume", h.source, "err", err)
		return
	}
	h.listener = l
	s.work.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.work.Go(func() { s.serveLoan(h, conn) })
		}
	})
}

// serveLoan connects one borrower with the guest.
func (s *Sandbox) serveLoan(h *heldVolume, conn net.Conn) {
	defer conn.Close()
	if !s.volumes.begin(h) {
		return
	}
	defer s.endLoan(h)
	defer context.AfterFunc(s.lending, func() { _ = conn.Close() })()
	stream, err := s.openLoan(h)
	if err != nil {
		s.log.Warn("volume not lent", "volume", h.source, "err", s.Explain(err))
		return
	}
	defer stream.Close()
	defer context.AfterFunc(s.lending, func() { _ = stream.Close() })()
	if _, err := conn.Write([]byte{granted}); err != nil {
		return
	}
	mux.Join(conn, stream)
}

func (s *Sandbox) openLoan(h *heldVolume) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(s.lending, loanWait)
	defer cancel()
	return s.dialGuest(ctx, guestapi.Preface{Port: guestapi.PortVolume, Name: strconv.Itoa(h.disk.number)})
}

func (t *volumeTable) begin(h *heldVolume) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended || t.held[h.source] != h || h.loans >= maxLoans {
		return false
	}
	h.loans++
	return true
}

// endLoan takes a loan back. After the last one a volume that no container here
// uses is unplugged, or all of the machine is done with.
func (s *Sandbox) endLoan(h *heldVolume) {
	t := &s.volumes
	t.mu.Lock()
	h.loans--
	unused := h.loans == 0 && h.users == 0 && !t.ended
	t.mu.Unlock()
	if !unused {
		return
	}
	if len(s.Containers()) == 0 {
		s.cfg.OnReturned()
		return
	}
	ctx, cancel := context.WithTimeout(s.working, releaseWait)
	defer cancel()
	if err := s.lockSetup(ctx); err != nil {
		return
	}
	defer s.unlockSetup()
	if err := s.dropVolume(ctx, h); err != nil {
		s.log.Warn("volume not unplugged", "volume", h.source, "err", err)
	}
}

// StopLending ends the lending of volumes if nobody has borrowed one, and says
// whether nobody has.
func (s *Sandbox) StopLending() bool {
	t := &s.volumes
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.lends() {
		return false
	}
	t.end()
	return true
}

// Lends says whether another machine has borrowed a volume.
func (s *Sandbox) Lends() bool {
	s.volumes.mu.Lock()
	defer s.volumes.mu.Unlock()
	return s.volumes.lends()
}

// lends is Lends. The caller holds mu.
func (t *volumeTable) lends() bool {
	for _, h := range t.held {
		if h.loans > 0 {
			return true
		}
	}
	return false
}

// end refuses everyone from now on. The caller holds mu.
func (t *volumeTable) end() {
	t.ended = true
	for _, h := range t.held {
		h.endLending()
	}
}

// recall ends all loans: who has borrowed gets errors.
func (s *Sandbox) recall() {
	s.volumes.mu.Lock()
	s.volumes.end()
	s.volumes.mu.Unlock()
	s.endLoans()
}

// borrow connects with the machine that has a volume's disk. What is read and
// written is 9P.
func (s *Sandbox) borrow(ctx context.Context, source string) (net.Conn, error) {
	path := s.loanSocket(source)
	if path == "" {
		return nil, errors.New("machines without a directory for it neither lend nor borrow")
	}
	ctx, cancel := context.WithTimeout(ctx, loanWait)
	defer cancel()
	conn, err := localsock.Dial(ctx, path)
	if err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	first := make([]byte, 1)
	if _, err := io.ReadFull(conn, first); err != nil || first[0] != granted {
		return nil, errors.Join(fmt.Errorf("the machine that has the disk is about to end: %w", err), conn.Close())
	}
	return conn, nil
}

// mountBorrowed mounts another machine's volume for a container. The guest
// caches nothing of it, for nobody tells it what the lender's containers do.
func (c *Container) mountBorrowed(ctx context.Context, v VolumeSpec, lender net.Conn) error {
	sh := &share{spec: ShareSpec{Source: v.Source, Dest: v.Dest, Cache: CacheNone}, container: c.id, lender: lender}
	if err := c.sandbox.offer(ctx, sh); err != nil {
		return err
	}
	c.shares = append(c.shares, sh)
	m := &guestapi.Mount{Target: volumeDir(c.id, v.Index), Source: sh.guestSource()}
	if _, err := c.sandbox.link.guest.Mount(ctx, &guestapi.MountRequest{Mounts: []*guestapi.Mount{m}}); err != nil {
		return fmt.Errorf("mount in the guest: %w", err)
	}
	c.targets = append(c.targets, m.Target)
	if !v.Fill {
		return nil
	}
	// The lender's container wanted no fill, and several borrowers may.
	lock, err := lockfile.Wait(ctx, v.Source+".fill")
	if err != nil {
		return err
	}
	return errors.Join(c.fill(ctx, v.Dest, m.Target, false), lock.Close())
}
