// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
)

const (
	imageSuffix = ".ext4"
	tempPrefix  = ".new-"
)

// Cache is a directory of layer images, by diffID. An image is in it whole and
// verified, or not at all: it is made under another name, synced and renamed.
// All methods may be called concurrently. One process may use a directory.
type Cache struct {
	dir string

	mu sync.Mutex
	// making holds the conversions under way, by what their caller expects to
	// come out; guarded by mu.
	making map[digest.Digest]making
	// pins counts the users of an image that no snapshot names yet; guarded by mu.
	pins map[digest.Digest]int
}

// making is closed by who converts, whatever the outcome.
type making chan struct{}

// Open opens the cache in dir, which is made if it is not there, and removes
// what an interrupted conversion left.
func Open(dir string) (*Cache, error) {
	c := &Cache{
		dir:    filepath.Join(dir, digest.Canonical.String()),
		making: map[digest.Digest]making{}, pins: map[digest.Digest]int{},
	}
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return nil, fmt.Errorf("open layer cache: %w", err)
	}
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return nil, fmt.Errorf("open layer cache: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), tempPrefix) {
			if err := os.Remove(filepath.Join(c.dir, e.Name())); err != nil {
				return nil, fmt.Errorf("remove unfinished layer image: %w", err)
			}
		}
	}
	return c, nil
}

// Path is where the image of a layer is, once it is in the cache. DiffIDs are
// sha256 digests, as in every image there is.
func (c *Cache) Path(diffID digest.Digest) string {
	return filepath.Join(c.dir, diffID.Encoded()+imageSuffix)
}

// Get pins the image of a layer if it is in the cache. The caller calls release
// once the image is named by a snapshot, or no longer needed.
func (c *Cache) Get(diffID digest.Digest) (release func(), ok bool) {
	if diffID.Validate() != nil || diffID.Algorithm() != digest.Canonical {
		return nil, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if st, err := os.Lstat(c.Path(diffID)); err != nil || !st.Mode().IsRegular() {
		return nil, false
	}
	return c.pinLocked(diffID), true
}

func (c *Cache) pinLocked(diffID digest.Digest) func() {
	c.pins[diffID]++
	return sync.OnceFunc(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.pins[diffID]--; c.pins[diffID] <= 0 {
			delete(c.pins, diffID)
		}
	})
}

// Put converts the layer that open yields and adds its image, unless an image of
// the same layer is there. The result is pinned as by Get. Where the caller
// knows the diffID beforehand it says so in want, else it is empty: concurrent
// calls that want the same layer convert it once, and a layer that turns out to
// be another is refused. After an error nothing is left behind.
func (c *Cache) Put(ctx context.Context, want digest.Digest, open func() (io.ReadCloser, error)) (Info, func(), error) {
	for want != "" {
		if release, ok := c.Get(want); ok {
			return Info{DiffID: want}, release, nil
		}
		m, mine := c.begin(want)
		if mine {
			info, release, err := c.convert(ctx, want, open)
			c.end(want, m)
			return info, release, err
		}
		select {
		case <-m:
		case <-ctx.Done():
			return Info{}, nil, ctx.Err()
		}
		// The other caller's failure may be its own (given up, a source that
		// broke); try with ours.
	}
	return c.convert(ctx, "", open)
}

func (c *Cache) begin(want digest.Digest) (making, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m, ok := c.making[want]; ok {
		return m, false
	}
	m := make(making)
	c.making[want] = m
	return m, true
}

func (c *Cache) end(want digest.Digest, m making) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.making, want)
	close(m)
}

func (c *Cache) convert(ctx context.Context, want digest.Digest, open func() (io.ReadCloser, error)) (info Info, release func(), err error) {
	f, err := os.CreateTemp(c.dir, tempPrefix)
	if err != nil {
		return Info{}, nil, fmt.Errorf("make layer image: %w", err)
	}
	defer func() {
		f.Close()
		if err != nil {
			err = errors.Join(err, removeIfThere(f.Name()))
		}
	}()
	info, err = convertOpened(ctx, f, open)
	if err != nil {
		return Info{}, nil, err
	}
	if want != "" && info.DiffID != want {
		return Info{}, nil, fmt.Errorf("%w: its contents are %s, the image names %s", ErrFormat, info.DiffID, want)
	}
	if err := f.Chmod(0o400); err != nil {
		return Info{}, nil, fmt.Errorf("make layer image: %w", err)
	}
	if err := f.Sync(); err != nil {
		return Info{}, nil, fmt.Errorf("write layer image: %w", err)
	}
	if err := f.Close(); err != nil {
		return Info{}, nil, fmt.Errorf("write layer image: %w", err)
	}
	release, err = c.publish(f.Name(), info.DiffID)
	return info, release, err
}

// convertOpened reads a layer once, or three times if a file is in it twice.
func convertOpened(ctx context.Context, f *os.File, open func() (io.ReadCloser, error)) (info Info, err error) {
	read := func(fn func(io.Reader) error) error {
		r, err := open()
		if err != nil {
			return fmt.Errorf("open layer: %w", err)
		}
		defer r.Close()
		return fn(&contextReader{ctx, r})
	}
	var skip map[int]bool
	once := func(r io.Reader) (err error) {
		info, err = convert(f, r, skip)
		return err
	}
	if err := read(once); !errors.Is(err, errReplaced) {
		return info, err
	}
	err = read(func(r io.Reader) (err error) {
		skip, err = replaced(r)
		return err
	})
	if err != nil {
		return info, err
	}
	if err := f.Truncate(0); err != nil {
		return info, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return info, err
	}
	return info, read(once)
}

// publish renames a finished image to its place, or drops it if there is one.
func (c *Cache) publish(temp string, diffID digest.Digest) (func(), error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := os.Lstat(c.Path(diffID)); err == nil {
		return c.pinLocked(diffID), os.Remove(temp)
	}
	if err := os.Rename(temp, c.Path(diffID)); err != nil {
		return nil, fmt.Errorf("add layer image: %w", err)
	}
	if err := syncDir(c.dir); err != nil {
		return nil, fmt.Errorf("add layer image: %w", err)
	}
	return c.pinLocked(diffID), nil
}

// Retain removes the images that neither used names nor anybody has pinned, and
// returns how many. Used is asked with the cache locked: an image pinned before
// it is named is seen either way. An image that cannot be removed (in Windows,
// one that a machine has open) stays for the next time; the error names it.
func (c *Cache) Retain(used func() (map[digest.Digest]struct{}, error)) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	keep, err := used()
	if err != nil {
		return 0, err
	}
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return 0, fmt.Errorf("clean layer cache: %w", err)
	}
	n := 0
	var errs []error
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), imageSuffix)
		if !ok {
			continue
		}
		id := digest.NewDigestFromEncoded(digest.Canonical, name)
		if _, ok := keep[id]; ok || c.pins[id] > 0 {
			continue
		}
		if err := os.Remove(filepath.Join(c.dir, e.Name())); err != nil {
			errs = append(errs, err)
			continue
		}
		n++
	}
	return n, errors.Join(errs...)
}

func removeIfThere(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// contextReader ends a conversion between two reads when it is given up.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
