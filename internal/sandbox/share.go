// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/containerd/errdefs"

	"byre.dev/byre/internal/guestapi"
	"byre.dev/byre/internal/hostfs"
	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/mux"
	"byre.dev/byre/internal/p9/p9srv"
	"byre.dev/byre/internal/p9/replay"
)

// shareMsize is the message size asked of v9fs: the most its fd transport takes.
const shareMsize = 1 << 20

// share is a directory or file of the host at the guest's disposal.
type share struct {
	spec ShareSpec
	// container is the ID of the container that it belongs to.
	container string
	// name is the opaque name that the guest knows it by.
	name string
	fs   *hostfs.FS
	// root is fs's, referenced.
	root p9srv.Node
	// lender is the other end where another machine serves the files; fs and root
	// are nil then.
	lender net.Conn
	// replay has the guest follow the host, nil where it caches nothing.
	replay *replayer
	// locks are the sandbox's: two shares may hold the same file.
	locks *p9srv.Locks
	// transport is how its bytes travel.
	transport guestapi.Share_Transport
	// requests counts what the guest has asked for.
	requests atomic.Uint64
	// cancel ends the servers; served waits for them.
	cancel context.CancelFunc
	ctx    context.Context //nolint:containedctx // the life of the servers, not of a call
	served sync.WaitGroup
}

// shareTable knows the shares offered, by name.
type shareTable struct {
	mu sync.Mutex
	// byName and next are guarded by mu.
	byName map[string]*share
	next   int
}

func (t *shareTable) insert(sh *share) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byName == nil {
		t.byName = map[string]*share{}
	}
	sh.name = fmt.Sprintf("s%d", t.next)
	t.next++
	t.byName[sh.name] = sh
}

func (t *shareTable) remove(sh *share) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.byName, sh.name)
}

// enter finds a share for a stream of the link and counts a server of it.
func (t *shareTable) enter(name string) (*share, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	sh := t.byName[name]
	if sh == nil || sh.transport != guestapi.Share_LINK {
		return nil, errors.New("there is no such share")
	}
	sh.served.Add(1)
	return sh, nil
}

func (t *shareTable) closeAll() {
	t.mu.Lock()
	all := make([]*share, 0, len(t.byName))
	for _, sh := range t.byName {
		all = append(all, sh)
	}
	t.byName = nil
	t.mu.Unlock()
	for _, sh := range all {
		_ = sh.close() // read-only handles of a machine that is gone
	}
}

func (t *shareTable) list() []*share {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]*share, 0, len(t.byName))
	for _, sh := range t.byName {
		all = append(all, sh)
	}
	slices.SortFunc(all, func(a, b *share) int { return len(a.name) - len(b.name) })
	return all
}

// close ends the servers and closes the export.
func (sh *share) close() error {
	if sh.replay != nil {
		sh.replay.stop()
	}
	sh.cancel()
	sh.served.Wait()
	if sh.lender != nil {
		_ = sh.lender.Close() // closed already if it served
		return nil
	}
	var err error
	if sh.replay != nil {
		err = sh.replay.close()
	}
	sh.root.Release()
	return errors.Join(err, sh.fs.Close())
}

// serve answers 9P on conn until the share or the connection ends. The caller
// has counted it in served.
func (sh *share) serve(conn net.Conn) error {
	defer sh.served.Done()
	if sh.lender != nil {
		return sh.pass(conn)
	}
	srv := &p9srv.Server{Root: sh.root, Msize: shareMsize, Locks: sh.locks, Requests: &sh.requests}
	if sh.replay != nil {
		srv.Attach = sh.replay.tree.Attach
	}
	return srv.Serve(sh.ctx, conn)
}

// guestSource describes the share to the guest.
func (sh *share) guestSource() *guestapi.Mount_Share {
	return &guestapi.Mount_Share{Share: &guestapi.Share{
		Name: sh.name, Transport: sh.transport, Cache: sh.spec.Cache, Msize: shareMsize, PosixAcl: true,
	}}
}

// pass has the lender answer on conn.
func (sh *share) pass(conn net.Conn) error {
	defer context.AfterFunc(sh.ctx, func() {
		_ = conn.Close()
		_ = sh.lender.Close()
	})()
	mux.Join(conn, sh.lender)
	return errLenderGone
}

