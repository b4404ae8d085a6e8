// SPDX-License-Identifier: Apache-2.0

package netcfg

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// conn is a route netlink socket; requests are made one at a time.
type conn struct {
	fd  int
	seq uint32
}

func dial() (*conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("bind netlink: %w", err)
	}
	return &conn{fd: fd}, nil
}

func (c *conn) close() { unix.Close(c.fd) }

// message is a netlink message under construction.
type message struct {
	kind, flags uint16
	body        []byte
}

// attr appends a route attribute, padded to four bytes.
func (m *message) attr(kind uint16, value []byte) {
	b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	m.body = append(m.body, b...)
}

func (m *message) attr32(kind uint16, v uint32) {
	m.attr(kind, binary.NativeEndian.AppendUint32(nil, v))
}

func (m *message) encode(seq uint32) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(m.body)))
	b = binary.NativeEndian.AppendUint16(b, m.kind)
	b = binary.NativeEndian.AppendUint16(b, m.flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	b = binary.NativeEndian.AppendUint32(b, seq)
	b = binary.NativeEndian.AppendUint32(b, 0) // the kernel knows our port
	return append(b, m.body...)
}

// do sends a message and waits for the kernel's word on it.
func (c *conn) do(m *message) error { return c.list(m, nil) }

// list sends a message and calls item with each message that answers it, until
// the kernel says that it is done.
func (c *conn) list(m *message, item func(kind uint16, body []byte)) error {
	c.seq++
	if err := unix.Sendto(c.fd, m.encode(c.seq), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	buf := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(c.fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if done, err := answer(buf[:n], c.seq, item); done {
			return err
		}
	}
}

// answer takes the messages apart that answer request seq; item may be nil.
func answer(b []byte, seq uint32, item func(kind uint16, body []byte)) (done bool, err error) {
	for len(b) >= unix.SizeofNlMsghdr {
		size := int(binary.NativeEndian.Uint32(b))
		if size < unix.SizeofNlMsghdr || size > len(b) {
			return true, errors.New("malformed netlink answer")
		}
		kind, of := binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint32(b[8:])
		if kind == unix.NLMSG_ERROR && of == seq && size >= unix.SizeofNlMsghdr+4 {
			if errno := -int32(binary.NativeEndian.Uint32(b[unix.SizeofNlMsghdr:])); errno != 0 {
				return true, unix.Errno(errno)
			}
			return true, nil
		}
		if kind == unix.NLMSG_DONE && of == seq {
			return true, nil
		}
		if of == seq && item != nil {
			item(kind, b[unix.SizeofNlMsghdr:size])
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return false, nil
}

// links lists all links.
func (c *conn) links() (all []nic, err error) {
	m := &message{kind: unix.RTM_GETLINK, flags: unix.NLM_F_DUMP, body: make([]byte, unix.SizeofIfInfomsg)}
	err = c.list(m, func(kind uint16, body []byte) {
		if n, ok := parseNIC(body); ok && kind == unix.RTM_NEWLINK {
			all = append(all, n)
		}
	})
	return all, err
}

// linkMessage starts a message about a link.
func linkMessage(index int, flags, change uint32) *message {
	b := make([]byte, 4, unix.SizeofIfInfomsg) // family, pad, type
	b = binary.NativeEndian.AppendUint32(b, uint32(index))
	b = binary.NativeEndian.AppendUint32(b, flags)
	b = binary.NativeEndian.AppendUint32(b, change)
	return &message{kind: unix.RTM_NEWLINK, body: b}
}

// setDown takes a link down.
func (c *conn) setDown(index int) error { return c.do(linkMessage(index, 0, unix.IFF_UP)) }

// setUp brings a link up with an MTU and hardware address, 0 and nil to keep.
func (c *conn) setUp(index int, mtu uint32, mac []byte) error {
	m := linkMessage(index, unix.IFF_UP, unix.IFF_UP)
	if mtu != 0 {
		m.attr32(unix.IFLA_MTU, mtu)
	}
	if mac != nil {
		m.attr(unix.IFLA_ADDRESS, mac)
	}
	return c.do(m)
}

func family(a netip.Addr) byte {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// addressMessage is a message about a link's address.
func addressMessage(kind, flags uint16, index int, p netip.Prefix) *message {
	b := []byte{family(p.Addr()), byte(p.Bits()), 0, unix.RT_SCOPE_UNIVERSE}
	if p.Addr().Is6() {
		b[2] = unix.IFA_F_NODAD // the switch gives an address once
	}
	b = binary.NativeEndian.AppendUint32(b, uint32(index))
	m := &message{kind: kind, flags: flags, body: b}
	ip := p.Addr().AsSlice()
	m.attr(unix.IFA_LOCAL, ip)
	m.attr(unix.IFA_ADDRESS, ip)
	return m
}

// addAddress gives a link an address; one that it has already is replaced.
func (c *conn) addAddress(index int, p netip.Prefix) error {
	m := addressMessage(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, index, p)
	if p.Addr().Is4() && p.Bits() < 31 {
		m.attr(unix.IFA_BROADCAST, broadcast(p))
	}
	return c.do(m)
}

// removeAddress takes an address from a link.
func (c *conn) removeAddress(index int, p netip.Prefix) error {
	return c.do(addressMessage(unix.RTM_DELADDR, 0, index, p))
}

// addresses lists the addresses of a link.
func (c *conn) addresses(index int) (all []netip.Prefix, err error) {
	m := &message{kind: unix.RTM_GETADDR, flags: unix.NLM_F_DUMP, body: make([]byte, unix.SizeofIfAddrmsg)}
	err = c.list(m, func(kind uint16, body []byte) {
		if p, of, ok := parseAddress(body); ok && kind == unix.RTM_NEWADDR && of == index {
			all = append(all, p)
		}
	})
	return all, err
}

// parseAddress reads what the kernel says of one address.
func parseAddress(b []byte) (p netip.Prefix, index int, ok bool) {
	if len(b) < unix.SizeofIfAddrmsg {
		return p, 0, false
	}
	bits, index := int(b[1]), int(binary.NativeEndian.Uint32(b[4:]))
	attributes(b[unix.SizeofIfAddrmsg:], func(kind uint16, value []byte) {
		// An address of a point-to-point link is its far end's; the local one counts.
		if a, valid := netip.AddrFromSlice(value); valid && (kind == unix.IFA_LOCAL || kind == unix.IFA_ADDRESS && !ok) {
			p, ok = netip.PrefixFrom(a, bits), true
		}
	})
	return p, index, ok
}

// attributes calls each with the route attributes in b.
func attributes(b []byte, each func(kind uint16, value []byte)) {
	for len(b) >= unix.SizeofRtAttr {
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofRtAttr || size > len(b) {
			return
		}
		each(binary.NativeEndian.Uint16(b[2:]), b[unix.SizeofRtAttr:size])
		b = b[min((size+3)&^3, len(b)):]
	}
}

func broadcast(p netip.Prefix) []byte {
	ip := p.Addr().As4()
	n := binary.BigEndian.Uint32(ip[:]) | ^uint32(0)>>p.Bits()
	return binary.BigEndian.AppendUint32(nil, n)
}

// defaultRoute is a message about the default route over a link.
func defaultRoute(kind, flags uint16, index int, family, protocol byte) *message {
	b := []byte{family, 0, 0, 0, unix.RT_TABLE_MAIN, protocol,
		unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST, 0, 0, 0, 0}
	m := &message{kind: kind, flags: flags, body: b}
	m.attr32(unix.RTA_OIF, uint32(index))
	return m
}

// addDefaultRoute routes everything over a gateway on a link, in place of the
// default route that was.
func (c *conn) addDefaultRoute(index int, gateway netip.Addr) error {
	m := defaultRoute(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, index, family(gateway), unix.RTPROT_STATIC)
	m.attr(unix.RTA_GATEWAY, gateway.AsSlice())
	return c.do(m)
}

// removeDefaultRoute takes a link's IPv4 default route away.
func (c *conn) removeDefaultRoute(index int) error {
	return c.do(defaultRoute(unix.RTM_DELROUTE, 0, index, unix.AF_INET, unix.RTPROT_UNSPEC))
}
