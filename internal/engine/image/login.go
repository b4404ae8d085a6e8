// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteserrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/registry"
)

// Login checks credentials with the registry that they name. Those it refuses
// are errdefs' ErrUnauthenticated. Nothing is kept.
func (s *Store) Login(ctx context.Context, auth registry.AuthConfig) error {
	host := registryHost(auth.ServerAddress)
	endpoints, err := docker.ConfigureDefaultRegistries(
		docker.WithPlainHTTP(docker.MatchLocalhost), docker.WithAuthorizer(newAuthorizer(&auth, host)))(host)
	if err != nil || len(endpoints) == 0 {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid registry %q: %v", auth.ServerAddress, err))
	}
	at := endpoints[0]
	url := at.Scheme + "://" + at.Host + at.Path + "/"
	resp, err := ping(ctx, at, url)
	if err == nil && resp.StatusCode == http.StatusUnauthorized {
		if err = at.Authorizer.AddResponses(ctx, []*http.Response{resp}); err == nil {
			resp, err = ping(ctx, at, url)
		}
	}
	status := 0
	if refusal, ok := errors.AsType[remoteserrors.ErrUnexpectedStatus](err); ok {
		status, err = refusal.StatusCode, nil
	} else if err == nil {
		status = resp.StatusCode
	}
	switch {
	case err != nil:
		return fmt.Errorf("login to %s: %w", url, err)
	case status == http.StatusOK:
		return nil
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return errdefs.ErrUnauthenticated.WithMessage(fmt.Sprintf(
			"login attempt to %s failed with status: %d %s", url, status, http.StatusText(status)))
	}
	return fmt.Errorf("login to %s: status %d %s", url, status, http.StatusText(status))
}

// ping asks a registry whether it lets the caller in. The answer's body is
// closed.
func ping(ctx context.Context, at docker.RegistryHost, url string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	if err := at.Authorizer.Authorize(ctx, req); err != nil {
		return nil, err
	}
	client := at.Client
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	return resp, resp.Body.Close()
}

// registryHost is the host of a server address as clients keep it: with a
// scheme and a path, or without.
func registryHost(address string) string {
	_, rest, found := strings.Cut(address, "://")
	if !found {
		rest = address
	}
	host, _, _ := strings.Cut(rest, "/")
	switch host {
	case "", "index.docker.io":
		return "docker.io"
	}
	return host
}
