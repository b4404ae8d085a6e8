// SPDX-License-Identifier: Apache-2.0

// Package netcfg configures the guest's links, addresses and default route by
// rtnetlink, and writes the resolver, hosts and hostname files that containers
// get bound in, below guestapi.RuntimeDir/etc.
//
// The netlink messages are encoded here: the four that are needed take fewer
// lines than their library takes pages in PID 1.
package netcfg
