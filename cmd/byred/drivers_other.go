// SPDX-License-Identifier: Apache-2.0

//go:build !windows

package main

import (
	"context"
	"fmt"
	"os"

	"byre.dev/byre/internal/doctor"
	"byre.dev/byre/internal/guestimage"
	"byre.dev/byre/internal/home"
	"byre.dev/byre/internal/vm/qemu"
)

// driverName is the driver of this host's machines.
const driverName = "qemu"

// machineChecks examine what machines need on this host: QEMU, the guest image
// and acceleration.
func machineChecks(dir home.Dir, programDir string) []doctor.Check {
	m := machineDoctor{home: dir, programDir: programDir}
	return []doctor.Check{
		{Name: "QEMU", Run: m.qemu},
		{Name: "guest image", Run: m.image},
		{Name: "acceleration", Run: m.acceleration},
	}
}

type machineDoctor struct {
	home       home.Dir
	programDir string
}

func (m machineDoctor) find() (guestimage.Image, error) {
	return guestimage.Find(os.Getenv(guestimage.Env), m.programDir)
}

func (m machineDoctor) qemu(ctx context.Context) doctor.Finding {
	version, err := qemu.Version(ctx, "")
	if err != nil {
		return doctor.Finding{State: doctor.Failure, Detail: err.Error(), Advice: qemu.InstallAdvice}
	}
	return doctor.Finding{Detail: version}
}

func (m machineDoctor) image(context.Context) doctor.Finding {
	img, err := m.find()
	if err == nil {
		err = img.Verify()
	}
	if err != nil {
		return doctor.Finding{State: doctor.Failure, Detail: err.Error(), Advice: "Build it with make guest."}
	}
	return doctor.Finding{Detail: fmt.Sprintf("%s, build %s", img.Dir, img.Build)}
}

func (m machineDoctor) acceleration(ctx context.Context) doctor.Finding {
	img, err := m.find()
	if err != nil {
		return doctor.Finding{State: doctor.Failure, Detail: "cannot be tried without a guest image"}
	}
	d, err := qemu.New(qemu.Config{Image: img, StateDir: m.home.Path("template")})
	if err != nil {
		return doctor.Finding{State: doctor.Failure, Detail: "cannot be tried without QEMU"}
	}
	accel, why, err := d.Acceleration(ctx)
	switch {
	case err != nil:
		return doctor.Finding{State: doctor.Failure, Detail: err.Error()}
	case why != "":
		return doctor.Finding{
			State:  doctor.Warning,
			Detail: fmt.Sprintf("%s, software emulation: %s", accel, why),
			Advice: "Machines run several times slower than with hardware virtualisation: enable it in the firmware or in the hypervisor that this host runs under, and give this user access to /dev/kvm.",
		}
	}
	return doctor.Finding{Detail: accel}
}
