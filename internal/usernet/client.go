// SPDX-License-Identifier: Apache-2.0

package usernet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/errdefs"
)

// callTimeout bounds one call of a Client whose context has no earlier end.
const callTimeout = 20 * time.Second

// Client talks to a network's process. Its methods are safe for concurrent use;
// errors have the class that they have in the process, ErrPortInUse included,
// and ErrUnavailable says that no process answers.
type Client struct {
	dir  string
	http *http.Client

	mu sync.Mutex
	// hold is guarded by mu.
	hold net.Conn
}

// Dial returns a client for the network whose process has that directory. It
// fails with errdefs' ErrUnavailable when none answers.
func Dial(ctx context.Context, dir string) (*Client, error) {
	c := newClient(dir)
	info, err := c.Inspect(ctx)
	if err != nil {
		c.Close()
		return nil, err
	}
	if info.Version != Version {
		c.Close()
		return nil, fmt.Errorf("network %s is served by process %d of another version of byre "+
			"(protocol %d, here %d): stop its containers, then stop that process: %w",
			info.Config.Name, info.PID, info.Version, Version, errdefs.ErrFailedPrecondition)
	}
	return c, nil
}

func newClient(dir string) *Client {
	path := filepath.Join(dir, controlSocket)
	return &Client{dir: dir, http: &http.Client{
		Timeout: callTimeout,
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				var d net.Dialer
				return d.DialContext(ctx, "unix", path)
			},
			MaxIdleConns:    2,
			IdleConnTimeout: 10 * time.Second,
		},
	}}
}

// Close releases the client's connections. The network goes on.
func (c *Client) Close() {
	c.http.CloseIdleConnections()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hold != nil {
		_ = c.hold.Close()
		c.hold = nil
	}
}

// Hold tells the network that it is wanted until Close, or until this process
// dies: what is not wanted ends sooner once it is idle.
func (c *Client) Hold(ctx context.Context) error {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", filepath.Join(c.dir, controlSocket))
	if err != nil {
		return fmt.Errorf("network process in %s: %w: %w", c.dir, err, errdefs.ErrUnavailable)
	}
	// The answer is not waited for: that of a process of an earlier build, which
	// knows no holders, is no matter.
	if _, err := io.WriteString(conn, "POST /v1/hold HTTP/1.1\r\nHost: network\r\nContent-Length: 0\r\n\r\n"); err != nil {
		return errors.Join(fmt.Errorf("hold network process in %s: %w", c.dir, err), conn.Close())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hold != nil {
		_ = c.hold.Close()
	}
	c.hold = conn
	return nil
}

// AddEndpoint is Switch.AddEndpoint in the network's process.
func (c *Client) AddEndpoint(ctx context.Context, spec Endpoint) (Endpoint, error) {
	var ep Endpoint
	return ep, c.call(ctx, http.MethodPost, "/v1/endpoints", spec, &ep)
}

// RemoveEndpoint is Switch.RemoveEndpoint in the network's process.
func (c *Client) RemoveEndpoint(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, endpointPath(id), nil, nil)
}

// SetNames is Switch.SetNames in the network's process.
func (c *Client) SetNames(ctx context.Context, id string, names []string) error {
	return c.call(ctx, http.MethodPut, endpointPath(id)+"/names", names, nil)
}

func endpointPath(id string) string { return "/v1/endpoints/" + url.PathEscape(id) }

// Inspect describes the network and its endpoints.
func (c *Client) Inspect(ctx context.Context) (Info, error) {
	var info Info
	return info, c.call(ctx, http.MethodGet, "/v1/info", nil, &info)
}

// Stop ends the network: its process answers and then goes, with every
// connection that it carries.
func (c *Client) Stop(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "/v1/stop", nil, nil)
}

// call makes one request; in and out may be nil.
func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	var body bytes.Buffer
	if in != nil {
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://network"+path, &body)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("network process in %s: %w: %w", c.dir, err, errdefs.ErrUnavailable)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		var f failure
		if err := readAnswer(resp.Body, &f); err != nil {
			return fmt.Errorf("network process in %s: status %s: %w", c.dir, resp.Status, err)
		}
		return f.asError()
	}
	if out == nil {
		return nil
	}
	if err := readAnswer(resp.Body, out); err != nil {
		return fmt.Errorf("network process in %s: %w", c.dir, err)
	}
	return nil
}
