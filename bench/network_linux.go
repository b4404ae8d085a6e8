// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
)

// benchNetwork measures TCP between a container and the host over byre's
// network and over QEMU's own slirp, which has cards of its own in the same
// machine.
func benchNetwork(ctx context.Context, l *lab) (err error) {
	dir := filepath.Join(l.dir, "network")
	tools, qemu := filepath.Join(dir, "tools"), filepath.Join(dir, "qemu")
	if err := os.MkdirAll(tools, 0o755); err != nil {
		return err
	}
	if err := errors.Join(buildLoad(ctx, tools), makeQEMU(qemu, slirpDevices(), hostNetwork()...)); err != nil {
		return err
	}
	sink, err := listenSink()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sink.close()) }()
	// The machine with cards of the bench's own is of a daemon of its own.
	own := &lab{dir: dir, home: filepath.Join(dir, "home"), bin: l.bin, env: []string{"BYRE_QEMU=" + qemu}}
	defer func() { err = errors.Join(err, own.stop()) }()
	if err := own.warm(ctx); err != nil {
		return err
	}
	if _, err := own.byre(ctx, "run", "-d", "--name", "network", "--privileged", "-v", tools+":/tools:ro", "busybox", "sleep", "infinity"); err != nil {
		return err
	}
	defer func() {
		_, e := own.byre(context.WithoutCancel(ctx), "rm", "-f", "network")
		err = errors.Join(err, e)
	}()
	return measureNetwork(ctx, own, sink.port())
}

// measureNetwork measures in the container "network" and prints the table.
func measureNetwork(ctx context.Context, l *lab, port int) error {
	places := []string{fmt.Sprintf("byre=host.docker.internal:%d", port)}
	for _, c := range slirpCards {
		if _, err := l.byre(ctx, "exec", "network", "sh", "-ec", c.configure()); err != nil {
			return fmt.Errorf("configure the card %s: %w", c.name, err)
		}
		places = append(places, fmt.Sprintf("%s=%s:%d", c.name, c.address(2), port))
	}
	took, err := load(ctx, l, "network", "net", netRounds, places)
	if err != nil {
		return err
	}
	var rows [][]string
	for _, w := range []struct{ step, what string }{{"send", "container to host"}, {"receive", "host to container"}} {
		ours := netRate(took[w.step+" byre"])
		row := []string{w.what, megabytesPerSecond(ours)}
		for _, c := range slirpCards {
			slirp := netRate(took[w.step+" "+c.name])
			row = append(row, megabytesPerSecond(slirp), fmt.Sprintf("%.1f", ours/slirp))
		}
		rows = append(rows, row)
	}
	table(fmt.Sprintf("Network: TCP, %d MiB over one connection, beside slirp in one machine (medians of %d)", netSize>>20, netRounds),
		[]string{"direction", "byre", "slirp", "ratio", "slirp, MTU 65520", "ratio"}, rows)
	return nil
}

// netSize and what says the direction are known to bench/load.
const (
	netRounds  = 3
	netSize    = 64 << 20
	netSend    = 's'
	netReceive = 'r'
)

func netRate(ns float64) float64 { return netSize / (ns / 1e9) }

func megabytesPerSecond(n float64) string { return fmt.Sprintf("%.1f MB/s", n/1e6) }

// slirpCard is a card on a network of QEMU's own, whose gateway, .2, is the
// host's loopback.
type slirpCard struct {
	name   string
	number int
	mtu    int
}

// slirpCards are one as it comes and one with packets as large as byre's.
var slirpCards = []slirpCard{{"slirp", 1, 1500}, {"large", 2, 65520}}

func (c slirpCard) mac() string          { return fmt.Sprintf("52:54:00:99:00:%02x", c.number) }
func (c slirpCard) address(n int) string { return fmt.Sprintf("10.9%d.0.%d", c.number, n) }

// hostNetwork returns the command that runs QEMU in this process's network
// namespace. The shim gives it an empty one where it may, in which slirp reaches
// nothing.
func hostNetwork() []string {
	if os.Geteuid() != 0 {
		return nil
	}
	return []string{"nsenter", fmt.Sprintf("--net=/proc/%d/ns/net", os.Getpid()), "--"}
}

func slirpDevices() (devices string) {
	for _, c := range slirpCards {
		devices += fmt.Sprintf(" -netdev user,id=%[1]s,net=%[2]s/24 -device virtio-net-pci,netdev=%[1]s,mac=%[3]s,romfile=",
			c.name, c.address(0), c.mac())
	}
	return devices
}

// configure returns what a shell in the machine does to use the card.
func (c slirpCard) configure() string {
	return fmt.Sprintf(`card=$(grep -l %s /sys/class/net/*/address | cut -d/ -f5)
ip addr add %s/24 dev $card
ip link set dev $card mtu %d up`, c.mac(), c.address(15), c.mtu)
}

// sink is the host's end: it swallows what a connection sends or sends as much.
type sink struct {
	net.Listener
	wg sync.WaitGroup
	mu sync.Mutex
	// err is the first error of a connection; mu guards it.
	err error
}

func listenSink() (*sink, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &sink{Listener: l}
	s.wg.Go(s.accept)
	return s, nil
}

func (s *sink) port() int { return s.Addr().(*net.TCPAddr).Port }

func (s *sink) accept() {
	for {
		c, err := s.Accept()
		if err != nil {
			return
		}
		s.wg.Go(func() {
			err := errors.Join(serveSink(c), c.Close())
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.err == nil {
				s.err = err
			}
		})
	}
}

// close waits for the connections, which end with their container's.
func (s *sink) close() error {
	err := s.Listener.Close()
	s.wg.Wait()
	return errors.Join(err, s.err)
}

func serveSink(c net.Conn) error {
	var kind [1]byte
	if _, err := io.ReadFull(c, kind[:]); err != nil {
		return err
	}
	if kind[0] == netReceive {
		buf := make([]byte, 1<<20)
		for done := 0; done < netSize; done += len(buf) {
			if _, err := c.Write(buf); err != nil {
				return err
			}
		}
		return nil
	}
	if kind[0] != netSend {
		return fmt.Errorf("a connection begins with %q", kind[0])
	}
	if _, err := io.CopyN(io.Discard, c, netSize); err != nil {
		return err
	}
	_, err := c.Write([]byte{0})
	return err
}
