// SPDX-License-Identifier: Apache-2.0

package builder

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestProxiesOfTheHostAreNamedAsTheMachineReachesThem(t *testing.T) {
	got := environment([]string{
		"HOME=/root", "HTTP_PROXY=http://127.0.0.1:3128", "https_proxy=http://user:word@proxy.example:8080/",
		"no_proxy=localhost,.example", "HTTPS_PROXY=", "http_proxy=http://localhost",
	})
	want := []string{
		"BUILDKIT_SETUP_CGROUPV2_ROOT=1", "HTTP_PROXY=http://host.docker.internal:3128", "http_proxy=http://host.docker.internal",
		"https_proxy=http://user:word@proxy.example:8080/", "no_proxy=localhost,.example",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for in, want := range map[string]string{
		"http://[::1]:80": "http://host.docker.internal:80", "127.0.0.1:3128": "http://host.docker.internal:3128", "proxy:1": "proxy:1", "http://10.0.0.1:1": "http://10.0.0.1:1",
	} {
		if got := fromMachine(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}