var errLenderGone = errors.New("the machine that has the volume's disk ended the connection: files of the volume give errors until the container is restarted")

// attachShares opens shares, gives each a way into the guest and returns the
// mounts. The caller holds setup.
func (c *Container) attachShares(ctx context.Context, specs []ShareSpec) ([]*guestapi.Mount, error) {
	var mounts []*guestapi.Mount
	for _, spec := range specs {
		sh, err := c.sandbox.openShare(ctx, c.id, spec)
		if err != nil {
			return nil, fmt.Errorf("share %s for %s: %w", spec.Source, spec.Dest, err)
		}
		c.shares = append(c.shares, sh)
		mounts = append(mounts, sh.spec.guestMount(c.id, sh.guestSource()))
	}
	return mounts, nil
}

// mapped says whether shares keep owners beside the files, for want of the
// right to set them.
func mapped() bool { return os.Geteuid() != 0 }

// nameOwners puts numbers in the place of a user's name, which the guest finds
// in the root file system that it has mounted. A name that it does not find is
// refused with the task: here root stays the owner.
func (c *Container) nameOwners(ctx context.Context, specs []ShareSpec) []ShareSpec {
	specs = slices.Clone(specs)
	for i := range specs {
		sp := &specs[i]
		if sp.UserName == "" {
			continue
		}
		u, err := c.sandbox.link.guest.LookupUser(ctx, &guestapi.UserRequest{ContainerId: c.id, Name: sp.UserName})
		if err != nil {
			c.sandbox.log.Info("owner of a share is root", "share", sp.Source, "container", c.id, "err", c.sandbox.Explain(err))
			continue
		}
		sp.User, sp.Group = u.Uid, u.Gid
	}
	return specs
}

// namesOwner says whether a share's owner depends on a name.
func namesOwner(specs []ShareSpec) bool {
	return mapped() && slices.ContainsFunc(specs, func(s ShareSpec) bool { return s.UserName != "" && s.UID == nil })
}

func (s *Sandbox) openShare(ctx context.Context, container string, spec ShareSpec) (*share, error) {
	spec.Fill = spec.Fill && isEmptyDir(spec.Source)
	// What is filled is written to once, by the guest's agent; the container's
	// own mount is read-only by its option.
	cfg := hostfs.Config{Path: spec.Source, ReadOnly: spec.ReadOnly && !spec.Fill, Mapped: mapped(), Log: s.log}
	cfg.UID, cfg.GID = spec.User, spec.Group
	if spec.UID != nil && spec.GID != nil {
		cfg.Mapped, cfg.UID, cfg.GID = true, *spec.UID, *spec.GID
	}
	if cfg.Mapped && s.cfg.SidecarDir != "" {
		sum := sha256.Sum256([]byte(spec.Source))
		cfg.Sidecar = filepath.Join(s.cfg.SidecarDir, hex.EncodeToString(sum[:12]))
	}
	if s.cfg.SidecarDir != "" {
		cfg.LockDir = filepath.Join(s.cfg.SidecarDir, "locks")
		if err := os.MkdirAll(cfg.LockDir, 0o700); err != nil {
			return nil, err
		}
	}
	fs, err := hostfs.Open(cfg)
	if err != nil {
		return nil, err
	}
	sh := &share{spec: spec, container: container, fs: fs, root: fs.Root(), locks: &s.locks}
	s.chooseCache(sh)
	if err := s.offer(ctx, sh); err != nil {
		return nil, err
	}
	return sh, nil
}

// offer gives a share a way into the guest. A share that it fails for is closed.
func (s *Sandbox) offer(ctx context.Context, sh *share) error {
	sh.ctx, sh.cancel = context.WithCancel(context.WithoutCancel(ctx))
	s.shares.insert(sh)
	conn, err := s.machine.AddPort(ctx, guestapi.SharePortPrefix+sh.name)
	switch {
	case errdefs.IsResourceExhausted(err) || errdefs.IsNotImplemented(err):
		s.shares.setTransport(sh, guestapi.Share_LINK)
		return nil
	case err != nil:
		s.shares.remove(sh)
		return errors.Join(err, sh.close())
	}
	sh.served.Add(1)
	go s.logServe(sh, conn) // share.close waits for it by served
	return nil
}

