// SPDX-License-Identifier: Apache-2.0

// Package snapshot is containerd's snapshotter "byre" and the differ that goes
// with it. Nothing in it mounts anything or needs a privilege: a snapshot is a
// list of disk files, which the shim attaches to a machine and the guest mounts.
//
// A committed snapshot is one layer: a name for a read-only ext4 image in the
// cache of package layer, shared by all snapshots of the same diffID. The differ
// makes that image; a layer that is in the cache already is not unpacked again
// (the snapshot is "staged" in containerd's terms). An active snapshot has a
// scratch disk, a sparse copy of a template. An image leaves the cache when no
// snapshot names it any more (Cleanup, called by containerd's garbage
// collector, and New).
//
// # Mounts
//
// Mounts are those of containerd's own erofs snapshotter in block mode, with ext4
// in place of erofs and a scratch that is there already, so that a shim reads
// both with one parser. The types and templates are those of containerd's mount
// manager (core/mount/manager); a shim that claims them gets them untouched.
// With L for <root>/layers/sha256/<hex of diffID>.ext4 and S for
// <root>/snapshots/<id>/scratch.ext4, layers from top to bottom:
//
// An active snapshot on two layers or more:
//
//	{ext4, S, [rw loop]}
//	{ext4, L_top, [ro loop]}
//	{ext4, L_bottom, [ro loop]}
//	{format/mkdir/overlay, overlay, [
//	    X-containerd.mkdir.path={{ mount 0 }}/upper:0755
//	    X-containerd.mkdir.path={{ mount 0 }}/work:0755
//	    workdir={{ mount 0 }}/work
//	    upperdir={{ mount 0 }}/upper
//	    lowerdir={{ overlay 1 2 }}]}
//
// on one layer the same with lowerdir={{ mount 1 }}, and on none:
//
//	{ext4, S, [rw loop]}
//	{format/mkdir/bind, {{ mount 0 }}/upper, [
//	    X-containerd.mkdir.path={{ mount 0 }}/upper:0755 rw rbind]}
//
// A view of one layer, then of several; a view of nothing is one of the image
// of an empty layer:
//
//	{ext4, L, [ro loop]}
//
//	{ext4, L_top, [ro loop]}
//	{ext4, L_bottom, [ro loop]}
//	{format/mkdir/overlay, overlay, [lowerdir={{ overlay 0 1 }}]}
//
// An active snapshot whose layer is there (staged, or applied and not yet
// committed) is read-only: {ext4, L, [ro loop]} on no parent, else its layer on
// top of its parents' and an overlay with the option ro and without upperdir.
//
// # On disk
//
//	metadata.db            containerd's snapshot metadata (bolt)
//	layers/                package layer's cache
//	snapshots/<id>/        one per snapshot
//	    scratch.ext4       of an active snapshot that is no extraction
//	    want               diffID an extraction should come to
//	    layer              diffID of the snapshot's layer, written last
//	snapshots/new-*        being made; removed by New
//
// A directory is renamed to its id inside the metadata transaction that makes
// the id, and removed after the one that drops it: a kill leaves directories
// that no id names, which New and Cleanup remove.
//
// # Locks
//
// The cache's lock is taken with no metadata transaction open. A layer is pinned
// in the cache until a snapshot's directory names it.
package snapshot
