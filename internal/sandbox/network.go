// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"fmt"
	"net"
	"time"

	"byre.dev/byre/internal/guestapi"
	"byre.dev/byre/internal/shimapi"
	"byre.dev/byre/internal/vm"
)

// networkWait bounds the configuration of the guest's network.
const networkWait = 30 * time.Second

// configureNetwork runs beside the rest of the start; whoever needs the network
// waits for Sandbox.configured.
func (s *Sandbox) configureNetwork(ctx context.Context) {
	defer close(s.configured)
	defer s.cfg.Timeline.Begin("network")()
	ctx, cancel := context.WithTimeout(ctx, networkWait)
	defer cancel()
	hostname, _ := names(s.cfg)
	req, err := networkRequest(s.cfg.Network, hostname)
	if err == nil && len(req.Links) > 0 {
		// The card is free until here: what the machine is a clone of does not
		// depend on where it will be attached.
		req.Links[0].Device, err = s.machine.AttachNIC(ctx, vm.NIC{Socket: s.cfg.Network.Socket})
	}
	if err == nil {
		_, err = s.link.guest.ConfigureNetwork(ctx, req)
	}
	if err != nil {
		s.networkErr = fmt.Errorf("configure network: %w", s.Explain(err))
	}
}

// networkReady waits until the network is configured.
func (s *Sandbox) networkReady(ctx context.Context) error {
	select {
	case <-s.configured:
		return s.networkErr
	case <-ctx.Done():
		return fmt.Errorf("configure network: %w", ctx.Err())
	}
}

func networkRequest(n *shimapi.Network, hostname string) (*guestapi.NetworkRequest, error) {
	if n == nil {
		return &guestapi.NetworkRequest{Hostname: hostname}, nil
	}
	req := &guestapi.NetworkRequest{
		Nameservers: n.Nameservers, Search: n.Search, ResolvOptions: n.Options,
		Hostname: hostname, Domainname: n.Domainname,
	}
	for _, h := range n.Hosts {
		req.Hosts = append(req.Hosts, &guestapi.HostEntry{Address: h.Address, Names: h.Names})
	}
	if n.Socket == "" {
		return req, nil
	}
	l := &guestapi.Link{Addresses: n.Addresses, Gateway: n.Gateway, Mtu: n.MTU}
	if n.MAC != "" {
		mac, err := net.ParseMAC(n.MAC)
		if err != nil || len(mac) != 6 {
			return nil, fmt.Errorf("network address %q is not six bytes", n.MAC)
		}
		l.Mac = mac
	}
	req.Links = []*guestapi.Link{l}
	return req, nil
}
