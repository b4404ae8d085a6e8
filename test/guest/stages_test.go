// SPDX-License-Identifier: Apache-2.0

//go:build linux

package guest_test

import (
	"testing"
	"time"

	"byre.dev/byre/internal/guest/guesttest"
)

// BenchmarkStages prints what a container's stages cost, the first time in a
// machine and later: elapsed time, and the processor time of QEMU.
func BenchmarkStages(b *testing.B) {
	m := guesttest.Boot(b, guesttest.Config{Disks: []guesttest.Disk{
		{Path: guesttest.BusyboxDisk(b), ReadOnly: true},
		{Path: guesttest.ScratchDisk(b)},
	}})
	stage := func(name string, f func()) {
		b.Helper()
		begin, cpu := time.Now(), m.CPU()
		f()
		b.Logf("%-10s %8v elapsed, %6v processor", name, time.Since(begin).Round(100*time.Microsecond), m.CPU()-cpu)
	}
	b.Logf("boot: %v processor", m.CPU())
	stage("connect", func() { m.Connect(); m.Greet() })
	stage("renew", func() { m.Renew() })
	for _, id := range []string{"first", "second", "third"} {
		var p *guesttest.Process
		stage("mount", func() { m.MountRoot(id) })
		stage("create", func() {
			var err error
			if p, err = m.Create(id, guesttest.Spec("true")); err != nil {
				b.Fatal(err)
			}
		})
		stage("start", func() {
			if err := p.Start(); err != nil {
				b.Fatal(err)
			}
		})
		stage("wait", func() { p.Wait() })
		stage("delete", func() { p.Delete() })
	}
}
