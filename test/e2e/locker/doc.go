// SPDX-License-Identifier: Apache-2.0

// Command locker takes the lock of a file again and again, as others do at the
// same time, and says how long it had to wait for it, in milliseconds.
//
// usage: locker flock|fcntl FILE ROUNDS
//
// "locker mongod FILE" locks a file as mongod does mongod.lock, writes its pid into
// it, and empties it when it is told to end.
//
// "locker mapped FILE" maps a file for writing and stays until it is killed.
package main
