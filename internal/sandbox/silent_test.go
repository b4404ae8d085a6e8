// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/ttrpc"

	"byre.dev/byre/internal/guestapi"
	"byre.dev/byre/internal/vm"
)

// silent is a machine whose agent takes what it is sent and answers nothing
// beyond what a test lets it.
type silent struct {
	vm.Machine
	accept bool
	done   chan struct{}
	closed bool
}

func (m *silent) Dial(context.Context, uint32) (net.Conn, error) {
	ours, theirs := net.Pipe()
	go func() { // ends with the connection
		if m.accept {
			_, _ = guestapi.ReadPreface(theirs, guestapi.PortAgent, make([]byte, guestapi.SecretSize))
			_ = guestapi.Accept(theirs)
		}
		_, _ = io.Copy(io.Discard, theirs)
	}()
	return ours, nil
}

func (m *silent) Console() []byte       { return []byte("first line\nkernel: \x1b[31mthe last words\n") }
func (m *silent) Done() <-chan struct{} { return m.done }
func (m *silent) Close() error {
	m.closed = true
	return nil
}

type silentDriver struct{ m *silent }

func (silentDriver) Name() string { return "silent" }
func (d silentDriver) Start(context.Context, vm.Config) (vm.Machine, error) {
	return d.m, nil
}

func TestAgentThatDoesNotGreetIsGivenUpWithItsConsole(t *testing.T) {
	for name, accept := range map[string]bool{"no preface": false, "no hello": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &silent{accept: accept, done: make(chan struct{})}
				start := time.Now()
				_, err := Start(t.Context(), Config{ID: "box", Driver: silentDriver{m}})
				if err == nil {
					t.Fatal("a machine that answers nothing was started")
				}
				if took := time.Since(start); took > agentWait+time.Second {
					t.Errorf("given up after %v, want %v", took, agentWait)
				}
				for _, want := range []string{"start sandbox box", "greet guest agent", "the last words"} {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("error %q does not say %q", err, want)
					}
				}
				if strings.Contains(err.Error(), "\x1b") {
					t.Errorf("bytes of the guest reach the terminal: %q", err)
				}
				if !m.closed {
					t.Error("the machine was left behind")
				}
			})
		})
	}
}

func TestCallThatIsNotAnsweredIsGivenUpWithTheConsole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := caller{&silent{done: make(chan struct{})}}
		never := func(ctx context.Context, _ *ttrpc.Request, _ *ttrpc.Response) error {
			<-ctx.Done()
			return ctx.Err()
		}
		start := time.Now()
		err := c.call(t.Context(), &ttrpc.Request{Method: "Mount"}, &ttrpc.Response{}, nil, never)
		if !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "did not answer Mount within") || !strings.Contains(err.Error(), "the last words") {
			t.Errorf("got %v", err)
		}
		if took := time.Since(start); took != answerWait {
			t.Errorf("given up after %v, want %v", took, answerWait)
		}
		// What waits for a container lasts as long as the container.
		ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
		defer cancel()
		start = time.Now()
		err = c.call(ctx, &ttrpc.Request{Method: "Wait"}, &ttrpc.Response{}, nil, never)
		if took := time.Since(start); took != 24*time.Hour || errdefs.IsUnavailable(err) {
			t.Errorf("Wait was given up after %v: %v", took, err)
		}
	})
}

func TestSharesOfOneContainerHaveOpaqueNames(t *testing.T) {
	var table shareTable
	a, b := &share{spec: ShareSpec{Source: "/host/secret"}}, &share{}
	table.insert(a)
	table.insert(b)
	if a.name == b.name || strings.Contains(a.name, "secret") {
		t.Errorf("names %q and %q", a.name, b.name)
	}
	if _, err := table.enter(a.name); err == nil {
		t.Error("a share with a port of its own is served over the link, too")
	}
	table.setTransport(b, guestapi.Share_LINK)
	if _, err := table.enter(b.name); err != nil {
		t.Error(err)
	}
	b.served.Done()
	if _, err := table.enter("../" + b.name); err == nil {
		t.Error("a name that was never offered is served")
	}
}

func TestWriterHasADiskAlone(t *testing.T) {
	s := &Sandbox{}
	s.disks.byKey = map[diskKey]*pluggedDisk{}
	s.disks.insert(&pluggedDisk{key: diskKey{"/a", false}, refs: 1})
	s.disks.insert(&pluggedDisk{key: diskKey{"/b", true}, refs: 1})
	if _, err := s.acquireDisk(t.Context(), "/a", false); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("a second writer got the disk: %v", err)
	}
	d, err := s.acquireDisk(t.Context(), "/b", true)
	if err != nil || d.refs != 2 {
		t.Errorf("a second reader got %+v, %v", d, err)
	}
	if !s.disks.dirty() {
		t.Error("a disk that is written counts as flushed")
	}
}
