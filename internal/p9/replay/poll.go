// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"errors"
	"io/fs"
	"strings"
	"time"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9srv"
	"byre.dev/byre/internal/watch"
)

// watch has the host tell of changes in d, and returns false if it does not.
// The directory is compared from time to time then; see Poll.
func (t *Tree) watch(d *dir) bool {
	if d == nil {
		return true
	}
	t.mu.Lock()
	path := t.pathLocked(d)
	t.mu.Unlock()
	err := error(linux.ENAMETOOLONG)
	if t.cfg.Watcher == nil {
		err = linux.EOPNOTSUPP
	} else if len(path) < linux.PathMax {
		err = t.cfg.Watcher.Add(d.id, path, d.node.FileID())
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case err == nil && d.gone:
		t.cfg.Watcher.Remove(d.id)
	case err == nil:
		d.watched = true
		t.unwatched--
	case d.gone:
	default:
		if errors.Is(err, fs.ErrNotExist) {
			// It moved or went meanwhile, which its own directory tells of.
			t.queueLocked(&hint{dir: d.self.dir, name: d.self.name, op: watch.Lost})
		}
		t.polled = append(t.polled, d)
		return false
	}
	return true
}

// pollNames is about how many names one Poll has compared.
const pollNames = 4096

// Poll has directories compared that the host does not tell of, those that
// have waited longest, until they hold some thousands of names that the guest
// knows. It asks for their watches once more, of which there may be some now.
func (t *Tree) Poll() {
	t.mu.Lock()
	next := t.nextPolledLocked()
	t.mu.Unlock()
	for i, d := range next {
		if t.watch(d) {
			continue
		}
		t.mu.Lock()
		t.polled = append(t.polled, next[i+1:]...)
		t.mu.Unlock()
		break
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, d := range next {
		t.resync = append(t.resync, survey{d, d.seen})
	}
	if len(next) > 0 {
		t.poke()
	}
}

// nextPolledLocked takes directories out of those that are to be polled; none
// while others are still being compared.
func (t *Tree) nextPolledLocked() []*dir {
	if len(t.resync) > 0 {
		return nil
	}
	var next []*dir
	for names := 0; names < pollNames && len(t.polled) > 0; {
		d := t.polled[0]
		t.polled[0] = nil
		t.polled = t.polled[1:]
		if !d.gone {
			next = append(next, d)
			names += 1 + len(d.entries)
		}
	}
	return next
}

// survey is a directory to be compared with what the guest knows of it.
type survey struct {
	dir *dir
	// since is when it was last known to be told of.
	since time.Time
}

// lostLocked has every directory of interest compared.
func (t *Tree) lostLocked() {
	t.stats.Resyncs++
	t.queue, t.index, t.renames = nil, map[place]*hint{}, 0
	t.resync = t.resync[:0]
	for _, d := range t.dirs {
		c := survey{d, t.since}
		if !d.watched {
			c.since = d.seen
		}
		t.resync = append(t.resync, c)
	}
	t.poke()
}

// compareNext queues hints for all that may have changed in the next directory
// that is to be compared; it returns false if there is none. Names that the
// guest does not know are told of if they are younger than what it was told
// last.
func (t *Tree) compareNext() bool {
	t.mu.Lock()
	if len(t.resync) == 0 {
		t.mu.Unlock()
		return false
	}
	c := t.resync[len(t.resync)-1]
	t.resync = t.resync[:len(t.resync)-1]
	d := c.dir
	if d.gone {
		t.mu.Unlock()
		return true
	}
	node := d.node.Clone()
	t.mu.Unlock()
	defer node.Release()
	young := t.appeared(c, node)
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, e := range d.entries {
		if !e.gone {
			t.queueLocked(&hint{dir: d, name: name, op: watch.Lost})
		}
	}
	for _, name := range young {
		t.queueLocked(&hint{dir: d, name: name, op: watch.Create | watch.Modify | watch.Close})
	}
	return true
}

// appeared returns the names in a directory that the guest does not know and
// that are younger than what it was told last. The directory is not listed if
// its own times say that none have come.
func (t *Tree) appeared(c survey, node p9srv.Node) []string {
	begin := time.Now().Add(-clockStep)
	var a p9.Attr
	told := node.Getattr(p9.AttrAll, &a) == 0
	t.mu.Lock()
	d := c.dir
	same := told && a.Mtime == d.mtime && !after(a.Mtime, d.seen)
	d.seen, d.mtime = begin, a.Mtime
	t.mu.Unlock()
	if same {
		return nil
	}
	var strange []string
	list(node, func(name string) {
		t.mu.Lock()
		defer t.mu.Unlock()
		if d.entries[name] == nil {
			strange = append(strange, name)
		}
	})
	return younger(node, strange, c.since)
}

// list calls f for the names in a directory.
func list(dir p9srv.Node, f func(name string)) {
	file, e := dir.Open(0)
	if e != 0 {
		return
	}
	defer file.Close()
	for off, more := uint64(0), true; more; {
		more = false
		e := file.Readdir(off, func(d *p9.Dirent) bool {
			off, more = d.Offset, true
			if d.Name != "." && d.Name != ".." {
				f(strings.Clone(d.Name))
			}
			return true
		})
		if e != 0 {
			return
		}
	}
}

// younger returns the names whose files changed after since.
func younger(dir p9srv.Node, names []string, since time.Time) []string {
	young := names[:0]
	for _, name := range names {
		n, st := look(dir, name)
		if n == nil {
			continue
		}
		n.Release()
		if after(st.ctime, since) {
			young = append(young, name)
		}
	}
	return young
}
