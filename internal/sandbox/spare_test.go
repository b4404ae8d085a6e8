// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/ttrpc"

	"byre.dev/byre/internal/guestapi"
	"byre.dev/byre/internal/vm"
)

// coldDriver starts nothing and says that it was asked.
type coldDriver struct{ asked *bool }

var errCold = errors.New("started the long way")

func (coldDriver) Name() string { return "cold" }
func (d coldDriver) Start(context.Context, vm.Config) (vm.Machine, error) {
	*d.asked = true
	return nil, errCold
}

// deafSpare is a spare whose machine answers nothing any more.
func deafSpare(m *silent) *Spare {
	ours, theirs := net.Pipe()
	go func() { _, _ = io.Copy(io.Discard, theirs) }() // ends with the connection
	client := ttrpc.NewClient(ours, ttrpc.WithUnaryClientInterceptor(caller{m}.call))
	return &Spare{machine: m, link: &link{client: client, guest: guestapi.NewGuestClient(client)}}
}

func TestASpareMachineThatIsNoGoodIsReplacedByAnother(t *testing.T) {
	for name, end := range map[string]bool{"it has ended": true, "it does not answer": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &silent{done: make(chan struct{})}
				spare := deafSpare(m)
				if end {
					close(m.done)
				}
				start, asked := time.Now(), false
				_, err := Start(t.Context(), Config{ID: "box", Driver: coldDriver{&asked}, Spare: spare})
				if !asked || !errors.Is(err, errCold) || !strings.Contains(err.Error(), "start sandbox box") {
					t.Errorf("asked for another: %v, %v", asked, err)
				}
				if took := time.Since(start); took > renewWait {
					t.Errorf("waited %v for the spare machine", took)
				}
				if !m.closed {
					t.Error("the spare machine was left behind")
				}
			})
		})
	}
}
