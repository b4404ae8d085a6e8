// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// niceStep is how much nicer than its daemon a spare shim is while it makes its
// machine: a third of the processor that a container gets which wants it too.
const niceStep = 5

// autogroupFile has the niceness of a session beside others, which its owner may
// raise and lower; kernels without autogroups lack it.
const autogroupFile = "/proc/self/autogroup"

// lowerPriority gives this process and what it starts less of the processors,
// if that can be undone: raise does so, for the process and for the one given,
// which leads a group of its own.
func lowerPriority() (raise func(pid int)) {
	// The call answers 20 less the niceness.
	answer, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	nice := 20 - answer
	if err == nil && mayRaise(nice) {
		_ = unix.Setpriority(unix.PRIO_PGRP, 0, nice+niceStep)
		return func(pid int) {
			_ = unix.Setpriority(unix.PRIO_PGRP, 0, nice)
			_ = unix.Setpriority(unix.PRIO_PGRP, pid, nice)
		}
	}
	if os.WriteFile(autogroupFile, []byte(strconv.Itoa(niceStep)), 0) != nil {
		return func(int) {}
	}
	return func(int) { _ = os.WriteFile(autogroupFile, []byte("0"), 0) }
}

// mayRaise tries on a thread that ends with it whether a priority that was
// lowered can be raised.
func mayRaise(nice int) bool {
	answer := make(chan bool)
	go func() { // received below; its thread is not used again
		runtime.LockOSThread()
		err := unix.Setpriority(unix.PRIO_PROCESS, 0, nice+1)
		if err == nil {
			err = unix.Setpriority(unix.PRIO_PROCESS, 0, nice)
		}
		answer <- err == nil
	}()
	return <-answer
}
