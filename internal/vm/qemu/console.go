// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"bytes"
	"encoding/json"
	"io"
	"sync"

	"byre.dev/byre/internal/vm"
)

// waitingMessage is what the guest agent logs when it waits for the host: from
// then on the machine may be greeted, or saved.
const waitingMessage = "guest agent waiting"

// maxLine bounds what is kept of a console line while its end is awaited.
const maxLine = 8 << 10

// console keeps the tail of the guest's console and sees when the guest agent
// waits.
type console struct {
	waiting chan struct{}
	once    sync.Once

	mu sync.Mutex
	// tail is guarded by mu.
	tail []byte
	line []byte
}

func newConsole() *console { return &console{waiting: make(chan struct{})} }

// drain reads the console until it ends.
func (c *console) drain(r io.Reader) {
	buf := make([]byte, 4096)
	for {
		n, err := r.Read(buf)
		c.take(buf[:n])
		if err != nil {
			return
		}
	}
}

func (c *console) take(b []byte) {
	c.mu.Lock()
	c.tail = append(c.tail, b...)
	if extra := len(c.tail) - vm.ConsoleTail; extra > 0 {
		c.tail = append(c.tail[:0], c.tail[extra:]...)
	}
	c.mu.Unlock()
	for len(b) > 0 {
		head, rest, whole := bytes.Cut(b, []byte("\n"))
		if len(c.line)+len(head) <= maxLine {
			c.line = append(c.line, head...)
		}
		if !whole {
			return
		}
		c.examine(c.line)
		c.line, b = c.line[:0], rest
	}
}

func (c *console) examine(line []byte) {
	if !bytes.Contains(line, []byte(waitingMessage)) {
		return
	}
	var entry struct {
		Msg string `json:"msg"`
	}
	start := bytes.IndexByte(line, '{')
	if start < 0 || json.Unmarshal(bytes.TrimSpace(line[start:]), &entry) != nil {
		return
	}
	if entry.Msg == waitingMessage {
		c.once.Do(func() { close(c.waiting) })
	}
}

func (c *console) bytes() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Clone(c.tail)
}
