// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/windows"
)

func freeSpace(path string) (uint64, error) {
	p, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return 0, err
	}
	var free uint64
	if err := windows.GetDiskFreeSpaceEx(p, &free, nil, nil); err != nil {
		return 0, fmt.Errorf("ask for the free space of %s: %w", path, err)
	}
	return free, nil
}

// memoryStatus is MEMORYSTATUSEX of sysinfoapi.h.
type memoryStatus struct {
	Length            uint32
	MemoryLoad        uint32
	TotalPhys         uint64
	AvailPhys         uint64
	TotalPageFile     uint64
	AvailPageFile     uint64
	TotalVirtual      uint64
	AvailVirtual      uint64
	AvailExtendedVirt uint64
}

func availableMemory() (uint64, error) {
	st := memoryStatus{Length: uint32(unsafe.Sizeof(memoryStatus{}))}
	call := windows.NewLazySystemDLL("kernel32.dll").NewProc("GlobalMemoryStatusEx")
	// SAFETY: the call fills a structure of the length that it names.
	if ok, _, err := call.Call(uintptr(unsafe.Pointer(&st))); ok == 0 {
		return 0, fmt.Errorf("ask for available memory: %w", err)
	}
	return st.AvailPhys, nil
}
