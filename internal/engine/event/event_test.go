// SPDX-License-Identifier: Apache-2.0

package event_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/events"

	"byre.dev/byre/internal/engine/event"
)

func TestListenersMissNoneUnderLoad(t *testing.T) {
	var b event.Broker
	l := b.Listen(time.Time{}, time.Time{})
	defer l.Close()
	const each, senders = 1000, 4
	var wg sync.WaitGroup
	for range senders {
		wg.Go(func() {
			for range each {
				b.Publish(events.ContainerEventType, events.ActionStart, "id", nil)
			}
		})
	}
	got := 0
	for got < each*senders {
		batch, err := l.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got += len(batch)
	}
	wg.Wait()
}

func TestLaterListenersGetWhatIsRemembered(t *testing.T) {
	var b event.Broker
	begin := time.Now()
	for i := range event.Remembered + 10 {
		b.Publish(events.ImageEventType, events.ActionPull, fmt.Sprint(i), nil)
	}
	l := b.Listen(begin, time.Time{})
	defer l.Close()
	past := l.Queued()
	if len(past) != event.Remembered || past[0].Actor.ID != "10" {
		t.Fatalf("%d events from %q", len(past), past[0].Actor.ID)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
}
