// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/Microsoft/go-winio"
)

// binaryLogs is false: descriptors 3 to 5 are not inherited here.
const binaryLogs = false

const pipeDial = 10 * time.Second

func isPipe(path string) bool { return strings.HasPrefix(path, `\\.\pipe\`) }

func openOutput(path string) (io.WriteCloser, error) {
	if !isPipe(path) {
		return os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	}
	timeout := pipeDial
	c, err := winio.DialPipe(path, &timeout)
	if err != nil {
		return nil, err
	}
	return &pipeOut{c}, nil
}

// pipeOut is a named pipe whose blocked writer can be woken.
type pipeOut struct{ net.Conn }

func (p *pipeOut) unblock() { _ = p.SetWriteDeadline(time.Unix(1, 0)) }

// pipeIn is a named pipe. Its server's end is the end of the input: there is no
// second writer.
type pipeIn struct{ net.Conn }

// begin has nothing to hold.
func (p pipeIn) begin() error { return nil }

// finish lets what is on its way arrive.
func (p pipeIn) finish() { _ = p.SetReadDeadline(time.Now().Add(100 * time.Millisecond)) }

type fileIn struct{ *os.File }

func (fileIn) begin() error { return nil }

func (fileIn) finish() {}

func openInput(path string) (input, error) {
	if !isPipe(path) {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		return fileIn{f}, nil
	}
	timeout := pipeDial
	c, err := winio.DialPipe(path, &timeout)
	if err != nil {
		return nil, err
	}
	return pipeIn{c}, nil
}
