// SPDX-License-Identifier: Apache-2.0

package request

import (
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/network"
)

// OptionMTU is the one option of a network that has an effect.
const OptionMTU = "com.docker.network.driver.mtu"

// NetworkRules are the rules for a request to create a network.
func NetworkRules() []Rule {
	rules := honored("Name", "IPAM.Config.Subnet", "IPAM.Config.IPRange", "IPAM.Config.Gateway", "Internal", "Labels")
	return append(rules,
		Rule{Field: "Driver", Verdict: Partly, Why: "the driver is bridge", Allow: oneOf("bridge", "default")},
		Rule{Field: "Scope", Verdict: Partly, Why: "networks are of this host alone, local", Allow: oneOf("local")},
		Rule{Field: "EnableIPv4", Verdict: Partly, Why: "byre's networks carry IPv4 and nothing else", Allow: isTrue},
		Rule{Field: "EnableIPv6", Verdict: Partly, Why: "byre's networks carry IPv4 only", Allow: isFalse},
		Rule{Field: "IPAM.Driver", Verdict: Partly, Why: "addresses are given by the driver default", Allow: oneOf("default")},
		Rule{Field: "IPAM.Options", Verdict: Refused, Why: "the driver default takes no options"},
		Rule{Field: "IPAM.Config.AuxiliaryAddresses", Verdict: Refused, Why: "nothing but containers has addresses on a network"},
		Rule{Field: "Attachable", Verdict: Harmless, Why: "containers attach to every network"},
		Rule{Field: "Ingress", Verdict: Refused, Why: "there is no swarm"},
		Rule{Field: "ConfigOnly", Verdict: Refused, Why: "every network is one that containers can be on"},
		Rule{Field: "ConfigFrom.Network", Verdict: Refused, Why: "every network has a configuration of its own"},
		Rule{Field: "Options", Verdict: Partly, Why: "there is no bridge on the host to have options; given are " +
			OptionMTU + ", what is so anyway: enable_icc and enable_ip_masquerade true, and options that Docker's driver does not know either, which are shown", Allow: allowNetworkOptions},
	)
}

// ConnectRules are the rules for a request to connect a container to a network.
func ConnectRules() []Rule {
	return append(honored("Container"), endpointRules("EndpointConfig.")...)
}

// checkIPv4 refuses a network without IPv4: false is no empty value here, it
// asks for something.
func checkIPv4(v any) error {
	req, ok := v.(*network.CreateRequest)
	if !ok || req.EnableIPv4 == nil || *req.EnableIPv4 {
		return nil
	}
	c := checker{rules: index(NetworkRules())}
	c.refuse(c.rules["EnableIPv4"])
	return c.err
}

func isTrue(v any) bool {
	p, ok := v.(*bool)
	return ok && p != nil && *p
}

func isFalse(v any) bool {
	p, ok := v.(*bool)
	return ok && p != nil && !*p
}

func allowNetworkOptions(v any) bool {
	options, ok := v.(map[string]string)
	for name, value := range options {
		switch strings.TrimPrefix(name, "com.docker.network.bridge.") {
		case OptionMTU:
			_, err := strconv.ParseUint(value, 10, 16)
			ok = ok && err == nil
		case "enable_icc", "enable_ip_masquerade":
			yes, err := strconv.ParseBool(value)
			ok = ok && err == nil && yes
		default:
			// An option outside of Docker's names has no effect there either.
			ok = ok && !strings.HasPrefix(name, "com.docker.")
		}
	}
	return ok
}
