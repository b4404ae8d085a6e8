// SPDX-License-Identifier: Apache-2.0

// Command stepper changes names and metadata in a directory, a thousand times,
// and says "done N" after each step, once it is synced. A test ends it anywhere,
// and has the directory looked at afterwards.
//
// usage: stepper do DIR
//
//	stepper check DIR STEPS
package main
