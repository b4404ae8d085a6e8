// SPDX-License-Identifier: Apache-2.0

//go:build unix

package dockerapi_test

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-containerregistry/pkg/registry"
	apiregistry "github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/client"
)

// lockedRegistry is a registry that wants a name and a password; it returns its
// host.
func lockedRegistry(t *testing.T) string {
	t.Helper()
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "joe" || password != "secret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://")
}

func encoded(t *testing.T, auth apiregistry.AuthConfig) string {
	t.Helper()
	b, err := json.Marshal(auth)
	if err != nil {
		t.Fatal(err)
	}
	return base64.URLEncoding.EncodeToString(b)
}

func TestLoginTellsGoodCredentialsFromBad(t *testing.T) {
	s, host := serve(t), lockedRegistry(t)
	for _, address := range []string{host, "http://" + host + "/v2/"} {
		resp, err := s.RegistryLogin(t.Context(), client.RegistryLoginOptions{Username: "joe", Password: "secret", ServerAddress: address})
		if err != nil || resp.Auth.Status != "Login Succeeded" {
			t.Errorf("%s: %v, error %v", address, resp, err)
		}
	}
	_, err := s.RegistryLogin(t.Context(), client.RegistryLoginOptions{Username: "joe", Password: "wrong", ServerAddress: host})
	if !errdefs.IsUnauthorized(err) {
		t.Errorf("wrong password: error %v", err)
	}
}

func TestAPushedImageIsInItsRegistryAndComesBack(t *testing.T) {
	s, host := serve(t), lockedRegistry(t)
	name := host + "/team/tiny:v1"
	s.load(t, name)
	auth := encoded(t, apiregistry.AuthConfig{Username: "joe", Password: "secret"})
	push := func(ref, auth string) string {
		resp, err := s.ImagePush(t.Context(), ref, client.ImagePushOptions{RegistryAuth: auth})
		if err != nil {
			return err.Error()
		}
		defer resp.Close()
		b, err := io.ReadAll(resp)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if text := push(name, encoded(t, apiregistry.AuthConfig{})); !strings.Contains(text, "push access denied for "+host+"/team/tiny") {
		t.Errorf("push without credentials: %s", text)
	}
	if text := push(host+"/team/other:v1", auth); !strings.Contains(text, "tag does not exist") {
		t.Errorf("push of what is not there: %s", text)
	}
	text := push(name, auth)
	img, err := s.ImageInspect(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text, "v1: digest: "+img.ID+" size: ") || !strings.Contains(text, `"Status":"Pushed"`) && !strings.Contains(text, `"status":"Pushed"`) {
		t.Errorf("push said %s", text)
	}
	remote, err := s.DistributionInspect(t.Context(), name, client.DistributionInspectOptions{EncodedRegistryAuth: auth})
	if err != nil || remote.Descriptor.Digest.String() != img.ID || len(remote.Platforms) != 1 || remote.Platforms[0].OS != "linux" {
		t.Errorf("in the registry: %+v, error %v", remote, err)
	}
	if _, err := s.ImageRemove(t.Context(), name, client.ImageRemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	pull, err := s.ImagePull(t.Context(), name, client.ImagePullOptions{RegistryAuth: auth})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, pull); err != nil {
		t.Fatal(err)
	}
	if again, err := s.ImageInspect(t.Context(), name); err != nil || again.ID != img.ID {
		t.Errorf("pulled again: %s, error %v; want %s", again.ID, err, img.ID)
	}
}
