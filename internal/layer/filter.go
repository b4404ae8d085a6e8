// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"
)

const (
	whiteoutPrefix = ".wh."
	opaqueMarker   = ".wh..wh..opq"
	opaqueXattr    = "SCHILY.xattr.trusted.overlay.opaque"
	xattrRecord    = "SCHILY.xattr."
	lostFound      = "lost+found"
)

// lostFoundState is what becomes of the lost+found that the writer always makes.
type lostFoundState int

const (
	lostFoundDrop lostFoundState = iota
	lostFoundKeep
	lostFoundWhiteout
)

// filter is a tar stream made from a layer's tar stream, a member at a time:
//
//   - names are relative and clean; absolute ones count from the image's root, as
//     with other engines, and ".." is refused;
//   - whiteouts come at the end, as overlayfs wants them, where their order among
//     the layer's own members does not matter;
//   - a file or link that is there twice counts as it is last. The writer cannot
//     take back what it has written, so the first reading ends with errReplaced
//     and a second one skips what replaced finds. Engines make no such layers,
//     other tools do. No other kind of member may replace one or be replaced;
//   - sparse files are expanded, metadata for other tools is left out, and a file
//     without times of access and change gets that of its contents.
type filter struct {
	in *tar.Reader
	// out is what is left of the current header, then body is read, then pad.
	out  bytes.Buffer
	body int64
	pad  int
	done bool
	err  error

	// skip holds the members to leave out, by their number; n is the current one's.
	skip map[int]bool
	n    int

	// seen holds the type of every member by its clean name; dirs the headers
	// of directories, for those that turn out to be opaque.
	seen      map[string]byte
	dirs      map[string]*tar.Header
	whiteouts map[string]struct{}
	opaque    map[string]struct{}
	lostFound lostFoundState
}

// errReplaced is a member that takes the place of an earlier one.
var errReplaced = errors.New("it is there twice")

func newFilter(r io.Reader, skip map[int]bool) *filter {
	return &filter{
		in:        tar.NewReader(r),
		skip:      skip,
		n:         -1,
		seen:      map[string]byte{},
		dirs:      map[string]*tar.Header{},
		whiteouts: map[string]struct{}{},
		opaque:    map[string]struct{}{},
	}
}

func (f *filter) Read(p []byte) (int, error) {
	for f.err == nil {
		switch {
		case f.out.Len() > 0:
			return f.out.Read(p)
		case f.body > 0:
			return f.readBody(p)
		case f.pad > 0:
			n := min(f.pad, len(p))
			clear(p[:n])
			f.pad -= n
			return n, nil
		case f.done:
			return 0, io.EOF
		}
		f.err = f.next()
	}
	return 0, f.err
}

func (f *filter) readBody(p []byte) (int, error) {
	n, err := f.in.Read(p[:min(int64(len(p)), f.body)])
	f.body -= int64(n)
	if err == io.EOF && f.body == 0 {
		err = nil
	}
	if err != nil {
		f.err = formatError(err)
		err = f.err
	}
	return n, err
}

// next takes one member from the input and puts its header into out, or the end.
func (f *filter) next() error {
	h, err := f.in.Next()
	if err == io.EOF {
		f.done = true
		return f.finish()
	}
	if err != nil {
		return formatError(err)
	}
	f.n++
	if h.Typeflag == tar.TypeXGlobalHeader || f.skip[f.n] {
		return nil
	}
	name, err := cleanName(h.Name)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrEntry, h.Name, err)
	}
	if dir, base := path.Split(name); strings.HasPrefix(base, whiteoutPrefix) {
		return f.whiteout(strings.TrimSuffix(dir, "/"), base)
	}
	out, err := f.member(name, h)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrEntry, h.Name, err)
	}
	return f.emit(out)
}

