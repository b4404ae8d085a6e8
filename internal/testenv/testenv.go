// SPDX-License-Identifier: Apache-2.0

// Package testenv is the one way for a test to skip. At a desk a test that wants
// for something skips and says so; where CI or BYRE_TEST_NO_SKIP is set it fails,
// unless the host cannot be blamed for what it wants: see [Lack].
package testenv

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// Lack is what a test wants for.
type Lack string

const (
	// Root is the right to mount, to make devices and to become another user.
	// An ordinary user's tests always skip for it, root's never do.
	Root Lack = "root"
	// Tool is a program that can be installed.
	Tool Lack = "tool"
	// GuestImage is what `make guest` builds.
	GuestImage Lack = "guest image"
	// FileSystem is a property of the file system that tests run on: holes,
	// overlays, devices.
	FileSystem Lack = "file system"
	// Address is a network that the host is not on: IPv6, or any but loopback.
	Address Lack = "address"
	// Limit is a limit of the host's that is too far away to be reached, or too
	// near.
	Limit Lack = "limit"
	// Guest is a machine around the test: the test is one that another test runs
	// in a guest.
	Guest Lack = "guest"
	// Feature is something that an implementation under test need not have.
	Feature Lack = "feature"
)

// Strict tells whether skips for what could be had are failures.
func Strict() bool {
	return os.Getenv("CI") != "" || os.Getenv("BYRE_TEST_NO_SKIP") != ""
}

// excused tells whether a test may skip for a lack even where Strict is true.
func excused(lack Lack, root bool) bool {
	switch lack {
	case Root:
		return !root
	case Address, Limit, Guest, Feature:
		return true
	}
	return false
}

// Skip ends the test: as skipped, or as failed where the lack is no excuse. The
// text says what the test wanted to do.
func Skip(tb testing.TB, lack Lack, format string, args ...any) {
	tb.Helper()
	text := fmt.Sprintf("no %s: %s", lack, fmt.Sprintf(format, args...))
	if Strict() && !excused(lack, os.Geteuid() == 0) {
		tb.Fatal(text)
	}
	tb.Skip(text)
}

// NeedRoot skips the test of an ordinary user; what for is said in the text.
func NeedRoot(tb testing.TB, format string, args ...any) {
	tb.Helper()
	if os.Geteuid() != 0 {
		Skip(tb, Root, format, args...)
	}
}

// Twice says that the same tests are run once more, by an ordinary user: what is the
// same for every user is left to that run. build/test sets it.
func Twice() bool { return os.Getenv("BYRE_TEST_TWICE") == "1" && os.Geteuid() == 0 }

// Once skips a test that is the same for every user where it runs twice.
func Once(tb testing.TB) {
	tb.Helper()
	if Twice() {
		tb.Skip("runs as an ordinary user, to whom nothing of it is different")
	}
}

// NeedTool returns the path of the first of some programs that is there.
func NeedTool(tb testing.TB, names ...string) string {
	tb.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	Skip(tb, Tool, "none of %v is on PATH", names)
	return ""
}
