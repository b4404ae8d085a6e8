// SPDX-License-Identifier: Apache-2.0

// Package replay keeps a guest's view of a tree true when the host changes the
// tree, and makes the guest see each such change as it happens.
//
// A guest that caches names, attributes and contents asks for them once. So
// that it learns of the host's changes, its agent repeats each of them on the
// mount as an ordinary system call, under a user of its own ([UID]). The
// guest's kernel does what it does for any such call: it sends the request,
// and after the server's success changes its caches and tells watchers. The
// requests of this user arrive on an attach of their own, on which nothing
// reaches the tree: a request succeeds if it is one that was announced, and
// the tree is already as it would make it.
//
// A [Tree] wraps a tree for this. It remembers what the guest holds: the
// directories that it has looked into, whose host directories are watched,
// and the names that it has walked to, each with the state that the guest was
// told. An event of the host is only a hint that a name may have changed:
// [Tree.Plan] compares the tree with what the guest knows and makes [Step]s of
// the difference. What the guest changed itself is known already, so that it
// is never told of its own changes, and events that are merged, doubled or
// lost do no harm.
//
// The guest is hostile. The attach for replay gives it nothing that the other
// attach does not: reads are the same, a change that was not announced is
// refused, and what it holds is bounded by its fids, [Config.MaxIdleDirs] and [Config.MaxDirs].
// Acknowledging an announced change harms nobody else.
//
// Tree.mu guards everything that the guest is known to hold. While it is held
// nothing of the tree below is called but Clone and Release, and of the
// Watcher only Remove.
package replay

import (
	"sync"
	"time"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9srv"
	"byre.dev/byre/internal/watch"
)

// UID is the user under which the guest's agent repeats the host's changes.
const UID = 0x7ffffff0

// Watcher watches host directories; [watch.Watcher] is one but for the
// identity's type. Its methods must not call the Tree.
type Watcher interface {
	// Add watches the directory at path below the root, which must be file.
	Add(id watch.ID, path string, file p9srv.FileID) error
	// Remove ends that.
	Remove(id watch.ID)
}

// Config describes a Tree.
type Config struct {
	// Root is the root of the tree below. The Tree takes references of its
	// own; the caller keeps this one until Close has returned.
	Root p9srv.Node
	// Watcher is told of directories that the guest looks into.
	Watcher Watcher
	// Single says that the tree is a directory for the sake of one file,
	// which is its name, whatever file has it: it never goes or comes.
	Single bool
	// Reclaims says that the guest's kernel gives up what it has cached of a
	// file when that is opened once more and not to be cached
	// (kernel/patches/0018).
	Reclaims bool
	// MaxIdleDirs bounds the directories that are remembered although the
	// guest has no fid of them, and none of what is in them; 0 means
	// DefaultMaxIdleDirs.
	MaxIdleDirs int
	// MaxDirs bounds all directories that are remembered; 0 means
	// DefaultMaxDirs. A directory beyond is not followed: the guest is told
	// to cache no contents of the files in it, and is not told of changes to
	// what it keeps of their names and attributes.
	MaxDirs int
}

const (
	// DefaultMaxIdleDirs is what MaxIdleDirs is if it is not set.
	DefaultMaxIdleDirs = 1 << 16
	// DefaultMaxDirs is what MaxDirs is if it is not set. A client that has
	// a fid of each directory that it knows, as Linux's does, does not get
	// there.
	DefaultMaxDirs = p9srv.DefaultMaxFIDs
)

// Tree is a tree as one guest knows it. Its methods may be called
// concurrently, Plan and Finish by one goroutine.
type Tree struct {
	cfg  Config
	root *entry
	wake chan struct{}

	mu sync.Mutex
	// The rest is guarded by mu.

	// dirs are the directories of interest, nextDir the next one's ID.
	dirs    map[watch.ID]*dir
	nextDir watch.ID
	// idle are names that no node refers to, idleDirs directories.
	idle, idleDirs ring
	// forgot is when something was first forgotten of which the guest may
	// have an inode left, and whose changes it is not told of since.
	forgot time.Time
	// forgotten are the directories among that, by the paths of their QIDs;
	// forgotAny says that not all of them are known.
	forgotten map[uint64]struct{}
	forgotAny bool
	// polled are directories that the host does not tell of, those first that
	// have not been compared for longest; unwatched counts them, with those
	// that are being compared.
	polled    []*dir
	unwatched int
	// links are what the guest knows of files with several names.
	links links
	// opens are files that the guest has open for writing.
	opens map[p9srv.FileID]*opened
	// queue holds the hints, renames of which are renames; index finds those
	// that more can be added to.
	queue   []*hint
	renames int
	// splits counts plans in which a rename had to wait for steps before it,
	// since the queue was last made shorter. It is Plan's own.
	splits int
	index  map[place]*hint
	// resync are directories to be compared whole; since is when the host
	// last told of what it is to tell of.
	resync []survey
	since  time.Time
	// armed are the steps that the agent may take now, in order.
	armed  map[place][]*armed
	ghosts uint64
	stats  Stats
	closed bool
}

