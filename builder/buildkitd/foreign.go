// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"

	"github.com/moby/buildkit/executor"
	"github.com/moby/buildkit/executor/resources/types"
	gateway "github.com/moby/buildkit/frontend/gateway/pb"
)

// notStarted is the exit code of a process that runc could not start, and the
// end of what it says for a program of another processor.
const (
	notStarted = 255
	notOurs    = "exec format error\n"
)

// foreignTold runs what an executor does and says what to do where a program is
// for another processor, which builds do not emulate.
type foreignTold struct{ executor.Executor }

// Run runs a process and waits for it.
func (f foreignTold) Run(ctx context.Context, id string, rootfs executor.Mount, mounts []executor.Mount, p executor.ProcessInfo, started chan<- struct{}) (types.Recorder, error) {
	end := &tail{to: p.Stderr}
	if p.Stderr != nil {
		p.Stderr = end
	}
	rec, err := f.Executor.Run(ctx, id, rootfs, mounts, p, started)
	var code *gateway.ExitError
	if errors.As(err, &code) && code.ExitCode == notStarted && strings.HasSuffix(end.String(), notOurs) {
		err = fmt.Errorf("%w: the program is not one for linux/%s, and builds emulate no other processor: "+
			"RUN in a stage FROM --platform=$BUILDPLATFORM and COPY what it makes into the stage for the other platform",
			err, runtime.GOARCH)
	}
	return rec, err
}

// tail keeps the end of what is written through it.
type tail struct {
	to io.WriteCloser

	mu sync.Mutex
	// end is guarded by mu.
	end string
}

// Write writes on.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	t.end += string(p)
	t.end = t.end[max(0, len(t.end)-len(notOurs)):]
	t.mu.Unlock()
	return t.to.Write(p)
}

// Close closes what is written to.
func (t *tail) Close() error { return t.to.Close() }

// String returns the end.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.end
}
