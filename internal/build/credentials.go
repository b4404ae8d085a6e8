// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"

	"github.com/moby/buildkit/session/auth"
	"github.com/moby/moby/api/types/registry"
	"google.golang.org/grpc"
)

// credentials answers a builder with what came with the request. Tokens are
// not made here: BuildKit gets them with the credentials.
type credentials struct {
	auth.UnimplementedAuthServer
	auth map[string]registry.AuthConfig
}

// Register adds the service to a session.
func (c *credentials) Register(srv *grpc.Server) { auth.RegisterAuthServer(srv, c) }

// Credentials returns those of one registry; none are no error.
func (c *credentials) Credentials(_ context.Context, req *auth.CredentialsRequest) (*auth.CredentialsResponse, error) {
	names := []string{req.Host, "https://" + req.Host, "https://" + req.Host + "/v1/"}
	if req.Host == "registry-1.docker.io" || req.Host == "docker.io" {
		names = append(names, "https://index.docker.io/v1/", "docker.io", "index.docker.io")
	}
	for _, name := range names {
		a, ok := c.auth[name]
		switch {
		case !ok:
		case a.IdentityToken != "":
			return &auth.CredentialsResponse{Secret: a.IdentityToken}, nil
		default:
			return &auth.CredentialsResponse{Username: a.Username, Secret: a.Password}, nil
		}
	}
	return &auth.CredentialsResponse{}, nil
}
