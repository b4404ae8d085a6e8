// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func TestWhereADaemonServesIsSaidInDockerdsWords(t *testing.T) {
	const own = "unix:///run/byre/docker.sock"
	for _, c := range []struct {
		args, verify string
		want         []string
		err          string
	}{
		{"", "", nil, ""},
		// A client's environment opens no port.
		{"", "1", nil, ""},
		{"-H " + own, "", nil, ""},
		{"--host tcp://127.0.0.1:2376 --tlsverify", "", []string{"127.0.0.1:2376"}, ""},
		{"-H tcp://:2376 -H tcp://[::1]:5000 --tls", "", []string{":2376", "[::1]:5000"}, ""},
		{"-H tcp://host", "1", []string{"host:2376"}, ""},
		{"-H tcp:// --tlsverify", "", []string{"localhost:2376"}, ""},
		{"--tlsverify", "", []string{"localhost:2376"}, ""},
		{"--tls", "", []string{"localhost:2376"}, ""},
		{"-H tcp://127.0.0.1:2375", "", nil, "--host tcp://127.0.0.1:2375: TCP is served to clients with certificates alone: give --tlsverify"},
		{"-H 127.0.0.1:2375", "", nil, "give --tlsverify"},
		{"-H tcp://127.0.0.1:2376 --tls --tlsverify=false", "", nil, "give --tlsverify"},
		{"-H tcp://127.0.0.1:2376 --tlsverify=false", "1", nil, "give --tlsverify"},
		{"-H fd://", "", nil, "--host fd://"},
		{"-H unix:///other.sock --tlsverify", "", nil, "BYRE_HOME"},
		{"-H tcp://host:1/path --tlsverify", "", nil, "nothing more"},
	} {
		t.Setenv("DOCKER_TLS_VERIFY", c.verify)
		t.Setenv("DOCKER_CERT_PATH", "/certs")
		var f serveFlags
		set := pflag.NewFlagSet("serve", pflag.ContinueOnError)
		f.install(set)
		if err := set.Parse(strings.Fields(c.args)); err != nil {
			t.Fatal(err)
		}
		got, err := f.options(set, own)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: err = %v, want %q", c.args, err, c.err)
			}
			continue
		}
		if err != nil || !slices.Equal(got.Addresses, c.want) {
			t.Errorf("%q: %q, %v; want %q", c.args, got.Addresses, err, c.want)
		}
		if got.CAFile != filepath.Join("/certs", "ca.pem") || got.KeyFile != filepath.Join("/certs", "key.pem") {
			t.Errorf("%q: certificates %+v", c.args, got)
		}
	}
}
