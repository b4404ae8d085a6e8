// SPDX-License-Identifier: Apache-2.0

// Package testcontainers uses Testcontainers for Go as a project's tests do, over
// the daemon that DOCKER_HOST names. It is a module of its own, so that what the
// library needs is nobody else's; test/apps runs it.
//
// Ryuk, the library's reaper, is switched off there: its image comes from a
// registry alone.
package testcontainers
