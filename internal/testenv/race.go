// SPDX-License-Identifier: Apache-2.0

//go:build race

package testenv

// Race says that the race detector looks on, under which work takes ten times
// as long and finds the same after a tenth of it.
const Race = true
