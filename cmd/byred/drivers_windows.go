// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"

	"byre.dev/byre/internal/doctor"
	"byre.dev/byre/internal/guestimage"
	"byre.dev/byre/internal/home"
)

// driverName is the driver of this host's machines.
const driverName = "none"

// machineChecks examine what machines need on this host.
func machineChecks(_ home.Dir, programDir string) []doctor.Check {
	return []doctor.Check{
		{Name: "guest image", Run: func(context.Context) doctor.Finding {
			img, err := guestimage.Find(os.Getenv(guestimage.Env), programDir)
			if err == nil {
				err = img.Verify()
			}
			if err != nil {
				return doctor.Finding{State: doctor.Failure, Detail: err.Error(), Advice: "Build it with make guest."}
			}
			return doctor.Finding{Detail: fmt.Sprintf("%s, build %s", img.Dir, img.Build)}
		}},
		{Name: "machines", Run: func(context.Context) doctor.Finding {
			return doctor.Finding{
				State:  doctor.Failure,
				Detail: "this build has no driver for Hyper-V yet: its documents are there (internal/vm/hcs), its calls are not",
				Advice: "Run byre on Linux.",
			}
		}},
	}
}