// whiteout notes a marker; other markers with this prefix are aufs's own.
func (f *filter) whiteout(dir, base string) error {
	switch {
	case base == opaqueMarker:
		f.opaque[dir] = struct{}{}
	case strings.HasPrefix(base, whiteoutPrefix+whiteoutPrefix):
	case base == whiteoutPrefix, base == whiteoutPrefix+".", base == whiteoutPrefix+"..":
		return fmt.Errorf("%w: %s/%s: whiteout without a name", ErrEntry, dir, base)
	default:
		f.whiteouts[path.Join(dir, base[len(whiteoutPrefix):])] = struct{}{}
	}
	return nil
}

// member makes the header of one member and checks it against those before it.
func (f *filter) member(name string, h *tar.Header) (*tar.Header, error) {
	out := &tar.Header{
		Name: name, Typeflag: h.Typeflag, Mode: h.Mode & 0o7777, Uid: h.Uid, Gid: h.Gid,
		ModTime: h.ModTime, AccessTime: h.AccessTime, ChangeTime: h.ChangeTime,
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		out.Typeflag, out.Size = tar.TypeReg, h.Size
		if h.Size > MaxFileSize {
			return nil, fmt.Errorf("file of %d bytes is larger than a layer may hold", h.Size)
		}
	case tar.TypeDir, tar.TypeFifo:
	case tar.TypeSymlink:
		out.Linkname = h.Linkname
	case tar.TypeLink:
		target, err := cleanName(h.Linkname)
		if err != nil {
			return nil, err
		}
		out.Linkname = target
	case tar.TypeChar, tar.TypeBlock:
		out.Devmajor, out.Devminor = h.Devmajor, h.Devminor
	default:
		return nil, fmt.Errorf("unknown type %q", h.Typeflag)
	}
	if err := f.place(name, out); err != nil {
		return nil, err
	}
	f.times(out, h)
	return out, nil
}

// place checks that a member fits in the tree so far and records it.
func (f *filter) place(name string, h *tar.Header) error {
	if name == lostFound || strings.HasPrefix(name, lostFound+"/") {
		f.lostFound = lostFoundKeep
	}
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		typ, ok := f.seen[dir]
		if ok && typ != tar.TypeDir {
			return fmt.Errorf("%s is %s, not a directory", dir, typeName(typ))
		}
		if ok {
			break
		}
		f.seen[dir] = tar.TypeDir
	}
	old, ok := f.seen[name]
	if name == "." {
		old, ok = tar.TypeDir, true
	}
	switch {
	case !ok, old == tar.TypeDir && h.Typeflag == tar.TypeDir:
	case replaceable(old) && replaceable(h.Typeflag):
		return errReplaced
	default:
		return fmt.Errorf("%s replaces %s of the same layer", typeName(h.Typeflag), typeName(old))
	}
	typ := h.Typeflag
	if typ == tar.TypeLink {
		target, ok := f.seen[h.Linkname]
		if !ok || target == tar.TypeDir {
			return fmt.Errorf("hard link to %s, which is not a file of this layer", h.Linkname)
		}
		typ = target
	}
	f.seen[name] = typ
	if typ == tar.TypeDir {
		f.dirs[name] = h
	}
	return nil
}

// replaceable are the types of which the last of a name counts.
func replaceable(typ byte) bool {
	switch typ {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse, tar.TypeSymlink, tar.TypeLink:
		return true
	}
	return false
}

// replaced reads a layer and returns the numbers of the members that a later
// one of the same name replaces.
func replaced(r io.Reader) (map[int]bool, error) {
	s := startStream(r)
	defer s.close()
	in := tar.NewReader(s)
	last, skip := map[string]int{}, map[int]bool{}
	for n := 0; ; n++ {
		h, err := in.Next()
		if err == io.EOF {
			return skip, nil
		}
		if err != nil {
			return nil, formatError(err)
		}
		name, err := cleanName(h.Name)
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrEntry, h.Name, err)
		}
		if !replaceable(h.Typeflag) {
			continue
		}
		if old, ok := last[name]; ok {
			skip[old] = true
		}
		last[name] = n
	}
}

