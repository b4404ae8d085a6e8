// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"

	"byre.dev/byre/internal/shimapi"
	"byre.dev/byre/internal/usernet"
)

// privateSubnet is the network of a machine that nobody connected otherwise:
// the machine and its gateway are alone on it, so that all may have the same.
var privateSubnet = netip.MustParsePrefix("192.168.127.0/24")

// netDirFile is the file in a bundle that names the directory of the private
// switch's sockets, for the clean-up after a shim that was killed.
const netDirFile = "byre-net"

// privateSwitch is the network of a machine started by a containerd that knows
// nothing of byre's networks: NAT and DNS in the shim's own process.
type privateSwitch struct {
	sw      *usernet.Switch
	dir     string
	network *shimapi.Network
}

// newPrivateSwitch starts a switch with one endpoint. Its sockets are in a
// directory of their own because a bundle's path may be too long for them.
func newPrivateSwitch(bundle, id, hostname string, log *slog.Logger) (_ *privateSwitch, err error) {
	dir, err := os.MkdirTemp("", "byre-net-")
	if err != nil {
		return nil, fmt.Errorf("private network: %w", err)
	}
	p := &privateSwitch{dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("private network: %w", err), p.close())
		}
	}()
	if err := os.WriteFile(filepath.Join(bundle, netDirFile), []byte(dir), 0o600); err != nil {
		return nil, err
	}
	p.sw, err = usernet.NewSwitch(usernet.Config{Name: "private", Subnet: privateSubnet, NoHost: true, Dir: dir, Log: log})
	if err != nil {
		return nil, err
	}
	ep, err := p.sw.AddEndpoint(usernet.Endpoint{ID: id})
	if err != nil {
		return nil, err
	}
	p.network = &shimapi.Network{
		Links: []shimapi.Link{{
			Socket: ep.Socket, MAC: ep.MAC.String(), MTU: uint32(ep.MTU),
			Addresses: []string{netip.PrefixFrom(ep.IP, ep.Subnet.Bits()).String()},
			Gateway:   ep.Gateway.String(),
		}},
		Hostname:    hostname,
		Nameservers: []string{ep.Nameserver.String()},
	}
	if hostname != "" {
		p.network.Hosts = []shimapi.Host{{Address: ep.IP.String(), Names: []string{hostname}}}
	}
	return p, nil
}

// dockerNamespace is containerd's namespace of dockerd. It plugs links into the
// network namespace of a created process before it starts it, and none for
// `--network none`, of which the specification says nothing.
const dockerNamespace = "moby"

// plugged ends the private network of a container about to start if its engine
// plugs links and plugged none: before says how many there were at its creation.
// A machine that byre connects has no private network.
func (s *Service) plugged(p *process, before int) error {
	if s.namespace != dockerNamespace || s.claim.private == nil || before < 0 {
		return nil
	}
	now, err := countLinks(p.state().GetPid())
	if err != nil || now > before {
		return err
	}
	s.log.Debug("no network was plugged: the machine's own ends", "task", p.container)
	if err := s.claim.private.sw.Close(); err != nil {
		return fmt.Errorf("end private network: %w", err)
	}
	return nil
}

// close ends the switch; a nil one has nothing to end.
func (p *privateSwitch) close() error {
	if p == nil {
		return nil
	}
	var err error
	if p.sw != nil {
		err = p.sw.Close()
	}
	return errors.Join(err, os.RemoveAll(p.dir))
}

// removeNetDir removes what the private switch of a killed shim left.
func removeNetDir(bundle string) error {
	b, err := os.ReadFile(filepath.Join(bundle, netDirFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	dir := string(b)
	if filepath.Dir(dir) != filepath.Clean(os.TempDir()) {
		return fmt.Errorf("%s names %q, which is no directory for sockets", netDirFile, dir)
	}
	return os.RemoveAll(dir)
}
