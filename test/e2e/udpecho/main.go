// SPDX-License-Identifier: Apache-2.0

// Command udpecho answers UDP packets with their text and the sender's, or asks:
//
//	udpecho :7000            answers, for ever
//	udpecho HOST:7000 text   sends text until an answer comes, and prints it
//
// End-to-end tests run it in containers and on the host.
package main

import (
	"fmt"
	"net"
	"os"
	"time"
)

func main() {
	var err error
	switch len(os.Args) {
	case 2:
		err = answer(os.Args[1])
	case 3:
		err = ask(os.Args[1], os.Args[2])
	default:
		err = fmt.Errorf("usage: udpecho ADDRESS [TEXT]")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "udpecho:", err)
		os.Exit(1)
	}
}

func answer(address string) error {
	conn, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	buf := make([]byte, 1500)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return err
		}
		if _, err := conn.WriteTo(append([]byte("echo "), buf[:n]...), from); err != nil {
			return err
		}
	}
}

// ask sends once a second for 20 seconds: a packet may come before the one who
// is to answer it.
func ask(address, text string) error {
	conn, err := net.Dial("udp", address)
	if err != nil {
		return err
	}
	buf := make([]byte, 1500)
	for range 20 {
		if _, err := conn.Write([]byte(text)); err != nil {
			time.Sleep(time.Second)
			continue
		}
		if err := conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			return err
		}
		if n, err := conn.Read(buf); err == nil {
			fmt.Printf("%s\n", buf[:n])
			return nil
		}
	}
	return fmt.Errorf("no answer from %s", address)
}
