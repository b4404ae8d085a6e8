// SPDX-License-Identifier: Apache-2.0

// Package agent serves the guest's side of the guest link: the Guest service
// and containerd's Task service on PortAgent, and the named streams of
// PortStdio.
//
// An [Agent] lives as long as the machine; links come and go below it: each
// call of [Agent.Serve] serves one until it breaks. What the machine became by
// Renew stays.
//
// Two gates stand before every call. Each connection must say Hello first and
// agree on the version; and until Renew has succeeded, only Hello, Renew and
// PowerOff are answered, because a clone that was not renewed shares its random
// numbers and secrets with others. A handler that panics ends its connection,
// not the machine.
package agent
