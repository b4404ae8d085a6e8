// SPDX-License-Identifier: Apache-2.0

// Package task serves containerd's Task service v3 in the guest, on runc.
//
// A container has one init process and any number of execs; all are a
// [process]. Exits come from the reaper of PID 1, which keeps those that happen
// before a pid is known here, so none is lost. What runc is not needed for is
// done without it, because starting it costs milliseconds: signals, freezing,
// statistics and process lists go to the kernel directly.
//
// Standard streams are streams of the guest link, named in the requests; see
// package stdio for when they end. A container's own exit ends every process
// of its cgroup, also where it shares its pid namespace.
//
// Locks: Service.mu guards the table of containers, container.mu its execs,
// process.mu its state. They are taken in that order and none is held while
// runc runs, except container.op, which serializes start, pause, resume, update
// and delete of one container.
package task
