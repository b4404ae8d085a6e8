// SPDX-License-Identifier: Apache-2.0

// Package arch holds the architecture as text, and the tests that enforce it:
// which package may import which ([Floors]), which third-party trees have one
// door ([Doors]), and that every package and exported name has a comment.
//
// A package imports only from floors below its own, and within a floor only
// from lines above its own line.
package arch

// Floors lists the packages below internal/, one floor per paragraph, lowest
// first; each line is a package and what of ours it may import.
const Floors = `
# 1 pure: bytes in, bytes out; no os, net, syscall, logging
linux:
p9: linux
p9/p9srv: linux p9
p9/p9client: linux p9
mux:
cpio:
guestapi:
shimapi:
daemonapi:

# 2 host: what operating systems do differently, one package each
testenv:
hostlock:
hostfs: hostlock linux p9 p9/p9srv
memfs: linux p9 p9/p9srv
p9/p9test: linux p9 p9/p9srv p9/p9client testenv
watch:
p9/replay: linux p9 p9/p9srv watch
localsock:
hostproc:
disk:
lockfile:
interrupt:
usernet: lockfile
home:

# 3 machines
vm:
guestimage: guestapi disk
vm/hcs:
vm/qemu: vm mux hostproc guestimage lockfile
vm/vmtest: vm guestapi testenv

# 3 images
layer: disk
snapshot: layer disk

# 3 guest: Linux only, never imports the host packages; hostfs, which lends
# volumes' disks to other machines, serves the guest's own files there
guest/vport:
guest/reap:
guest/initproc: guestapi
guest/stdio: mux
guest/taskapi:
guest/archive:
guest/mount: mux guestapi guest/vport
guest/netcfg: guestapi
guest/task: guestapi guest/netcfg guest/reap guest/stdio guest/taskapi
guest/agent: guestapi p9/p9srv hostfs guest/mount guest/netcfg guest/task guest/reap guest/stdio guest/taskapi guest/archive
guest/initd: guestapi mux guest/netcfg guest/agent guest/reap guest/vport
guest/guesttest: guestapi mux testenv

# 4 sandbox
sandbox: guestapi shimapi mux linux p9/p9srv p9/replay hostfs watch vm disk localsock lockfile

# 5 services: the same things behind several doors
shim: sandbox shimapi usernet vm guestapi mux
ctrd: snapshot lockfile shimapi
engine: usernet shimapi watch disk linux
build: engine
builder: engine mux
dockerapi: engine build
spare: shimapi
daemon: ctrd engine build builder dockerapi localsock lockfile home spare
doctor: home localsock shimapi spare
cli: localsock home daemonapi interrupt
arch:
`

// Doors names, for third-party trees, the packages of ours that may import
// them; a prefix of a package's path stands for all below it.
const Doors = `
gvisor.dev/gvisor: usernet
github.com/containers/gvisor-tap-vsock: usernet
github.com/containerd/containerd/v2: ctrd engine shim snapshot shimapi build
github.com/moby/moby: dockerapi engine build builder cli
github.com/docker/cli: cli
github.com/moby/buildkit: engine/change build
github.com/Microsoft/hcsshim: layer
`