// times fills in what a member leaves out and takes over extended attributes.
// The GNU form carries all three times in the header itself; the PAX form, with
// its second header, is for what needs it.
func (f *filter) times(out, h *tar.Header) {
	if out.ChangeTime.IsZero() {
		out.ChangeTime = out.ModTime
	}
	if out.AccessTime.IsZero() {
		out.AccessTime = out.ModTime
	}
	out.Format = tar.FormatGNU
	for _, t := range []time.Time{out.ModTime, out.AccessTime, out.ChangeTime} {
		if t.Nanosecond() != 0 || t.Unix() < 0 {
			out.Format = tar.FormatPAX
		}
	}
	for k, v := range h.PAXRecords {
		if strings.HasPrefix(k, xattrRecord) {
			setRecord(out, k, v)
		}
	}
}

func setRecord(h *tar.Header, k, v string) {
	if h.PAXRecords == nil {
		h.PAXRecords = map[string]string{}
	}
	h.PAXRecords[k] = v
	h.Format = tar.FormatPAX
}

// emit queues a header; the body that belongs to it is read from the input.
func (f *filter) emit(h *tar.Header) error {
	w := tar.NewWriter(&f.out)
	if err := w.WriteHeader(h); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrEntry, h.Name, err)
	}
	f.body = h.Size
	f.pad = int(-h.Size & 511)
	return nil
}

// finish queues whiteouts and opaque directories, in the order of their names.
func (f *filter) finish() error {
	for _, name := range slices.Sorted(maps.Keys(f.whiteouts)) {
		typ, ok := f.seen[name]
		switch {
		case ok && typ == tar.TypeDir:
			// Removed below and made anew here: nothing below shows through.
			f.opaque[name] = struct{}{}
		case ok:
		case name == lostFound:
			f.lostFound = lostFoundWhiteout
		default:
			if err := f.add(&tar.Header{Name: name, Typeflag: tar.TypeChar, Format: tar.FormatGNU}); err != nil {
				return err
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(f.opaque)) {
		h := f.dirs[name]
		if h == nil {
			h = &tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755}
		}
		setRecord(h, opaqueXattr, "y")
		if err := f.add(h); err != nil {
			return err
		}
	}
	return nil
}

// add queues a member of our own, checked like any other.
func (f *filter) add(h *tar.Header) error {
	if err := f.place(h.Name, h); err != nil {
		return fmt.Errorf("%w: whiteout of %s: %w", ErrEntry, h.Name, err)
	}
	return f.emit(h)
}

// cleanName makes a member's name relative to the root.
func cleanName(name string) (string, error) {
	if slices.Contains(strings.Split(name, "/"), "..") {
		return "", fmt.Errorf("%q leads out of the layer", name)
	}
	if strings.ContainsRune(name, 0) {
		return "", fmt.Errorf("%q holds a NUL", name)
	}
	clean := path.Clean("/" + name)[1:]
	if clean == "" {
		clean = "."
	}
	return clean, nil
}

func formatError(err error) error {
	switch {
	case errors.Is(err, tar.ErrHeader):
		return fmt.Errorf("%w: not a tar archive: %w", ErrFormat, err)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: truncated: %w", ErrFormat, err)
	}
	return fmt.Errorf("%w: %w", ErrFormat, err)
}

func typeName(t byte) string {
	switch t {
	case tar.TypeReg:
		return "a file"
	case tar.TypeDir:
		return "a directory"
	case tar.TypeSymlink:
		return "a symbolic link"
	case tar.TypeChar, tar.TypeBlock:
		return "a device"
	case tar.TypeFifo:
		return "a pipe"
	case tar.TypeLink:
		return "a hard link"
	}
	return fmt.Sprintf("type %q", t)
}
