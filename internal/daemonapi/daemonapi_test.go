// SPDX-License-Identifier: Apache-2.0

package daemonapi_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"byre.dev/byre/internal/daemonapi"
)

func TestADaemonReadsWhatTheCommandLineTellsIt(t *testing.T) {
	for _, o := range []daemonapi.Options{
		{},
		{Addresses: []string{"127.0.0.1:2376"}, CAFile: "/certs/ca.pem", CertFile: "/certs/cert.pem", KeyFile: "/certs/key.pem"},
		{Addresses: []string{":2376", "[::1]:5000"}, CAFile: "-a b", CertFile: "c=d", KeyFile: ""},
	} {
		got, err := daemonapi.ParseOptions(o.Args())
		if err != nil {
			t.Errorf("%+v: %v", o, err)
		}
		if diff := cmp.Diff(o, got); diff != "" {
			t.Errorf("read differs (-told +read):\n%s", diff)
		}
	}
}

func TestWithoutAnAddressADaemonIsToldNothing(t *testing.T) {
	if args := (daemonapi.Options{CAFile: "/certs/ca.pem"}).Args(); len(args) != 0 {
		t.Errorf("args = %q", args)
	}
}

func TestArgumentsThatADaemonDoesNotKnowAreRefusedByName(t *testing.T) {
	for _, args := range [][]string{{"--host=x"}, {"more"}} {
		if _, err := daemonapi.ParseOptions(args); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
}
