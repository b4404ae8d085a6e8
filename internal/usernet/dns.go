// SPDX-License-Identifier: Apache-2.0

package usernet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
)

const (
	// maxQueries bounds the queries of one endpoint that wait for a resolver.
	maxQueries = 64
	// resolverTimeout bounds the wait for one resolver.
	resolverTimeout = 3 * time.Second
)

// hostNames are the names of the gateway, by which guests reach the host.
var hostNames = []string{"host.docker.internal.", "gateway.docker.internal."}

// dnsServer answers on port 53 of the gateway: names of the network itself,
// everything else by asking the resolvers of the host.
type dnsServer struct {
	s        *Switch
	upstream *resolvers
	servers  []*dns.Server
	wg       sync.WaitGroup
	// stop ends the queries under way.
	stop context.CancelFunc
}

func serveDNS(s *Switch) (*dnsServer, error) {
	at := s.gateway.address(53)
	udp, err := gonet.DialUDP(s.gateway.stack, &at, nil, ipv4.ProtocolNumber)
	if err != nil {
		return nil, fmt.Errorf("DNS: %w", err)
	}
	tcp, err := gonet.ListenTCP(s.gateway.stack, at, ipv4.ProtocolNumber)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("DNS: %w", err), udp.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	d := &dnsServer{s: s, upstream: &resolvers{}, stop: cancel}
	handler := func(network string) dns.Handler {
		return dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) { d.serve(ctx, network, w, q) })
	}
	d.servers = []*dns.Server{
		{PacketConn: udp, Handler: handler("udp"), UDPSize: dns.DefaultMsgSize},
		{Listener: &trackedListener{tcp, s}, Handler: handler("tcp")},
	}
	for _, server := range d.servers {
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		d.wg.Go(func() {
			if err := server.ActivateAndServe(); err != nil {
				s.log.Debug("DNS ended", "err", err)
			}
		})
		<-started
	}
	return d, nil
}

func (d *dnsServer) close() {
	d.stop()
	for _, server := range d.servers {
		// It fails only where the server ended before.
		_ = server.Shutdown()
	}
	d.wg.Wait()
}

// serve answers one query, or none at all where an endpoint has too many.
func (d *dnsServer) serve(ctx context.Context, network string, w dns.ResponseWriter, q *dns.Msg) {
	ep := d.s.endpointOf(w.RemoteAddr())
	if ep == nil || len(q.Question) != 1 || q.Response {
		return
	}
	answer := d.local(q)
	if answer == nil {
		if ep.queries.Add(1) <= maxQueries {
			answer = d.remote(ctx, ep, network, q)
		}
		ep.queries.Add(-1)
	}
	if answer == nil {
		return
	}
	if network == "udp" {
		size := dns.MinMsgSize
		if opt := q.IsEdns0(); opt != nil {
			size = max(size, int(opt.UDPSize()))
		}
		answer.Truncate(size)
	}
	// A guest that is gone needs no answer.
	_ = w.WriteMsg(answer)
}

// remote answers what is not of this network: from the container's other
// networks, or else from its resolvers.
func (d *dnsServer) remote(ctx context.Context, ep *endpoint, network string, q *dns.Msg) *dns.Msg {
	name, t := strings.ToLower(q.Question[0].Name), q.Question[0].Qtype
	_, ofAddress := reverse(name)
	if ofAddress || t == dns.TypeA || t == dns.TypeAAAA || t == dns.TypeANY {
		switch r, ok := d.s.askPeers(ctx, ep, name); {
		case ok && ofAddress:
			return hostName(q, r.Host)
		case ok:
			return addresses(q, r.IPs)
		}
	}
	return d.ask(ctx, ep, network, q)
}

// ask forwards a query to the endpoint's resolvers, in turn.
func (d *dnsServer) ask(ctx context.Context, ep *endpoint, network string, q *dns.Msg) *dns.Msg {
	failed := new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
	failed.RecursionAvailable = true
	if d.s.cfg.Internal {
		return failed
	}
	servers := d.upstream.list()
	if len(ep.dns) > 0 {
		servers = ep.dns
	}
	for _, server := range servers {
		answer, err := d.exchange(ctx, network, server, q)
		if err != nil {
			d.s.log.Debug("resolver does not answer", "resolver", server, "err", err)
			continue
		}
		answer.Id = q.Id
		return answer
	}
	return failed
}

// exchange asks one resolver. One on this network, another container, is asked
// from the gateway.
func (d *dnsServer) exchange(ctx context.Context, network, server string, q *dns.Msg) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, resolverTimeout)
	defer cancel()
	conn, err := d.s.dialResolver(ctx, network, server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	forwarded := q.Copy()
	forwarded.Id = dns.Id()
	client := dns.Client{Net: network, Timeout: resolverTimeout}
	answer, _, err := client.ExchangeWithConnContext(ctx, forwarded, &dns.Conn{Conn: conn})
	return answer, err
}

// dialResolver connects to a resolver over UDP or TCP.
func (s *Switch) dialResolver(ctx context.Context, network, server string) (net.Conn, error) {
	at, err := netip.ParseAddrPort(server)
	if err != nil || !s.cfg.Subnet.Contains(at.Addr()) {
		var d net.Dialer
		return d.DialContext(ctx, network, server)
	}
	local := s.gateway.address(0)
	remote := tcpip.FullAddress{NIC: nicID, Addr: toAddress(at.Addr()), Port: at.Port()}
	switch {
	case at.Addr() == s.cfg.Gateway:
		return nil, errors.New("the gateway cannot ask itself")
	case network == "tcp":
		return gonet.DialTCPWithBind(ctx, s.gateway.stack, local, remote, ipv4.ProtocolNumber)
	}
	return gonet.DialUDP(s.gateway.stack, &local, &remote, ipv4.ProtocolNumber)
}

