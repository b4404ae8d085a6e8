// SPDX-License-Identifier: Apache-2.0

// Command seccall makes system calls that seccomp filters tell apart, by both
// interfaces of x86_64, and prints what the kernel answered, one a line:
//
//	64 personality EPERM
//	32 personality EPERM
//
// End-to-end tests run it in containers.
package main
