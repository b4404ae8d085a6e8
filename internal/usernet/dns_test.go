// SPDX-License-Identifier: Apache-2.0

package usernet_test

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"byre.dev/byre/internal/usernet"
)

// query asks the network's DNS from a guest; the answer's addresses and names
// come sorted.
func (g *guest) query(t *testing.T, network, name string, qtype uint16) (string, []string) {
	t.Helper()
	var conn net.Conn
	if network == "tcp" {
		c, err := g.dial(t, g.ep.Nameserver.String()+":53")
		if err != nil {
			t.Fatal(err)
		}
		conn = c
	} else {
		conn = g.udp(t, "", g.ep.Nameserver.String()+":53")
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	c := dns.Conn{Conn: conn}
	if err := c.WriteMsg(new(dns.Msg).SetQuestion(dns.Fqdn(name), qtype)); err != nil {
		t.Fatal(err)
	}
	m, err := c.ReadMsg()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, rr := range m.Answer {
		switch rr := rr.(type) {
		case *dns.A:
			got = append(got, rr.A.String())
		case *dns.PTR:
			got = append(got, rr.Ptr)
		case *dns.TXT:
			got = append(got, rr.Txt...)
		}
	}
	slices.Sort(got)
	return dns.RcodeToString[m.Rcode], got
}

// resolver answers every query with what it says, on loopback. The port is
// not 53.
func resolver(t *testing.T, says string) (addr netip.AddrPort) {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", pc.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	serveDNS(t, &dns.Server{PacketConn: pc}, says)
	serveDNS(t, &dns.Server{Listener: l}, says)
	return pc.LocalAddr().(*net.UDPAddr).AddrPort()
}

// serveDNS runs a server that answers every query with a text.
func serveDNS(t *testing.T, server *dns.Server, says string) {
	t.Helper()
	server.Handler = dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		m.Answer = append(m.Answer, &dns.TXT{
			Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET},
			Txt: []string{says},
		})
		_ = w.WriteMsg(m)
	})
	started := make(chan struct{})
	server.NotifyStartedFunc = func() { close(started) }
	go func() { _ = server.ActivateAndServe() }()
	<-started
	t.Cleanup(func() { _ = server.Shutdown() })
}

func TestNamesResolveAsLongAsTheirEndpointExists(t *testing.T) {
	s := newSwitch(t, nil)
	g := boot(t, s, usernet.Endpoint{ID: "a", Names: []string{"web"}})
	for i, names := range [][]string{{"db", "alias"}, {"db"}} {
		if _, err := s.AddEndpoint(usernet.Endpoint{ID: fmt.Sprint(i), Names: names}); err != nil {
			t.Fatal(err)
		}
	}
	check := func(name string, qtype uint16, want string) {
		t.Helper()
		for _, network := range []string{"udp", "tcp"} {
			rcode, got := g.query(t, network, name, qtype)
			if diff := cmp.Diff(want, strings.Join(append([]string{rcode}, got...), " ")); diff != "" {
				t.Errorf("%s %s over %s (-want +got):\n%s", dns.TypeToString[qtype], name, network, diff)
			}
		}
	}
	check("db", dns.TypeA, "NOERROR 10.77.0.3 10.77.0.4")
	check("DB.testnet", dns.TypeA, "NOERROR 10.77.0.3 10.77.0.4")
	check("alias", dns.TypeA, "NOERROR 10.77.0.3")
	check("alias", dns.TypeAAAA, "NOERROR")
	check("host.docker.internal", dns.TypeA, "NOERROR 10.77.0.1")
	check("2.0.77.10.in-addr.arpa", dns.TypePTR, "NOERROR web.testnet.")
	check("9.0.77.10.in-addr.arpa", dns.TypePTR, "NXDOMAIN")

	if err := s.RemoveEndpoint("0"); err != nil {
		t.Fatal(err)
	}
	check("db", dns.TypeA, "NOERROR 10.77.0.4")
	if err := s.SetNames("1", []string{"db2"}); err != nil {
		t.Fatal(err)
	}
	check("db2", dns.TypeA, "NOERROR 10.77.0.4")
}

