// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// call32 makes a system call by the 32-bit interface, which the kernel offers
// 64-bit programs as well.
func call32(trap, a1, a2 uint32) int32

// addrNoRandomize is of linux/personality.h.
const addrNoRandomize = 0x40000

// calls has the numbers of each call in both interfaces; the arguments are
// plain values, as those of one interface mean nothing in the other.
var calls = []struct {
	name     string
	n64, n32 uint32
	arg      uint32
}{
	{"getpid", unix.SYS_GETPID, 20, 0},
	// A rule on the argument: Docker allows five of them.
	{"personality", unix.SYS_PERSONALITY, 136, addrNoRandomize},
	{"personality-asked", unix.SYS_PERSONALITY, 136, 0xffffffff},
	// What takes CAP_SYS_ADMIN is allowed to who has it.
	{"unshare", unix.SYS_UNSHARE, 310, unix.CLONE_NEWUTS},
	// Never allowed, and needs no capability.
	{"keyctl", unix.SYS_KEYCTL, 288, 0},
	// A call newer than the filter.
	{"unknown", 1000, 1000, 0},
}

func main() {
	for _, c := range calls {
		_, _, errno := unix.RawSyscall(uintptr(c.n64), uintptr(c.arg), 0, 0)
		fmt.Println("64", c.name, answer(errno))
	}
	for _, c := range calls {
		errno := syscall.Errno(0)
		if r := call32(c.n32, c.arg, 0); r < 0 && r > -4096 {
			errno = syscall.Errno(-r)
		}
		fmt.Println("32", c.name, answer(errno))
	}
}

func answer(errno syscall.Errno) string {
	if errno == 0 {
		return "done"
	}
	return unix.ErrnoName(errno)
}
