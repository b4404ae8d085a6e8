// SPDX-License-Identifier: Apache-2.0

// Package initproc is the first process of a container that asked for an init
// (docker run --init): it starts the command, hands signals on to it, reaps what
// is orphaned, and ends as the command ended. The guest's own init binary is it
// when it is called by the name docker-init.
package initproc