// local answers a query about the network's own names and addresses; nil means
// that it is about neither.
func (d *dnsServer) local(q *dns.Msg) *dns.Msg {
	question := q.Question[0]
	name := strings.ToLower(question.Name)
	if ip, ok := reverse(name); ok {
		if !d.s.cfg.Subnet.Contains(ip) {
			return nil
		}
		return hostName(q, d.s.nameOf(ip))
	}
	if ips, ok := d.s.lookup(name); ok {
		return addresses(q, ips)
	}
	return nil
}

// hostName answers with the name of an address that is ours; with none, nobody
// has it.
func hostName(q *dns.Msg, host string) *dns.Msg {
	question := q.Question[0]
	answer := new(dns.Msg).SetReply(q)
	answer.RecursionAvailable = true
	switch {
	case host == "":
		answer.Rcode = dns.RcodeNameError
	case question.Qtype == dns.TypePTR:
		head := dns.RR_Header{Name: question.Name, Rrtype: question.Qtype, Class: dns.ClassINET}
		answer.Answer = append(answer.Answer, &dns.PTR{Hdr: head, Ptr: dns.Fqdn(host)})
	}
	return answer
}

// addresses answers with the addresses of a name that is ours; with none, there
// is no such name.
func addresses(q *dns.Msg, ips []netip.Addr) *dns.Msg {
	question := q.Question[0]
	answer := new(dns.Msg).SetReply(q)
	answer.RecursionAvailable = true
	if len(ips) == 0 {
		answer.Rcode = dns.RcodeNameError
	}
	if question.Qtype == dns.TypeA || question.Qtype == dns.TypeANY {
		head := dns.RR_Header{Name: question.Name, Rrtype: dns.TypeA, Class: dns.ClassINET}
		for _, ip := range ips {
			answer.Answer = append(answer.Answer, &dns.A{Hdr: head, A: net.IP(ip.AsSlice())})
		}
	}
	return answer
}

// lookup returns the addresses of a name of the network, in random order, and
// whether the name is the network's to answer for.
func (s *Switch) lookup(name string) ([]netip.Addr, bool) {
	if slices.Contains(hostNames, name) {
		if s.cfg.Internal || s.cfg.NoHost {
			return nil, true
		}
		return []netip.Addr{s.cfg.Gateway}, true
	}
	bare := strings.TrimSuffix(name, ".")
	inNetwork := strings.TrimSuffix(bare, "."+strings.ToLower(s.cfg.Name))
	s.mu.Lock()
	defer s.mu.Unlock()
	var ips []netip.Addr
	for _, ep := range s.endpoints {
		if slices.ContainsFunc(ep.spec.Names, func(n string) bool {
			return strings.EqualFold(n, bare) || strings.EqualFold(n, inNetwork)
		}) {
			ips = append(ips, ep.ip)
		}
	}
	rand.Shuffle(len(ips), func(i, j int) { ips[i], ips[j] = ips[j], ips[i] })
	return ips, len(ips) > 0
}

// nameOf returns the first name of an address, in the network's domain.
func (s *Switch) nameOf(ip netip.Addr) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	ep := s.table.Load().byIP[ip]
	if ep == nil || len(ep.spec.Names) == 0 {
		return ""
	}
	return dns.Fqdn(ep.spec.Names[0] + "." + s.cfg.Name)
}

// endpointOf returns the endpoint that has the address of a connection's peer.
func (s *Switch) endpointOf(addr net.Addr) *endpoint {
	var ip net.IP
	switch a := addr.(type) {
	case *net.UDPAddr:
		ip = a.IP
	case *net.TCPAddr:
		ip = a.IP
	}
	parsed, _ := netip.AddrFromSlice(ip)
	return s.table.Load().byIP[parsed.Unmap()]
}

// reverse parses the name of an IPv4 address in in-addr.arpa.
func reverse(name string) (netip.Addr, bool) {
	labels := strings.Split(strings.TrimSuffix(name, ".in-addr.arpa."), ".")
	if len(labels) != 4 || !strings.HasSuffix(name, ".in-addr.arpa.") {
		return netip.Addr{}, false
	}
	slices.Reverse(labels)
	ip, err := netip.ParseAddr(strings.Join(labels, "."))
	return ip, err == nil
}

// trackedListener counts the connections to DNS with the others of the endpoint
// that they come from.
type trackedListener struct {
	net.Listener
	s *Switch
}

// Accept returns the next connection that is admitted.
func (l *trackedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if ep := l.s.endpointOf(conn.RemoteAddr()); ep != nil {
			if ctx, end, ok := ep.conns.begin(); ok {
				stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
				return &trackedConn{Conn: conn, end: sync.OnceFunc(func() { stop(); end() })}, nil
			}
		}
		_ = conn.Close()
	}
}

type trackedConn struct {
	net.Conn
	end func()
}

// Close closes the connection and takes it off the count.
func (c *trackedConn) Close() error {
	defer c.end()
	return c.Conn.Close()
}

// resolvers are the host's, looked up again when they may have changed.
type resolvers struct {
	// mu guards what follows.
	mu      sync.Mutex
	servers []string
	read    time.Time
}

// list returns host:port of each resolver.
func (r *resolvers) list() []string {
	const fresh = 5 * time.Second
	r.mu.Lock()
	defer r.mu.Unlock()
	if at := time.Now(); at.Sub(r.read) >= fresh {
		r.read = at
		if servers := hostResolvers(); len(servers) > 0 {
			r.servers = servers
		}
	}
	return r.servers
}
