// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"byre.dev/byre/internal/guestapi"
	"byre.dev/byre/internal/shimapi"
	"byre.dev/byre/internal/vm"
)

// networkWait bounds the configuration of the guest's network.
const networkWait = 30 * time.Second

// network is what a sandbox is attached to.
type network struct {
	// mu serialises changes, across calls to the machine and the guest.
	mu sync.Mutex
	// links is guarded by mu: those at work, each with its card.
	links []attachedLink
}

// attachedLink is a link with the machine's card that it uses.
type attachedLink struct {
	shimapi.Link
	card net.HardwareAddr
}

// configureNetwork runs beside the rest of the start; whoever needs the network
// waits for Sandbox.configured.
func (s *Sandbox) configureNetwork(ctx context.Context) {
	defer close(s.configured)
	defer s.cfg.Timeline.Begin("network")()
	n := s.cfg.Network
	if n == nil {
		n = &shimapi.Network{}
	}
	s.networkErr = s.changeNetwork(ctx, n)
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

// SetNetwork makes the sandbox's network what n says while its containers run:
// links that are new are attached, those that n does not have are detached, and
// the others go on but for their default route. When it fails, links may be as
// before or as n says; another call with a network that is right mends that.
func (s *Sandbox) SetNetwork(ctx context.Context, n *shimapi.Network) error {
	if err := s.networkReady(ctx); err != nil {
		return err
	}
	return s.changeNetwork(ctx, n)
}

func (s *Sandbox) changeNetwork(ctx context.Context, n *shimapi.Network) error {
	ctx, cancel := context.WithTimeout(ctx, networkWait)
	defer cancel()
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	err := s.detachLinks(ctx, n)
	if err == nil {
		err = s.attachLinks(ctx, n)
	}
	if err != nil {
		return fmt.Errorf("configure network: %w", s.Explain(err))
	}
	return nil
}

// detachLinks takes away what n does not have, which frees its cards.
func (s *Sandbox) detachLinks(ctx context.Context, n *shimapi.Network) error {
	for i := 0; i < len(s.net.links); {
		l := s.net.links[i]
		if slices.ContainsFunc(n.Links, func(want shimapi.Link) bool { return want.Socket == l.Socket }) {
			i++
			continue
		}
		_, err := s.link.guest.ConfigureNetwork(ctx, &guestapi.NetworkRequest{
			Links: []*guestapi.Link{{Device: l.card, Change: guestapi.Link_TAKE_DOWN}},
		})
		// The switch is left whatever the guest says.
		if detachErr := s.machine.DetachNIC(ctx, l.card); detachErr != nil {
			return errors.Join(err, detachErr)
		}
		s.net.links = slices.Delete(s.net.links, i, i+1)
		if err != nil {
			return err
		}
	}
	return nil
}

// attachLinks attaches what is new in n and configures all of it.
func (s *Sandbox) attachLinks(ctx context.Context, n *shimapi.Network) error {
	hostname, _ := names(s.cfg)
	req := networkRequest(n, hostname)
	links := make([]attachedLink, len(n.Links))
	fresh := map[int]bool{}
	err := func() error {
		for i, want := range n.Links {
			change, err := linkRequest(want)
			if err != nil {
				return err
			}
			links[i].Link = want
			if at := slices.IndexFunc(s.net.links, func(l attachedLink) bool { return l.Socket == want.Socket }); at >= 0 {
				links[i].card = s.net.links[at].card
				change.Change = guestapi.Link_ROUTE
			} else {
				if links[i].card, err = s.machine.AttachNIC(ctx, vm.NIC{Socket: want.Socket}); err != nil {
					return err
				}
				fresh[i] = true
			}
			change.Device = links[i].card
			req.Links = append(req.Links, change)
		}
		slices.SortStableFunc(req.Links, withoutGatewayFirst)
		_, err := s.link.guest.ConfigureNetwork(ctx, req)
		return err
	}()
	if err != nil {
		for i := range fresh {
			err = errors.Join(err, s.machine.DetachNIC(ctx, links[i].card))
		}
		return err
	}
	s.net.links = links
	return nil
}

// withoutGatewayFirst has default routes taken away before one is made.
func withoutGatewayFirst(a, b *guestapi.Link) int {
	switch {
	case a.Gateway == "" && b.Gateway != "":
		return -1
	case a.Gateway != "" && b.Gateway == "":
		return 1
	}
	return 0
}

// networkRequest is a network as the guest is told of it, but for its links.
func networkRequest(n *shimapi.Network, hostname string) *guestapi.NetworkRequest {
	req := &guestapi.NetworkRequest{
		Nameservers: n.Nameservers, Search: n.Search, ResolvOptions: n.Options,
		Hostname: hostname, Domainname: n.Domainname,
	}
	for _, h := range n.Hosts {
		req.Hosts = append(req.Hosts, &guestapi.HostEntry{Address: h.Address, Names: h.Names})
	}
	return req
}

func linkRequest(l shimapi.Link) (*guestapi.Link, error) {
	req := &guestapi.Link{Addresses: l.Addresses, Gateway: l.Gateway, Mtu: l.MTU}
	if l.MAC != "" {
		mac, err := net.ParseMAC(l.MAC)
		if err != nil || len(mac) != 6 {
			return nil, fmt.Errorf("network address %q is not six bytes", l.MAC)
		}
		req.Mac = mac
	}
	return req, nil
}
