// SPDX-License-Identifier: Apache-2.0

// Package reap waits for every child of PID 1, its own commands and the orphans
// that the kernel hands it, and gives each exit status to the one who asked.
//
// Only a Reaper may wait for processes: os/exec's Wait would race with it, so
// commands are started through [Reaper.Start]. A process that is nobody's
// command, as a container's first process is after runc has gone, is asked for
// with [Reaper.Watch] inside a [Reaper.Hold]; the statuses of all processes that
// end during a Hold are kept, so that none is lost between its exit and the
// moment somebody learns its pid.
package reap
