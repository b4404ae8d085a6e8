// SPDX-License-Identifier: Apache-2.0

package p9srv

import (
	"math"
	"slices"
)

// cut takes h's range out of what its owner holds in list.
func cut(list []held, h *held) []held {
	mine := func(o held) bool { return o.owner == h.owner && o.overlaps(h.start, h.end) }
	if !slices.ContainsFunc(list, mine) {
		return list
	}
	var rest []held
	for _, old := range list {
		if !mine(old) {
			rest = append(rest, old)
			continue
		}
		if old.start < h.start {
			left := old
			left.end = h.start - 1
			rest = append(rest, left)
		}
		if old.end > h.end {
			right := old
			right.start = h.end + 1
			rest = append(rest, right)
		}
	}
	return rest
}

// merge joins the last range with its neighbors of the same kind, so that a
// process that locks byte after byte does not fill the table.
func merge(list []held) []held {
	h := list[len(list)-1]
	rest := list[:0]
	for _, o := range list[:len(list)-1] {
		same := o.owner == h.owner && o.fid == h.fid && o.write == h.write
		switch {
		case same && o.end != math.MaxUint64 && o.end+1 == h.start:
			h.start = o.start
		case same && h.end != math.MaxUint64 && h.end+1 == o.start:
			h.end = o.end
		default:
			rest = append(rest, o)
		}
	}
	return append(rest, h)
}

// piece is a part of a range in which everything is locked alike.
type piece struct {
	start, end    uint64
	locked, write bool
}

// union cuts a range into pieces by what all owners together hold of it in a
// space.
func union(list []held, space LockSpace, start, end uint64) []piece {
	var over []held
	edges := []uint64{start}
	for _, h := range list {
		if h.space() != space || !h.overlaps(start, end) {
			continue
		}
		over = append(over, h)
		if h.start > start {
			edges = append(edges, h.start)
		}
		if h.end < end {
			edges = append(edges, h.end+1)
		}
	}
	slices.Sort(edges)
	edges = slices.Compact(edges)
	var all []piece
	for i, at := range edges {
		p := piece{start: at, end: end}
		if i+1 < len(edges) {
			p.end = edges[i+1] - 1
		}
		for k := range over {
			if over[k].overlaps(at, at) {
				p.locked, p.write = true, p.write || over[k].write
			}
		}
		all = join(all, p)
	}
	return all
}

// join appends p, or makes the last piece longer if it is of the same kind.
func join(all []piece, p piece) []piece {
	if n := len(all) - 1; n >= 0 && all[n].locked == p.locked && all[n].write == p.write {
		all[n].end = p.end
		return all
	}
	return append(all, p)
}
