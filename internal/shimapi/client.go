// SPDX-License-Identifier: Apache-2.0

package shimapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/containerd/containerd/v2/pkg/dialer"
	"github.com/containerd/ttrpc"
)

// BootstrapFile is the name of the file in a task's bundle that holds the
// shim's address.
const BootstrapFile = "bootstrap.json"

// Address reads the shim's address out of the contents of a BootstrapFile.
func Address(bootstrap []byte) (string, error) {
	var b struct {
		Version  int    `json:"version"`
		Address  string `json:"address"`
		Protocol string `json:"protocol"`
	}
	if err := json.Unmarshal(bootstrap, &b); err != nil {
		return "", fmt.Errorf("decode %s: %w", BootstrapFile, err)
	}
	if b.Address == "" || b.Protocol != "ttrpc" {
		return "", fmt.Errorf("%s names no ttrpc address", BootstrapFile)
	}
	return b.Address, nil
}

// Client is a connection to a shim's Shim service. It is safe for concurrent
// use; archives deserve a connection of their own.
type Client struct {
	ShimClient
	conn *ttrpc.Client
}

// dialTimeout bounds a Dial whose context has no deadline.
const dialTimeout = 3 * time.Second

// Dial connects to a shim by the address of its task socket.
func Dial(ctx context.Context, address string) (*Client, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	c, err := dialer.ContextDialer(ctx, address)
	if err != nil {
		return nil, fmt.Errorf("dial shim %s: %w", address, err)
	}
	conn := ttrpc.NewClient(c)
	return &Client{ShimClient: NewShimClient(conn), conn: conn}, nil
}

// Close ends the connection and what is under way on it.
func (c *Client) Close() error { return c.conn.Close() }

// ChunkSize is how much archive data goes into one message.
const ChunkSize = 256 << 10

// CopyArchive writes the tar of a container's path to w.
func (c *Client) CopyArchive(ctx context.Context, req *ReadArchiveRequest, w io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.ReadArchive(ctx, req)
	if err != nil {
		return err
	}
	return copyChunks(stream, w)
}

// CopyRoot writes a tar of a container's root file system to w.
func (c *Client) CopyRoot(ctx context.Context, req *ReadRootRequest, w io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.ReadRoot(ctx, req)
	if err != nil {
		return err
	}
	return copyChunks(stream, w)
}

func copyChunks(stream interface{ Recv() (*ArchiveChunk, error) }, w io.Writer) error {
	for {
		chunk, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := w.Write(chunk.GetData()); err != nil {
			return err
		}
	}
}

// ExtractArchive unpacks the tar read from r into a container's directory.
func (c *Client) ExtractArchive(ctx context.Context, target *WriteArchiveTarget, r io.Reader) (uint64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.WriteArchive(ctx)
	if err != nil {
		return 0, err
	}
	sendErr := sendArchive(stream, target, r)
	if sendErr != nil && !errors.Is(sendErr, io.EOF) {
		return 0, sendErr
	}
	// The shim's own answer says why it stopped reading.
	resp, err := stream.CloseAndRecv()
	if err != nil {
		return 0, err
	}
	return resp.GetBytes(), nil
}

func sendArchive(stream Shim_WriteArchiveClient, target *WriteArchiveTarget, r io.Reader) error {
	if err := stream.Send(&WriteArchiveChunk{Target: target}); err != nil {
		return err
	}
	buf := make([]byte, ChunkSize)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if err := stream.Send(&WriteArchiveChunk{Data: buf[:n]}); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read archive: %w", err)
		}
	}
}
