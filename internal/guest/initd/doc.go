// SPDX-License-Identifier: Apache-2.0

// Package initd is PID 1 of the guest: it sets the machine up, runs the guest
// agent on the guest link for as long as the machine lives, and ends everything
// in order.
//
// A machine may be saved and cloned at the moment when initd waits for the
// first byte of the link: everything costly has been done, nothing is in
// flight, and nothing has been sent. The log line "guest agent waiting" on the
// console says so. When the host's end of the link goes away initd waits again.
package initd
