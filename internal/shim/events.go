// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"log/slog"
	"sync"
	"time"

	eventsapi "github.com/containerd/containerd/api/events"
	ttrpcevents "github.com/containerd/containerd/api/services/ttrpc/events/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/v2/pkg/ttrpcutil"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// topic is where containerd expects an event; "" for what is no event.
func topic(event any) string {
	switch event.(type) {
	case *eventsapi.TaskCreate:
		return "/tasks/create"
	case *eventsapi.TaskStart:
		return "/tasks/start"
	case *eventsapi.TaskOOM:
		return "/tasks/oom"
	case *eventsapi.TaskExit:
		return "/tasks/exit"
	case *eventsapi.TaskDelete:
		return "/tasks/delete"
	case *eventsapi.TaskExecAdded:
		return "/tasks/exec-added"
	case *eventsapi.TaskExecStarted:
		return "/tasks/exec-started"
	case *eventsapi.TaskPaused:
		return "/tasks/paused"
	case *eventsapi.TaskResumed:
		return "/tasks/resumed"
	}
	return ""
}

const (
	// maxEvents bounds the events that wait for a daemon that is away; the
	// oldest are dropped first.
	maxEvents = 1024
	// publishWait bounds one attempt.
	publishWait = 5 * time.Second
	// publishRetry is the first pause after an attempt that failed; pauses
	// double up to publishRetryMax. A daemon that restarts asks for the state
	// of things itself: what is late is late only for listeners.
	publishRetry    = 200 * time.Millisecond
	publishRetryMax = 5 * time.Second
)

// publisher hands events to containerd, in order. Create it with newPublisher.
type publisher struct {
	namespace, address string
	log                *slog.Logger

	mu sync.Mutex
	// queue is guarded by mu.
	queue []*types.Envelope
	wake  chan struct{}
	stop  context.CancelFunc
	// closing is closed when no more events come.
	closing chan struct{}
	once    sync.Once
	done    chan struct{}
}

func newPublisher(namespace, address string, log *slog.Logger) *publisher {
	ctx, stop := context.WithCancel(context.Background())
	p := &publisher{
		namespace: namespace, address: address, log: log, stop: stop,
		wake: make(chan struct{}, 1), closing: make(chan struct{}), done: make(chan struct{}),
	}
	go p.run(ctx) // close waits for it
	return p
}

// publish queues an event and returns at once.
func (p *publisher) publish(event any) {
	value, err := typeurl.MarshalAnyToProto(event)
	if err != nil || topic(event) == "" {
		p.log.Error("event cannot be published", "err", err)
		return
	}
	e := &types.Envelope{
		Timestamp: timestamppb.Now(), Namespace: p.namespace, Topic: topic(event), Event: value,
	}
	p.mu.Lock()
	if len(p.queue) >= maxEvents {
		p.queue = p.queue[1:]
	}
	p.queue = append(p.queue, e)
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *publisher) next() *types.Envelope {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) == 0 {
		return nil
	}
	return p.queue[0]
}

func (p *publisher) drop(e *types.Envelope) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) > 0 && p.queue[0] == e {
		p.queue = p.queue[1:]
	}
}

func (p *publisher) run(ctx context.Context) {
	defer close(p.done)
	var c *ttrpcutil.Client
	defer func() {
		if c != nil {
			_ = c.Close()
		}
	}()
	retry := publishRetry
	for ctx.Err() == nil {
		e := p.next()
		if e == nil {
			if !p.await(ctx) {
				return
			}
			continue
		}
		var err error
		if c, err = p.forward(ctx, c, e); err == nil {
			p.drop(e)
			retry = publishRetry
			continue
		}
		p.log.Debug("event waits for containerd", "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(retry):
		}
		retry = min(2*retry, publishRetryMax)
	}
}

// await waits for an event; false means that no more come.
func (p *publisher) await(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-p.wake:
		return true
	case <-p.closing:
		return p.next() != nil
	}
}

// forward sends one event, over a connection that it makes when there is none.
// The connection it returns is to be used for the next one.
func (p *publisher) forward(ctx context.Context, c *ttrpcutil.Client, e *types.Envelope) (*ttrpcutil.Client, error) {
	var err error
	if c == nil {
		if c, err = ttrpcutil.NewClient(p.address); err != nil {
			return nil, err
		}
	}
	service, err := c.EventsService()
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, publishWait)
		defer cancel()
		_, err = service.Forward(ctx, &ttrpcevents.ForwardRequest{Envelope: e})
	}
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// closeWait is how long the last events may take.
const closeWait = 2 * time.Second

// close hands over what is queued, within bounds, and ends the publisher.
func (p *publisher) close() {
	p.once.Do(func() { close(p.closing) })
	select {
	case <-p.done:
	case <-time.After(closeWait):
		p.stop()
		<-p.done
	}
	p.stop()
}
