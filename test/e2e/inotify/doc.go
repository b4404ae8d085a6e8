// SPDX-License-Identifier: Apache-2.0

// Command inotify prints the inotify events of the paths given, one a line,
// until it is killed:
//
//	/src/name CREATE
//	/src/old MOVED_FROM 1
//	/src/new MOVED_TO 1
//
// Cookies of renames are numbered in the order of their coming. With -t every
// line starts with the time in milliseconds since 1970. End-to-end tests run
// it in containers: busybox has no such applet everywhere.
//
// Three more forms look at one file: "read FILE END" opens and reads it until
// it holds END and counts what failed, "map FILE" prints the first line that a
// mapping shows whenever it changes, "hold FILE TEXT" does so for a file open
// for writing, after it has written TEXT.
package main
