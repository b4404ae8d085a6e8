// SPDX-License-Identifier: Apache-2.0

// Package taskapi is containerd's Task service v3, generated for the guest from
// containerd's own runtime/task/v3/shim.proto without the gRPC half: importing
// containerd's package would link a gRPC client and server into PID 1. The wire
// is the same. A program cannot link both packages, because both register the
// same messages; the host uses containerd's.
package taskapi

//go:generate sh -c "protoc -I $(go list -m -f '{{.Dir}}' github.com/containerd/containerd/api) --go_out=../../.. --go_opt=module=byre.dev/byre '--go_opt=Mruntime/task/v3/shim.proto=byre.dev/byre/internal/guest/taskapi;taskapi' --go-ttrpc_out=../../.. --go-ttrpc_opt=module=byre.dev/byre '--go-ttrpc_opt=Mruntime/task/v3/shim.proto=byre.dev/byre/internal/guest/taskapi;taskapi' runtime/task/v3/shim.proto"
