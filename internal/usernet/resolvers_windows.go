// SPDX-License-Identifier: Apache-2.0

package usernet

import (
	"net/netip"
	"slices"
	"unsafe"

	"golang.org/x/sys/windows"
)

// hostResolvers returns the resolvers of the adapters that are up.
func hostResolvers() []string {
	const flags = windows.GAA_FLAG_SKIP_UNICAST | windows.GAA_FLAG_SKIP_ANYCAST |
		windows.GAA_FLAG_SKIP_MULTICAST | windows.GAA_FLAG_SKIP_FRIENDLY_NAME
	size := uint32(16 << 10)
	for {
		buf := make([]uint64, size/8+1)
		// SAFETY: buf is at least size bytes, aligned for the structure, and
		// outlives the list that the call builds in it.
		first := (*windows.IpAdapterAddresses)(unsafe.Pointer(&buf[0]))
		err := windows.GetAdaptersAddresses(windows.AF_UNSPEC, flags, 0, first, &size)
		if err == windows.ERROR_BUFFER_OVERFLOW && size < 1<<20 {
			continue
		}
		if err != nil {
			return nil
		}
		return adapterResolvers(first)
	}
}

func adapterResolvers(a *windows.IpAdapterAddresses) []string {
	var servers []string
	for ; a != nil; a = a.Next {
		if a.OperStatus != windows.IfOperStatusUp {
			continue
		}
		for d := a.FirstDnsServerAddress; d != nil; d = d.Next {
			ip, ok := netip.AddrFromSlice(d.Address.IP())
			// fec0:0:0:ffff::1 to ::3 stand for "none configured".
			if !ok || netip.MustParsePrefix("fec0::/10").Contains(ip) {
				continue
			}
			if at := netip.AddrPortFrom(ip.Unmap(), 53).String(); !slices.Contains(servers, at) {
				servers = append(servers, at)
			}
		}
	}
	return servers
}
