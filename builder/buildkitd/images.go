// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/util/resolver"
	"github.com/moby/buildkit/util/tracing"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// imagesHost stands for the daemon's image store in URLs.
	imagesHost = "images.byre.internal"
	// hostName is the host of the machine, whose loopback interface it reaches.
	hostName = "host.docker.internal"
	// maxDescriptor bounds the daemon's answer about a name.
	maxDescriptor = 64 << 10
)

// newClient returns the client of everything that has to do with registries:
// the daemon's image store is behind the link, and a registry on the loopback
// interface is one of the host's, not of this machine.
func newClient(l *links) *http.Client {
	dialer := &net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		switch {
		case host == imagesHost:
			return l.dialImages(ctx)
		case loopback(host):
			addr = net.JoinHostPort(hostName, port)
		}
		return dialer.DialContext(ctx, network, addr)
	}
	t.Proxy = func(r *http.Request) (*url.URL, error) {
		if host := r.URL.Hostname(); host == imagesHost || loopback(host) {
			return nil, nil
		}
		return http.ProxyFromEnvironment(r)
	}
	return &http.Client{Transport: tracing.NewTransport(t)}
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// registryHosts asks the daemon for each blob first: what its images consist
// of is not fetched again. Names are resolved by the registries themselves,
// unless localImages has them.
func registryHosts(client *http.Client) docker.RegistryHosts {
	registries := resolver.NewRegistryConfig(nil)
	return func(host string) ([]docker.RegistryHost, error) {
		list, err := registries(host)
		if err != nil {
			return nil, err
		}
		for i := range list {
			list[i].Client = client
		}
		own := docker.RegistryHost{
			Client: client, Host: imagesHost, Scheme: "http", Path: "/v2", Capabilities: docker.HostCapabilityPull,
		}
		return append([]docker.RegistryHost{own}, list...), nil
	}
}

// localImages finds names in the daemon's image store. It is read-only.
type localImages struct{ client *http.Client }

var _ images.Store = localImages{}

// Get asks the daemon what a name stands for.
func (s localImages) Get(ctx context.Context, name string) (images.Image, error) {
	target := url.URL{Scheme: "http", Host: imagesHost, Path: "/image", RawQuery: url.Values{"name": {name}}.Encode()}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return images.Image{}, err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return images.Image{}, fmt.Errorf("ask the daemon for image %s: %w", name, err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return images.Image{}, fmt.Errorf("image %s: %w", name, errdefs.ErrNotFound)
	default:
		return images.Image{}, fmt.Errorf("ask the daemon for image %s: %s", name, resp.Status)
	}
	var desc ocispecs.Descriptor
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxDescriptor)).Decode(&desc); err != nil {
		return images.Image{}, fmt.Errorf("ask the daemon for image %s: %w", name, err)
	}
	return images.Image{Name: name, Target: desc}, nil
}

func refused(what string) error {
	return fmt.Errorf("%s in the daemon's image store: %w", what, errdefs.ErrNotImplemented)
}

// List is refused: nothing of a build needs it.
func (localImages) List(context.Context, ...string) ([]images.Image, error) {
	return nil, refused("list")
}

// Create is refused.
func (localImages) Create(context.Context, images.Image) (images.Image, error) {
	return images.Image{}, refused("create")
}

// Update is refused.
func (localImages) Update(context.Context, images.Image, ...string) (images.Image, error) {
	return images.Image{}, refused("update")
}

// Delete is refused.
func (localImages) Delete(context.Context, string, ...images.DeleteOpt) error {
	return refused("delete")
}
