// SPDX-License-Identifier: Apache-2.0

package usernet_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"testing"

	"byre.dev/byre/internal/usernet"
)

// The guests of these benchmarks are netstacks of gVisor in this process: what
// they show is the switch and its gateway, with a guest's share added.

func BenchmarkGuestToHost(b *testing.B) {
	for _, mtu := range []int{1500, usernet.DefaultMTU} {
		b.Run(fmt.Sprint("mtu=", mtu), func(b *testing.B) {
			s := newSwitch(b, func(c *usernet.Config) { c.MTU = mtu })
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = l.Close() })
			done := make(chan int64)
			go func() {
				c, err := l.Accept()
				if err != nil {
					return
				}
				n, _ := io.Copy(io.Discard, c)
				_ = c.Close()
				done <- n
			}()
			g := boot(b, s, usernet.Endpoint{ID: "a"})
			c, err := g.dial(b, fmt.Sprintf("10.77.0.1:%d", l.Addr().(*net.TCPAddr).Port))
			if err != nil {
				b.Fatal(err)
			}
			buf := make([]byte, 1<<20)
			b.SetBytes(int64(len(buf)))
			for b.Loop() {
				if _, err := c.Write(buf); err != nil {
					b.Fatal(err)
				}
			}
			_ = c.Close()
			<-done
		})
	}
}

func BenchmarkPublishedPortToGuest(b *testing.B) {
	s := newSwitch(b, nil)
	g := boot(b, s, usernet.Endpoint{ID: "a", Ports: []usernet.PortMapping{{HostIP: loopback, GuestPort: 7}}})
	g.listenEcho(b, 7)
	c, err := net.Dial("tcp", published(s, 0))
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReaderSize(c, 1<<20)
	buf := make([]byte, 256<<10)
	back := make([]byte, len(buf))
	b.SetBytes(int64(2 * len(buf)))
	for b.Loop() {
		if _, err := c.Write(buf); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(r, back); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkGuestToGuestFrames(b *testing.B) {
	s := newSwitch(b, nil)
	a := boot(b, s, usernet.Endpoint{ID: "a"})
	c := boot(b, s, usernet.Endpoint{ID: "b"})
	frame := udpFrame(a.ep.MAC, c.ep.MAC, a.ep.IP, c.ep.IP)
	b.ReportAllocs()
	for b.Loop() {
		if err := a.sendFrame(frame); err != nil {
			b.Fatal(err)
		}
	}
}
