// SPDX-License-Identifier: Apache-2.0

package build

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/distribution/reference"
	controlapi "github.com/moby/buildkit/api/services/control"
	gateway "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/util/grpcerrors"
	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/jsonstream"
	"google.golang.org/protobuf/proto"
)

// output tells a client how its build goes.
type output interface {
	status(*controlapi.StatusResponse) error
	// done tells of the image; id is "" when the result went elsewhere.
	done(id string) error
	// failed puts the build's error in the client's terms.
	failed(err error) error
}

func newOutput(req Request, progress Progress) output {
	if req.Trace {
		return traceOutput{progress}
	}
	var names []reference.Named
	if req.Output != nil {
		names, _ = parseNames(req.Output.Attrs["name"])
	}
	return &lineOutput{progress: progress, quiet: req.Quiet, names: names, told: map[string]bool{}}
}

// traceOutput carries BuildKit's own messages.
type traceOutput struct{ progress Progress }

func (o traceOutput) status(st *controlapi.StatusResponse) error {
	raw, err := proto.Marshal(st)
	if err != nil {
		return err
	}
	m, err := aux("moby.buildkit.trace", raw)
	if err == nil {
		o.progress(m)
	}
	return err
}

func (o traceOutput) done(id string) error {
	if id == "" {
		return nil
	}
	m, err := aux("moby.image.id", build.Result{ID: id})
	if err == nil {
		o.progress(m)
	}
	return err
}

func (traceOutput) failed(err error) error { return fromBuilder(err) }

// lineOutput writes lines as docker's first builder did.
type lineOutput struct {
	progress Progress
	quiet    bool
	names    []reference.Named
	// told has the steps that were announced, and those that were told to come
	// from the cache.
	told map[string]bool
}

// step matches BuildKit's name for an instruction of a Dockerfile.
var step = regexp.MustCompile(`^\[(?:\S+ )*(\d+)/(\d+)\] (.*)$`)

func (o *lineOutput) line(format string, args ...any) {
	if !o.quiet {
		o.progress(jsonstream.Message{Stream: fmt.Sprintf(format, args...)})
	}
}

func (o *lineOutput) status(st *controlapi.StatusResponse) error {
	for _, v := range st.Vertexes {
		m := step.FindStringSubmatch(v.Name)
		if m == nil || v.Started == nil && !v.Cached {
			continue
		}
		if !o.told[v.Digest] {
			o.told[v.Digest] = true
			o.line("Step %s/%s : %s\n", m[1], m[2], m[3])
		}
		if cached := v.Digest + " cached"; v.Cached && !o.told[cached] {
			o.told[cached] = true
			o.line(" ---> Using cache\n")
		}
	}
	for _, l := range st.Logs {
		o.line("%s", l.Msg)
	}
	for _, w := range st.Warnings {
		o.line("[Warning] %s\n", w.Short)
	}
	return nil
}

// shortID is as long as docker shows IDs.
const shortID = 12

func (o *lineOutput) done(id string) error {
	if id == "" {
		return nil
	}
	if o.quiet {
		o.progress(jsonstream.Message{Stream: id + "\n"})
		return nil
	}
	m, err := aux("", build.Result{ID: id})
	if err != nil {
		return err
	}
	o.progress(m)
	_, hex, _ := strings.Cut(id, ":")
	o.line("Successfully built %s\n", hex[:min(shortID, len(hex))])
	for _, name := range o.names {
		o.line("Successfully tagged %s\n", reference.FamiliarString(name))
	}
	return nil
}

// failed gives a command's failure docker's words.
func (o *lineOutput) failed(err error) error {
	exit, ok := errors.AsType[*gateway.ExitError](grpcerrors.FromGRPC(err))
	if !ok {
		return fromBuilder(err)
	}
	command := err.Error()
	if m := process.FindStringSubmatch(command); m != nil {
		command = m[1]
	}
	return &CommandError{Command: command, Code: int(exit.ExitCode)}
}

// process matches a command in BuildKit's error.
var process = regexp.MustCompile(`process "(.*)" did not complete successfully`)

// CommandError is a build's command that failed.
type CommandError struct {
	// Command is its words.
	Command string
	// Code is its exit code.
	Code int
}

// Error is docker's sentence for it.
func (e *CommandError) Error() string {
	return fmt.Sprintf("The command '%s' returned a non-zero code: %d", e.Command, e.Code)
}
