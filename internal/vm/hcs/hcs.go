// SPDX-License-Identifier: Apache-2.0

// Package hcs holds the documents by which machines run on Hyper-V through
// Windows' Host Compute Service: the compute system that is created, and the
// requests that change it while it runs. They are built by pure functions on
// every operating system, and tested there.
//
// The guest sees what it sees under QEMU: disks by LUN on one SCSI controller,
// a serial console, and network cards, each plugged in with its endpoint and
// found by the endpoint's address. The guest link is AF_HYPERV, which the guest's
// kernel shows as AF_VSOCK.
package hcs

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"github.com/containerd/errdefs"
)

const (
	// MaxDisks is how many LUNs the machine's one controller has. HCS allows
	// four controllers; the guest finds a disk by LUN alone, hence one.
	MaxDisks = 64
	// controller names the SCSI controller.
	controller = "0"
	// blockMB is the granularity of memory in MiB: HCS wants even numbers.
	blockMB = 2
)

// Spec is everything that a compute system is made from.
type Spec struct {
	// Owner is who made the system, for lists of systems.
	Owner string
	// Kernel names the bzImage, Initrd the first root file system; Cmdline is
	// the kernel's command line.
	Kernel, Initrd, Cmdline string
	// Memory is what the machine starts with, in bytes.
	Memory uint64
	// CPUs is the number of virtual processors.
	CPUs int
	// ConsolePipe names the pipe of the serial console; empty means that
	// there is none.
	ConsolePipe string
	// UserSID is the account that may use the guest link beside SYSTEM and
	// the administrators; empty means nobody.
	UserSID string
}

// NIC is a network card on an endpoint of the Host Compute Network.
type NIC struct {
	// ID is the card's GUID, Endpoint the GUID of its endpoint.
	ID, Endpoint string
	// MAC is its address, in dashes; empty means the endpoint's.
	MAC string
}

// Document returns the compute system for a machine. It fails with
// errdefs.ErrInvalidArgument for what HCS would refuse.
func Document(s Spec) (ComputeSystem, error) {
	if err := s.validate(); err != nil {
		return ComputeSystem{}, fmt.Errorf("describe machine: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	acl := securityDescriptor(s.UserSID)
	doc := ComputeSystem{
		Owner:                             s.Owner,
		SchemaVersion:                     Version{2, 1},
		ShouldTerminateOnLastHandleClosed: true,
		VirtualMachine: VirtualMachine{
			StopOnReset: true,
			Chipset: Chipset{
				UseUtc: true,
				LinuxKernelDirect: LinuxKernelDirect{
					KernelFilePath: s.Kernel, InitRdPath: s.Initrd, KernelCmdLine: s.Cmdline,
				},
			},
			ComputeTopology: Topology{
				Memory: Memory{
					SizeInMB: sizeMB(s.Memory), AllowOvercommit: true,
					EnableDeferredCommit: true, EnableColdDiscardHint: true,
				},
				Processor: Processor{Count: s.CPUs},
			},
			Devices: Devices{
				Scsi: map[string]Scsi{controller: {Attachments: map[string]Attachment{}}},
				HvSocket: HvSocket{HvSocketConfig{
					DefaultBindSecurityDescriptor: acl, DefaultConnectSecurityDescriptor: acl,
				}},
			},
		},
	}
	devices := &doc.VirtualMachine.Devices
	if s.ConsolePipe != "" {
		devices.ComPorts = map[string]ComPort{"0": {NamedPipe: s.ConsolePipe}}
	}
	return doc, nil
}

// sid is the form of a security identifier; anything else in a security
// descriptor could change what it grants.
var sid = regexp.MustCompile(`^S-1(-[0-9]{1,10}){2,15}$`)

func (s Spec) validate() error {
	switch {
	case s.Kernel == "" || s.Initrd == "":
		return errors.New("kernel and initrd are needed")
	case s.CPUs < 1:
		return fmt.Errorf("%d processors", s.CPUs)
	case s.Memory < blockMB<<20:
		return fmt.Errorf("%d bytes of memory", s.Memory)
	case s.UserSID != "" && !sid.MatchString(s.UserSID):
		return fmt.Errorf("%q is no security identifier", s.UserSID)
	}
	return nil
}

// securityDescriptor grants everything to SYSTEM, the administrators and one
// account, and protects the list from inheritance.
func securityDescriptor(user string) string {
	acl := "D:P(A;;FA;;;SY)(A;;FA;;;BA)"
	if user != "" {
		acl += "(A;;FA;;;" + user + ")"
	}
	return acl
}

// sizeMB is a size in MiB, rounded up to what HCS takes.
func sizeMB(bytes uint64) uint64 {
	const block = blockMB << 20
	blocks := bytes / block
	if bytes%block != 0 {
		blocks++
	}
	return blocks * blockMB
}

func (n NIC) adapter() NetworkAdapter {
	return NetworkAdapter{EndpointId: n.Endpoint, MacAddress: n.MAC}
}

// AttachDisk is the request that plugs a VHD or VHDX file in at a LUN. The
// machine's account must have been granted access to the file.
func AttachDisk(lun uint32, path string, readOnly bool) (ModifySettingRequest, error) {
	at, err := attachment(lun)
	if err != nil {
		return ModifySettingRequest{}, fmt.Errorf("attach disk %s: %w", path, err)
	}
	return ModifySettingRequest{
		ResourcePath: at, RequestType: "Add",
		Settings: Attachment{Type: "VirtualDisk", Path: path, ReadOnly: readOnly},
	}, nil
}

// DetachDisk is the request that unplugs the disk at a LUN.
func DetachDisk(lun uint32) (ModifySettingRequest, error) {
	at, err := attachment(lun)
	if err != nil {
		return ModifySettingRequest{}, fmt.Errorf("detach disk: %w", err)
	}
	return ModifySettingRequest{ResourcePath: at, RequestType: "Remove"}, nil
}

func attachment(lun uint32) (string, error) {
	if lun >= MaxDisks {
		return "", fmt.Errorf("LUN %d is over %d: %w", lun, MaxDisks-1, errdefs.ErrResourceExhausted)
	}
	return "VirtualMachine/Devices/Scsi/" + controller + "/Attachments/" + strconv.FormatUint(uint64(lun), 10), nil
}

// SetMemory is the request that gives the machine another amount of memory.
func SetMemory(bytes uint64) ModifySettingRequest {
	return ModifySettingRequest{
		ResourcePath: "VirtualMachine/ComputeTopology/Memory/SizeInMB",
		RequestType:  "Update", Settings: sizeMB(bytes),
	}
}

// AttachNIC is the request that plugs a network card in: a machine starts with
// none. It fails with errdefs.ErrInvalidArgument for what HCS would refuse.
func AttachNIC(n NIC) (ModifySettingRequest, error) {
	if n.ID == "" || n.Endpoint == "" {
		return ModifySettingRequest{}, fmt.Errorf("attach network card: it needs an ID and an endpoint: %w", errdefs.ErrInvalidArgument)
	}
	return ModifySettingRequest{ResourcePath: nicPath(n), RequestType: "Add", Settings: n.adapter()}, nil
}

// DetachNIC is the request that unplugs a network card.
func DetachNIC(n NIC) ModifySettingRequest {
	return ModifySettingRequest{ResourcePath: nicPath(n), RequestType: "Remove", Settings: n.adapter()}
}

func nicPath(n NIC) string { return "VirtualMachine/Devices/NetworkAdapters/" + n.ID }
