// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"fmt"
	"strconv"
	"strings"
)

// spec is everything that a QEMU command line is made from. Two machines
// whose specs agree but for the descriptors have the same hardware, which is
// what cloning needs.
type spec struct {
	// name shows in process lists.
	name string
	// accel is "tcg", "kvm", "hvf" or "whpx".
	accel string
	cpus  int
	// warm is vm.Config's; the hardware is the same.
	warm bool
	// memory is the size class in bytes, hotMemory what may be added to it.
	memory, hotMemory uint64
	// kernel, initrd and cmdline are empty for a clone: its memory holds them.
	kernel, initrd, cmdline string
	// memoryPath names the memory file; empty means anonymous memory.
	memoryPath string
	// private keeps what the guest writes out of the memory file.
	private bool
	// incoming makes QEMU wait for a saved machine's state.
	incoming bool
	// nics is the number of network cards.
	nics int
	// descriptors that QEMU inherits: sockets of the monitor, the console and
	// the guest link.
	qmpFD, consoleFD, linkFD int
}

// Names of devices and back ends on QEMU's monitor.
const (
	memoryID = "ram"
	hotID    = "hot"
	hotDevID = "vmem0"
	serialID = "ports0"
	scsiID   = "scsi0"
	linkID   = "link"
)

// machineOptions leaves out every device of a PC that a utility VM has no use
// for: each costs boot time and memory.
const machineOptions = "q35,sata=off,smbus=off,usb=off,vmport=off,graphics=off,memory-backend=" + memoryID

// sandboxOptions is QEMU's own seccomp filter: it may start no process, change
// no identity and no limits.
const sandboxOptions = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"

// smp is how many processors the machine has. Before version 8.1 QEMU emulates a
// machine that can have no second one without memory barriers, which its devices'
// threads need as well: a wake-up between guest and device may be lost.
func smp(s spec) string {
	if s.accel == "tcg" && s.cpus == 1 {
		return "1,maxcpus=2"
	}
	return strconv.Itoa(s.cpus)
}

// args returns QEMU's arguments, without the program's name.
func args(s spec) []string {
	a := []string{
		"-name", "byre-" + escape(s.name),
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-sandbox", sandboxOptions,
		"-machine", machineOptions,
		"-cpu", cpuModel(s.accel),
		"-smp", smp(s),
		"-m", fmt.Sprintf("size=%dk,maxmem=%dk", s.memory>>10, (s.memory+s.hotMemory)>>10),
		"-rtc", "base=utc,clock=host",
	}
	a = append(a, accelArgs(s)...)
	a = append(a, memoryArgs(s)...)
	a = append(a,
		"-device", "virtio-balloon-pci,id=balloon0,free-page-reporting=on",
		"-device", "vmgenid,guid=auto,id=vmgenid0",
		"-device", "virtio-rng-pci,id=rng0",
		"-device", "virtio-serial-pci,id="+serialID+",max_ports=31",
		"-chardev", socketFD(linkID, s.linkFD),
		"-device", "virtserialport,id=linkport,bus="+serialID+".0,nr=1,chardev="+linkID+",name=byre.link",
		"-device", "virtio-scsi-pci,id="+scsiID,
		"-chardev", socketFD("console", s.consoleFD),
		"-serial", "chardev:console",
		"-chardev", socketFD("qmp", s.qmpFD),
		"-mon", "chardev=qmp,mode=control",
	)
	for i := range s.nics {
		a = append(a, nicArgs(i)...)
	}
	if s.kernel != "" {
		a = append(a, "-kernel", s.kernel, "-initrd", s.initrd, "-append", s.cmdline)
	}
	if s.incoming {
		a = append(a, "-incoming", "defer")
	}
	return a
}

// tcgCPU is all that TCG can do but for the fast string moves: a guest that is
// told of them copies and clears byte by byte, which TCG takes one at a time,
// and a boot takes a sixth longer.
const tcgCPU = "max,-erms,-fsrm"

// cpuModel passes the host's model through where there is acceleration.
func cpuModel(accel string) string {
	if accel == "tcg" {
		return tcgCPU
	}
	return "host"
}

// translationBuffer is TCG's buffer of translated code in MiB, which it fills
// and keeps: its default, up to 1 GiB, lets each machine grow by as much. A
// start translates 59 MiB, most of it for one run.
const translationBuffer = 32

// warmBuffer is that of a machine kept warm. All that a start runs must be in
// there still when a start comes: what does not fit empties the buffer, and all
// is to be translated again.
const warmBuffer = 80

func accelArgs(s spec) []string {
	if s.accel != "tcg" {
		return []string{"-accel", s.accel}
	}
	size := translationBuffer
	if s.warm {
		size = warmBuffer
	}
	return []string{"-accel", fmt.Sprintf("tcg,thread=multi,tb-size=%d", size)}
}

func memoryArgs(s spec) []string {
	ram := fmt.Sprintf("memory-backend-ram,id=%s,size=%dk", memoryID, s.memory>>10)
	if s.memoryPath != "" {
		share := "on"
		if s.private {
			share = "off"
		}
		ram = fmt.Sprintf("memory-backend-file,id=%s,size=%dk,mem-path=%s,share=%s", memoryID, s.memory>>10, escape(s.memoryPath), share)
	}
	a := []string{"-object", ram}
	if s.hotMemory > 0 {
		a = append(a,
			"-object", fmt.Sprintf("memory-backend-memfd,id=%s,size=%dk,share=on,reserve=off", hotID, s.hotMemory>>10),
			"-device", fmt.Sprintf("virtio-mem-pci,id=%s,memdev=%s,requested-size=0", hotDevID, hotID))
	}
	return a
}

func socketFD(id string, fd int) string {
	return fmt.Sprintf("socket,id=%s,fd=%d", id, fd)
}

// nicArgs puts a network card on a hub of its own, where nothing else is until
// a switch is attached to it (nics.go). A clone is not to announce itself: the
// work that Linux' virtio_net has for that waits for rtnl_lock, and to take a link
// down waits for that work with the lock held, for good (virtnet_close in 6.12).
// Clones are given addresses of their own, which they announce when they have them.
func nicArgs(i int) []string {
	return []string{
		"-netdev", fmt.Sprintf("hubport,id=%s,hubid=%d", nicNetdev(i), i),
		"-device", fmt.Sprintf("virtio-net-pci,id=%s,netdev=%s,mac=%s,guest_announce=off,romfile=", nicDevice(i), nicNetdev(i), nicAddress(i)),
	}
}

// escape doubles commas, which separate options.
func escape(s string) string { return strings.ReplaceAll(s, ",", ",,") }
