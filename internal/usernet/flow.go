// SPDX-License-Identifier: Apache-2.0

package usernet

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
)

const (
	// maxFlows bounds the UDP flows of one endpoint; the one that was idle
	// longest makes room for a new one.
	maxFlows = 512
	// flowIdle ends a flow that nothing passed through.
	flowIdle = 90 * time.Second
	// maxDatagram is the most that UDP over IPv4 carries.
	maxDatagram = 65507
)

// flow is a pair of UDP addresses that exchange datagrams, one of them the
// guest's, as long as something passes.
type flow struct {
	guest *gonet.UDPConn
	used  atomic.Int64
	timer *time.Timer

	once    sync.Once
	closers []io.Closer
}

func newFlow(guest *gonet.UDPConn) *flow {
	f := &flow{guest: guest, closers: []io.Closer{guest}}
	f.touch()
	return f
}

// onEnd has c closed with the flow; not after start.
func (f *flow) onEnd(c io.Closer) { f.closers = append(f.closers, c) }

func (f *flow) touch() { f.used.Store(time.Now().UnixNano()) }

// end closes both sides; the goroutines that copy between them then return.
func (f *flow) end() {
	f.once.Do(func() {
		if f.timer != nil {
			f.timer.Stop()
		}
		for _, c := range f.closers {
			_ = c.Close()
		}
	})
}

// copy passes datagrams on until a side is closed. That nobody listens at the
// other end is no reason to stop: somebody may later.
func (f *flow) copy(dst io.Writer, src io.Reader) {
	buf := make([]byte, maxDatagram)
	for {
		n, err := src.Read(buf)
		if err != nil {
			if nobodyListens(err) {
				continue
			}
			return
		}
		f.touch()
		if _, err := dst.Write(buf[:n]); errors.Is(err, net.ErrClosed) {
			return
		}
	}
}

// flowSet is the UDP flows of an endpoint.
type flowSet struct {
	wg sync.WaitGroup

	// mu guards what follows, and the start of goroutines against close.
	mu     sync.Mutex
	flows  map[*flow]struct{}
	closed bool
}

// start adds a flow and runs its copying goroutines; the flow ends with the
// first that returns. It says no when the endpoint is gone.
func (s *flowSet) start(f *flow, copies ...func()) bool {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return false
	}
	var oldest *flow
	if len(s.flows) >= maxFlows {
		oldest = s.oldestLocked()
		delete(s.flows, oldest)
	}
	if s.flows == nil {
		s.flows = map[*flow]struct{}{}
	}
	s.flows[f] = struct{}{}
	f.onEnd(closerFunc(func() { s.remove(f) }))
	f.timer = time.AfterFunc(flowIdle, func() { s.expire(f) })
	for _, c := range copies {
		s.wg.Go(func() {
			c()
			f.end()
		})
	}
	s.mu.Unlock()
	if oldest != nil {
		oldest.end()
	}
	return true
}

// expire ends the flow if it is idle, and looks again later if it is not.
func (s *flowSet) expire(f *flow) {
	idle := time.Since(time.Unix(0, f.used.Load()))
	if idle >= flowIdle {
		f.end()
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.flows[f]; ok {
		f.timer.Reset(flowIdle - idle)
	}
}

func (s *flowSet) oldestLocked() *flow {
	var oldest *flow
	for f := range s.flows {
		if oldest == nil || f.used.Load() < oldest.used.Load() {
			oldest = f
		}
	}
	return oldest
}

func (s *flowSet) remove(f *flow) {
	s.mu.Lock()
	delete(s.flows, f)
	s.mu.Unlock()
}

// abort ends all flows and does not wait.
func (s *flowSet) abort() {
	s.mu.Lock()
	all := make([]*flow, 0, len(s.flows))
	for f := range s.flows {
		all = append(all, f)
	}
	s.mu.Unlock()
	for _, f := range all {
		f.end()
	}
}

// close ends all flows, waits for them, and takes none any more.
func (s *flowSet) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.abort()
	s.wg.Wait()
}

// closerFunc is a function as an io.Closer.
type closerFunc func()

// Close calls the function.
func (f closerFunc) Close() error {
	f()
	return nil
}
