// SPDX-License-Identifier: Apache-2.0

package shimapi

import "time"

// What a spare shim tells its daemon, and what it leaves in its directory for
// whoever looks: a file of the shim's name and SpareSuffix holds a Spare while
// the machine is warm and free.
const (
	SpareWarm     = "warm\n"
	SpareTaken    = "taken\n"
	SpareNeedless = "needless\n"
	SpareSuffix   = ".spare.json"
)

// Spare describes a spare shim whose machine is warm.
type Spare struct {
	// Socket takes connections while the machine is free.
	Socket string `json:"socket"`
	// PID is the shim's process, MachinePID the one that carries the machine.
	PID        int `json:"pid"`
	MachinePID int `json:"machinePid"`
	// Since is when the machine was warm.
	Since time.Time `json:"since"`
}