// chooseCache has the guest cache the share if it can be told of what others
// change in it, and not otherwise.
func (s *Sandbox) chooseCache(sh *share) {
	if sh.spec.Cache == CacheNone || sh.spec.Static {
		return
	}
	sh.spec.Cache = CacheLoose
	log := s.log.With("share", sh.spec.Source, "container", sh.container)
	dir, err := watchedDir(sh.spec)
	if err == nil {
		sh.replay, err = newReplayer(dir, &s.watches, replay.Config{
			Root: sh.root, Single: sh.spec.File,
			Reclaims: slices.Contains(s.link.features, guestapi.FeaturePort9P),
		}, log)
	}
	if err != nil {
		sh.spec.Cache = CacheNone
		log.Info("share is not cached: the host does not tell of changes to it", "err", err)
	}
}

// follow has the guest, which has mounted the container's shares, be told of
// what the host changes in them.
func (c *Container) follow() {
	for _, sh := range c.shares {
		if sh.replay == nil {
			continue
		}
		target := shareDir(c.id, sh.spec.Index)
		sh.replay.start(func(ctx context.Context, steps []*replay.Step) ([]linux.Errno, error) {
			return c.sandbox.replaySteps(ctx, target, steps)
		})
	}
}

func (t *shareTable) setTransport(sh *share, tr guestapi.Share_Transport) {
	t.mu.Lock()
	defer t.mu.Unlock()
	sh.transport = tr
}

func (s *Sandbox) logServe(sh *share, conn net.Conn) {
	err := sh.serve(conn)
	if err != nil && sh.ctx.Err() == nil && s.working.Err() == nil {
		s.log.Error("share ended", "share", sh.spec.Source, "container", sh.container, "err", err)
	}
}

// releaseShare takes a share that the guest has unmounted away. The caller
// holds setup.
func (s *Sandbox) releaseShare(ctx context.Context, sh *share) error {
	s.shares.remove(sh)
	if sh.lender != nil {
		sh.cancel() // lest the port's end is taken for the lender's
	}
	var err error
	if sh.transport == guestapi.Share_VIRTIO_PORT {
		err = s.machine.RemovePort(ctx, guestapi.SharePortPrefix+sh.name)
	}
	return errors.Join(err, sh.close())
}

// maxLinkShares bounds the 9P streams that a guest may hold open over the link.
const maxLinkShares = 64

// serveLinkShares takes streams of shares that have no port of their own.
func (s *Sandbox) serveLinkShares(ctx context.Context) error {
	if err := s.serveStreams(ctx, guestapi.PortShare, maxLinkShares, s.serveLinkShare); err != nil {
		return fmt.Errorf("listen for shares: %w", err)
	}
	return nil
}

func (s *Sandbox) serveLinkShare(_ context.Context, conn net.Conn) {
	p, err := s.admit(conn, guestapi.PortShare)
	if err != nil {
		return
	}
	sh, err := s.shares.enter(p.Name)
	if err != nil {
		s.refuse(conn, err)
		return
	}
	if err := accept(conn); err != nil {
		sh.served.Done()
		return
	}
	s.logServe(sh, conn)
}

// ShareInfo describes a share at work.
type ShareInfo struct {
	Container, Source, Dest, Cache string
	ReadOnly                       bool
	// Transport is "port" or "link".
	Transport string
	// Unwatched counts directories that are compared from time to time for
	// want of the host's watches, Untracked those beyond what is followed.
	Unwatched, Untracked int
	// Requests counts what the guest has asked for, Told the host's changes
	// that it was told of.
	Requests, Told uint64
}

// Shares lists the shares at work.
func (s *Sandbox) Shares() []ShareInfo {
	var out []ShareInfo
	for _, sh := range s.shares.list() {
		transport := "port"
		if sh.transport == guestapi.Share_LINK {
			transport = "link"
		}
		info := ShareInfo{
			Container: sh.container, Source: sh.spec.Source, Dest: sh.spec.Dest,
			Cache: sh.spec.Cache, ReadOnly: sh.spec.ReadOnly, Transport: transport,
			Requests: sh.requests.Load(),
		}
		if sh.replay != nil {
			st := sh.replay.tree.Stats()
			info.Unwatched, info.Untracked, info.Told = st.Unwatched, st.Untracked, st.Steps
		}
		out = append(out, info)
	}
	return out
}
