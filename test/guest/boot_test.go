// SPDX-License-Identifier: Apache-2.0

//go:build linux

package guest_test

import (
	"testing"

	"byre.dev/byre/internal/guest/guesttest"
)

func TestGuestBootsAndIsRenewed(t *testing.T) {
	m := guesttest.Boot(t, guesttest.Config{})
	m.Connect()
	hello := m.Greet()
	if !hello.NeedsRenewal {
		t.Error("a fresh machine does not ask for renewal")
	}
	r := m.Renew()
	if r.Hostname != "tested" {
		t.Errorf("host name %q, want tested", r.Hostname)
	}
	t.Log(hello, r)
}