// Stats tells what a Tree does.
type Stats struct {
	// Dirs counts directories of interest; Unwatched those of them that the
	// host does not tell of; Untracked counts how often one beyond MaxDirs was
	// found, since the start.
	Dirs, Unwatched, Untracked int
	// Steps counts what was told to the guest, Resyncs lost events.
	Steps, Resyncs uint64
	// Failed counts steps that the guest did not take after several tries.
	Failed uint64
}

// New returns a Tree. The root is of interest from the start.
func New(cfg Config) *Tree {
	if cfg.MaxDirs <= 0 {
		cfg.MaxDirs = DefaultMaxDirs
	}
	if cfg.MaxIdleDirs <= 0 {
		cfg.MaxIdleDirs = DefaultMaxIdleDirs
	}
	t := &Tree{
		cfg: cfg, wake: make(chan struct{}, 1), dirs: map[watch.ID]*dir{},
		opens: map[p9srv.FileID]*opened{}, index: map[place]*hint{}, armed: map[place][]*armed{},
		root: &entry{refs: 1, known: true}, since: time.Now(),
	}
	t.idle.init()
	t.idleDirs.init()
	t.mu.Lock()
	d := t.newDirLocked(t.root, cfg.Root.Clone())
	t.mu.Unlock()
	t.watch(d)
	return t
}

// Attach chooses the root of a Tattach, for [p9srv.Server.Attach].
func (t *Tree) Attach(a p9srv.Attach) (p9srv.Node, linux.Errno) {
	t.mu.Lock()
	t.root.refs++
	t.mu.Unlock()
	if a.UID == UID {
		return &mirror{t: t, e: t.root, inner: t.cfg.Root.Clone()}, 0
	}
	return &node{Node: t.cfg.Root.Clone(), t: t, e: t.root}, 0
}

// Wake delivers a value when there may be something to plan.
func (t *Tree) Wake() <-chan struct{} { return t.wake }

func (t *Tree) poke() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// Stats returns what the Tree does.
func (t *Tree) Stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.stats
	s.Dirs, s.Unwatched = len(t.dirs), t.unwatched
	return s
}

// Close gives up what the Tree holds of the tree below. No node of it may be
// in use, nor may other methods be called any more.
func (t *Tree) Close() {
	t.mu.Lock()
	t.closed = true
	all := make([]p9srv.Node, 0, len(t.dirs))
	for _, d := range t.dirs {
		all = append(all, d.node)
	}
	t.dirs = map[watch.ID]*dir{}
	t.mu.Unlock()
	for _, n := range all {
		n.Release()
	}
}

// state is what the guest was told of a file.
type state struct {
	id    p9.QID
	size  uint64
	mtime p9.Time
	ctime p9.Time
	mode  linux.Mode
	owner p9srv.Owner
	// linked says that the file has several names.
	linked bool
}

func stateOf(a *p9.Attr) state {
	return state{
		id: a.QID, size: a.Size, mtime: a.Mtime, ctime: a.Ctime, mode: a.Mode,
		owner: p9srv.Owner{UID: a.UID, GID: a.GID}, linked: a.Nlink > 1 && !a.Mode.IsDir(),
	}
}

// sameContents says whether b can be taken for having a's contents.
func (a *state) sameContents(b *state) bool { return a.size == b.size && a.mtime == b.mtime }

// sameAttributes says whether a and b look the same besides. A directory's
// times change with its names, of which there are events of their own.
func (a *state) sameAttributes(b *state) bool {
	if a.mode != b.mode || a.owner != b.owner {
		return false
	}
	return a.mode.IsDir() || a.mtime == b.mtime && a.ctime == b.ctime
}

// look asks the tree for a name's state now. The node is released by the
// caller; nil means that there is no such name.
func look(dir p9srv.Node, name string) (p9srv.Node, state) {
	n, e := dir.Walk(name)
	if e != 0 {
		return nil, state{}
	}
	var a p9.Attr
	if n.Getattr(p9.AttrAll, &a) != 0 {
		n.Release()
		return nil, state{}
	}
	return n, stateOf(&a)
}
