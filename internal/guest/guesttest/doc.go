// SPDX-License-Identifier: Apache-2.0

// Package guesttest boots the guest image in QEMU for tests of the guest: real
// kernel, real initrd, the real guest link, and nothing of the host's own
// programs. A machine dies with its test.
package guesttest
