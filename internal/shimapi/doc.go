// SPDX-License-Identifier: Apache-2.0

// Package shimapi is the contract between byre's engine and its containerd
// shim: the annotations by which the engine tells the shim what an OCI
// specification has no place for, and a small ttrpc service
// (api/shim/v1/shim.proto) on the shim's task socket for what containerd's Task
// API does not cover.
//
// Everything here is optional: a shim started by a containerd that knows
// nothing of byre finds no annotations and gets no calls.
package shimapi
