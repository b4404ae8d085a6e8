// SPDX-License-Identifier: Apache-2.0

package builder

import (
	"net"
	"net/url"
	"slices"
	"strings"
)

// hostName is the host for the machine: its loopback interface is there.
const hostName = "host.docker.internal"

// environment returns the builder's own variables: the proxies of the daemon's,
// as the machine reaches them.
func environment(environ []string) []string {
	env := []string{"BUILDKIT_SETUP_CGROUPV2_ROOT=1"}
	for _, v := range environ {
		name, value, _ := strings.Cut(v, "=")
		switch strings.ToLower(name) {
		case "http_proxy", "https_proxy":
			if value != "" {
				env = append(env, name+"="+fromMachine(value))
			}
		case "no_proxy":
			env = append(env, v)
		}
	}
	slices.Sort(env)
	return env
}

// fromMachine names a proxy on the host's loopback interface by the host's name.
// As for other programs, http:// may be missing.
func fromMachine(proxy string) string {
	text := proxy
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil {
		return proxy
	}
	host, port := u.Hostname(), u.Port()
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return proxy
	}
	u.Host = hostName
	if port != "" {
		u.Host = net.JoinHostPort(hostName, port)
	}
	return u.String()
}
