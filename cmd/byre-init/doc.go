// SPDX-License-Identifier: Apache-2.0

// Command byre-init is PID 1 and the guest agent of byre's utility VMs. It is a
// Linux program; elsewhere it builds to nothing.
package main
