// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/moby/moby/api/types/registry"
)

func TestCredentialsGoToTheRegistryThatWasNamedAndToNoOther(t *testing.T) {
	w := newWorld(t)
	var named, other atomic.Int32 // requests that carried the credentials
	challenge := func(carried *atomic.Int32, then http.HandlerFunc) http.HandlerFunc {
		return func(rw http.ResponseWriter, r *http.Request) {
			if user, password, _ := r.BasicAuth(); user == "me" && password == "secret" {
				carried.Add(1)
				then(rw, r)
				return
			}
			rw.Header().Set("WWW-Authenticate", `Basic realm="a registry"`)
			rw.WriteHeader(http.StatusUnauthorized)
		}
	}
	elsewhere := httptest.NewServer(challenge(&other, http.NotFound))
	defer elsewhere.Close()
	away := strings.Replace(elsewhere.URL, "127.0.0.1", "localhost", 1) // another name: two ports of one are one host
	reg := httptest.NewServer(challenge(&named, func(rw http.ResponseWriter, r *http.Request) {
		http.Redirect(rw, r, away+r.URL.Path, http.StatusTemporaryRedirect)
	}))
	defer reg.Close()
	_, err := w.Remote(w.ctx, strings.TrimPrefix(reg.URL, "http://")+"/image:v1", &registry.AuthConfig{Username: "me", Password: "secret"})
	if err == nil {
		t.Error("an image that is nowhere was found")
	}
	if named.Load() == 0 || other.Load() != 0 {
		t.Errorf("credentials sent %d times to the registry, %d times to where it pointed", named.Load(), other.Load())
	}
}
