// SPDX-License-Identifier: Apache-2.0

package hcs

// The types of this file are the part of the Host Compute Service's schema 2.1
// that a utility VM needs, in its own words; see "HCS schema reference" of
// Microsoft's virtualization documentation.

// ComputeSystem is the document that a compute system is created from.
type ComputeSystem struct {
	// Owner is who made the system; systems are listed by it.
	Owner string
	// SchemaVersion is the schema that the document keeps to.
	SchemaVersion Version
	// VirtualMachine describes the machine.
	VirtualMachine VirtualMachine
	// ShouldTerminateOnLastHandleClosed ends the machine with its owner.
	ShouldTerminateOnLastHandleClosed bool
}

// Version is a version of the schema.
type Version struct {
	// Major and Minor are its two numbers.
	Major, Minor int
}

// VirtualMachine is the machine of a compute system.
type VirtualMachine struct {
	// StopOnReset ends the machine when the guest resets it.
	StopOnReset bool
	// Chipset says what the machine boots.
	Chipset Chipset
	// ComputeTopology is memory and processors.
	ComputeTopology Topology
	// Devices are those present at boot.
	Devices Devices
}

// Chipset says what a machine boots.
type Chipset struct {
	// UseUtc runs the hardware clock in UTC.
	UseUtc bool
	// LinuxKernelDirect boots a Linux kernel without firmware.
	LinuxKernelDirect LinuxKernelDirect
}

// LinuxKernelDirect is a kernel with its initrd and command line; the files
// are the host's.
type LinuxKernelDirect struct {
	// KernelFilePath names a bzImage.
	KernelFilePath string
	// InitRdPath names the first root file system.
	InitRdPath string
	// KernelCmdLine is the kernel's command line.
	KernelCmdLine string
}

// Topology is memory and processors.
type Topology struct {
	// Memory is the guest's memory.
	Memory Memory
	// Processor are the virtual processors.
	Processor Processor
}

// Memory is a guest's memory.
type Memory struct {
	// SizeInMB is its size in MiB.
	SizeInMB uint64
	// AllowOvercommit backs it by the host's page file.
	AllowOvercommit bool
	// EnableDeferredCommit charges the host for pages when they are touched.
	EnableDeferredCommit bool
	// EnableColdDiscardHint lets the guest give freed pages back.
	EnableColdDiscardHint bool
}

// Processor are virtual processors.
type Processor struct {
	// Count is their number.
	Count int
}

// Devices are a machine's devices by kind and key.
type Devices struct {
	// ComPorts are serial ports by number.
	ComPorts map[string]ComPort `json:",omitempty"`
	// Scsi are controllers by name or GUID.
	Scsi map[string]Scsi
	// HvSocket is the guest link.
	HvSocket HvSocket
	// Plan9 is HCS's own file server, without shares: ours serves them over
	// the guest link.
	Plan9 Plan9
}

// ComPort is a serial port.
type ComPort struct {
	// NamedPipe is the host's pipe that the port is connected to.
	NamedPipe string
}

// Scsi is a SCSI controller.
type Scsi struct {
	// Attachments are disks by LUN, in decimal.
	Attachments map[string]Attachment
}

// Attachment is a disk on a controller.
type Attachment struct {
	// Type is "VirtualDisk" for a VHD or VHDX file.
	Type string
	// Path names the file on the host.
	Path string
	// ReadOnly keeps the guest from writing.
	ReadOnly bool `json:",omitempty"`
}

// NetworkAdapter is a NIC.
type NetworkAdapter struct {
	// EndpointId names the endpoint of the Host Compute Network.
	EndpointId string
	// MacAddress is the NIC's address, in dashes.
	MacAddress string `json:",omitempty"`
}

// HvSocket configures Hyper-V sockets.
type HvSocket struct {
	// HvSocketConfig says who may use them.
	HvSocketConfig HvSocketConfig
}

// HvSocketConfig says which host processes may talk to the machine, as
// security descriptors in SDDL.
type HvSocketConfig struct {
	// DefaultBindSecurityDescriptor guards listening on the host.
	DefaultBindSecurityDescriptor string
	// DefaultConnectSecurityDescriptor guards connecting to the guest.
	DefaultConnectSecurityDescriptor string
	// ServiceTable has the services that differ from the defaults, by GUID.
	ServiceTable map[string]HvSocketService `json:",omitempty"`
}

// HvSocketService is a service that differs from the defaults.
type HvSocketService struct {
	// BindSecurityDescriptor guards listening on the host.
	BindSecurityDescriptor string `json:",omitempty"`
	// ConnectSecurityDescriptor guards connecting to the guest.
	ConnectSecurityDescriptor string `json:",omitempty"`
	// AllowWildcardBinds lets a listener that names no machine take the
	// machine's connections.
	AllowWildcardBinds bool
}

// Plan9 is HCS's own file server.
type Plan9 struct{}

// ModifySettingRequest changes a running compute system.
type ModifySettingRequest struct {
	// ResourcePath names what is changed.
	ResourcePath string
	// RequestType is "Add", "Remove" or "Update".
	RequestType string
	// Settings are the new settings.
	Settings any `json:",omitempty"`
}
