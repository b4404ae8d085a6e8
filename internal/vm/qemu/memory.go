// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"context"
	"fmt"
	"sync"
)

// memory is what the guest may use: the size class, and what virtio-mem has
// been asked to add to it.
type memory struct {
	monitor *monitor
	// base is the size class, limit the most that base may grow to.
	base, limit uint64

	mu sync.Mutex
	// added is guarded by mu.
	added uint64
}

// hotBlock is the granularity of virtio-mem under Linux with memory blocks of
// 128 MiB; QEMU's own is smaller.
const hotBlock = 128 << 20

// Memory implements vm.Machine.
func (m *machine) Memory() uint64 {
	m.memory.mu.Lock()
	defer m.memory.mu.Unlock()
	return m.memory.base + m.memory.added
}

// SetMemory implements vm.Machine.
func (m *machine) SetMemory(ctx context.Context, size uint64) error {
	if err := m.memory.set(ctx, size); err != nil {
		return fmt.Errorf("set memory to %d bytes: %w", size, err)
	}
	return nil
}

func (mem *memory) set(ctx context.Context, size uint64) error {
	size = max(min(size, mem.limit), mem.base)
	added := (size - mem.base + hotBlock - 1) / hotBlock * hotBlock
	added = min(added, (mem.limit-mem.base)/hotBlock*hotBlock)
	mem.mu.Lock()
	defer mem.mu.Unlock()
	if added == mem.added {
		return nil
	}
	err := mem.monitor.run(ctx, "qom-set", map[string]any{
		"path": "/machine/peripheral/" + hotDevID, "property": "requested-size", "value": added,
	}, nil)
	if err != nil {
		return err
	}
	mem.added = added
	return nil
}
