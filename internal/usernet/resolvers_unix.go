// SPDX-License-Identifier: Apache-2.0

//go:build unix

package usernet

import (
	"net"

	"github.com/miekg/dns"
)

// hostResolvers returns the resolvers of resolv.conf(5), which without the file
// is the one on this host.
func hostResolvers() []string {
	config, err := dns.ClientConfigFromFile("/etc/resolv.conf")
	if err != nil || len(config.Servers) == 0 {
		return []string{"127.0.0.1:53"}
	}
	servers := make([]string, 0, len(config.Servers))
	for _, server := range config.Servers {
		servers = append(servers, net.JoinHostPort(server, config.Port))
	}
	return servers
}
