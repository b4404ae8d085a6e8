// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"sync"

	"byre.dev/byre/internal/guestapi"
)

// eventBuffer is how many events wait for a slow host; more drop the oldest.
const eventBuffer = 64

// broadcaster gives every event to all subscribers.
type broadcaster struct {
	mu sync.Mutex
	// subs has the subscribers. Guarded by mu.
	subs map[chan *guestapi.Event]struct{}
}

func newBroadcaster() *broadcaster {
	return &broadcaster{subs: map[chan *guestapi.Event]struct{}{}}
}

func (b *broadcaster) subscribe() (<-chan *guestapi.Event, func()) {
	c := make(chan *guestapi.Event, eventBuffer)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.subs[c] = struct{}{}
	return c, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.subs, c)
	}
}

func (b *broadcaster) send(e *guestapi.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.subs {
		if len(c) == cap(c) {
			select {
			case <-c:
			default:
			}
		}
		c <- e // only send sends, under mu, so there is room
	}
}

func oomEvent(id string) *guestapi.Event {
	return &guestapi.Event{Event: &guestapi.Event_Oom{Oom: &guestapi.OOM{ContainerId: id}}}
}
