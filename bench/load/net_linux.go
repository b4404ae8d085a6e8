// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"net"
	"time"
)

// netSize is what is sent and received; bench's listener knows it, and the byte
// that says which of the two is to come.
const (
	netSize    = 64 << 20
	netSend    = 's'
	netReceive = 'r'
)

// network sends to bench's listener and receives from it, a connection each.
func network(address string) ([]time.Duration, error) {
	return both(
		func() error { return netSession(address, netSend, netSendAll) },
		func() error { return netSession(address, netReceive, netReceiveAll) })
}

func netSession(address string, kind byte, transfer func(net.Conn) error) error {
	c, err := net.DialTimeout("tcp", address, 10*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(5 * time.Minute)); err != nil {
		return err
	}
	if _, err := c.Write([]byte{kind}); err != nil {
		return err
	}
	return transfer(c)
}

// netSendAll ends when the other side says that it has all.
func netSendAll(c net.Conn) error {
	buf := make([]byte, chunk)
	for done := 0; done < netSize; done += len(buf) {
		if _, err := c.Write(buf); err != nil {
			return err
		}
	}
	_, err := io.ReadFull(c, buf[:1])
	return err
}

func netReceiveAll(c net.Conn) error {
	buf := make([]byte, chunk)
	for got := 0; got < netSize; {
		n, err := c.Read(buf)
		if err != nil {
			return fmt.Errorf("after %d bytes of %d: %w", got, netSize, err)
		}
		got += n
	}
	return nil
}