func TestOtherNamesAreAskedOfTheResolvers(t *testing.T) {
	s := newSwitch(t, nil)
	upstream := resolver(t, "host's")
	own := resolver(t, "container's")
	s.SetResolvers([]string{"127.0.0.1:1", upstream.String()})
	g := boot(t, s, usernet.Endpoint{ID: "a"})
	h := boot(t, s, usernet.Endpoint{ID: "b", DNS: []netip.Addr{own.Addr()}})
	s.SetResolverPort("b", own.Port())
	for _, network := range []string{"udp", "tcp"} {
		if _, got := g.query(t, network, "example.test", dns.TypeTXT); !slices.Equal(got, []string{"host's"}) {
			t.Errorf("over %s the host's resolver answered %q", network, got)
		}
		if _, got := h.query(t, network, "example.test", dns.TypeTXT); !slices.Equal(got, []string{"container's"}) {
			t.Errorf("over %s the container's resolver answered %q", network, got)
		}
	}
}

func TestResolverMayBeAContainerOfTheNetwork(t *testing.T) {
	s := newSwitch(t, nil)
	server := boot(t, s, usernet.Endpoint{ID: "resolver"})
	g := boot(t, s, usernet.Endpoint{ID: "a", DNS: []netip.Addr{s.Config().Gateway, server.ep.IP}})
	pc := server.udp(t, server.ep.IP.String()+":53", "")
	serveDNS(t, &dns.Server{PacketConn: pc}, "container's")
	if _, got := g.query(t, "udp", "example.test", dns.TypeTXT); !slices.Equal(got, []string{"container's"}) {
		t.Errorf("got %q", got)
	}
}

func TestInternalNetworkAsksNobody(t *testing.T) {
	s := newSwitch(t, func(c *usernet.Config) { c.Internal = true })
	upstream := resolver(t, "outside")
	s.SetResolvers([]string{upstream.String()})
	g := boot(t, s, usernet.Endpoint{ID: "a", Names: []string{"web"}})
	if rcode, got := g.query(t, "udp", "example.test", dns.TypeTXT); rcode != "SERVFAIL" || got != nil {
		t.Errorf("got %s %q", rcode, got)
	}
	if rcode, _ := g.query(t, "udp", "web", dns.TypeA); rcode != "NOERROR" {
		t.Errorf("own name: %s", rcode)
	}
	if rcode, _ := g.query(t, "udp", "host.docker.internal", dns.TypeA); rcode != "NXDOMAIN" {
		t.Errorf("host.docker.internal: %s", rcode)
	}
}

func TestNamesOfTheOtherNetworksAreFoundToo(t *testing.T) {
	s := newSwitch(t, nil)
	s.SetResolvers(nil)
	c := ensure(t, usernet.Config{Name: "procnet", Subnet: netip.MustParsePrefix("10.66.0.0/16"), Dir: t.TempDir()})
	info, err := c.Inspect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	db, err := c.AddEndpoint(t.Context(), usernet.Endpoint{ID: "db", Names: []string{"db", "both"}})
	if err != nil {
		t.Fatal(err)
	}
	g := boot(t, s, usernet.Endpoint{ID: "a", Names: []string{"both"}, Peers: []string{"/nonexistent", info.Config.Dir}})
	for name, want := range map[string]string{
		"db":         "NOERROR " + db.IP.String(),
		"DB.procnet": "NOERROR " + db.IP.String(),
		"both":       "NOERROR " + g.ep.IP.String(),
		"neither":    "SERVFAIL",
	} {
		rcode, got := g.query(t, "udp", name, dns.TypeA)
		if got := strings.Join(append([]string{rcode}, got...), " "); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	for ip, want := range map[netip.Addr]string{
		db.IP:                            "NOERROR db.procnet.",
		netip.MustParseAddr("10.66.9.9"): "NXDOMAIN",
		g.ep.IP:                          "NOERROR both.testnet.",
	} {
		name, err := dns.ReverseAddr(ip.String())
		if err != nil {
			t.Fatal(err)
		}
		rcode, got := g.query(t, "udp", name, dns.TypePTR)
		if got := strings.Join(append([]string{rcode}, got...), " "); got != want {
			t.Errorf("name of %s: %s, want %s", ip, got, want)
		}
	}
	if err := s.SetPeers("a", nil); err != nil {
		t.Fatal(err)
	}
	if rcode, _ := g.query(t, "udp", "db", dns.TypeA); rcode != "SERVFAIL" {
		t.Errorf("db after its network was left: %s", rcode)
	}
}
