// SPDX-License-Identifier: Apache-2.0

// Package event passes what happens in the engine on to those who listen: the
// source of "docker events".
//
// The [Broker] remembers the last events, so that a listener may ask for what
// was before it came. Every listener has its own queue, without a bound on
// what it misses: none is lost while it listens.
package event

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/moby/moby/api/types/events"
)

// Remembered is how many events a broker keeps for later listeners; dockerd
// keeps as many.
const Remembered = 256

// Broker takes events and gives them to listeners. The zero value is ready.
type Broker struct {
	// mu guards what follows.
	mu        sync.Mutex
	past      []events.Message
	listeners map[*Listener]struct{}
}

// Publish sends an event of now.
func (b *Broker) Publish(kind events.Type, action events.Action, id string, attributes map[string]string) {
	now := time.Now().UTC()
	m := events.Message{
		Type: kind, Action: action, Scope: "local",
		Actor: events.Actor{ID: id, Attributes: attributes},
		Time:  now.Unix(), TimeNano: now.UnixNano(),
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.past) == Remembered {
		b.past = slices.Delete(b.past, 0, 1)
	}
	b.past = append(b.past, m)
	for l := range b.listeners {
		l.push(m)
	}
}

// Listeners returns how many listen.
func (b *Broker) Listeners() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.listeners)
}

// Listen starts to listen; since and until bound the remembered events that
// the listener gets first (zero since: none of them). The caller must Close it.
func (b *Broker) Listen(since, until time.Time) *Listener {
	l := &Listener{broker: b, ready: make(chan struct{}, 1)}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !since.IsZero() {
		for _, m := range b.past {
			at := time.Unix(0, m.TimeNano)
			if !at.Before(since) && (until.IsZero() || !at.After(until)) {
				l.push(m)
			}
		}
	}
	if b.listeners == nil {
		b.listeners = map[*Listener]struct{}{}
	}
	b.listeners[l] = struct{}{}
	return l
}

// Listener receives events in their order.
type Listener struct {
	broker *Broker
	// ready holds a token when the queue may have something.
	ready chan struct{}

	// mu guards queue.
	mu    sync.Mutex
	queue []events.Message
}

func (l *Listener) push(m events.Message) {
	l.mu.Lock()
	l.queue = append(l.queue, m)
	l.mu.Unlock()
	select {
	case l.ready <- struct{}{}:
	default:
	}
}

// Next returns the events that came since the last call; it waits for one.
func (l *Listener) Next(ctx context.Context) ([]events.Message, error) {
	for {
		if q := l.Queued(); len(q) > 0 {
			return q, nil
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-l.ready:
		}
	}
}

// Queued returns the events that came since the last call, without waiting.
func (l *Listener) Queued() []events.Message {
	l.mu.Lock()
	defer l.mu.Unlock()
	q := l.queue
	l.queue = nil
	return q
}

// Close ends the listening.
func (l *Listener) Close() {
	l.broker.mu.Lock()
	defer l.broker.mu.Unlock()
	delete(l.broker.listeners, l)
}
