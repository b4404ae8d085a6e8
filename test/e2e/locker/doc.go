// SPDX-License-Identifier: Apache-2.0

// Command locker takes the lock of a file again and again, as others do at the
// same time, and says how long it had to wait for it, in milliseconds.
//
// usage: locker flock|fcntl FILE ROUNDS
//
// "locker mapped FILE" maps a file for writing and stays until it is killed.
package main
