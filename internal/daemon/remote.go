// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/docker/go-connections/tlsconfig"
)

// Remote says where the Docker API is served beside the door of the state
// directory: on TCP, by TLS alone, and to those alone who have a certificate.
// Such a client has what the owner of the door has, which is the account that
// runs the daemon.
type Remote struct {
	// Addresses are TCP addresses, host and port; none by default.
	Addresses []string
	// CAFile holds the certificates that clients' must be signed by, and no
	// others; CertFile and KeyFile are the daemon's. PEM.
	CAFile, CertFile, KeyFile string
}

// listen opens the addresses.
func (r Remote) listen(ctx context.Context) (_ []net.Listener, err error) {
	if len(r.Addresses) == 0 {
		return nil, nil
	}
	cfg, err := r.tls()
	if err != nil {
		return nil, err
	}
	var opened []net.Listener
	defer func() {
		if err != nil {
			closeListeners(opened)
		}
	}()
	for _, address := range r.Addresses {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
		if err != nil {
			return nil, fmt.Errorf("serve the Docker API on tcp://%s: %w", address, err)
		}
		opened = append(opened, tls.NewListener(l, cfg))
	}
	return opened, nil
}

// tls is dockerd's configuration with --tlsverify.
func (r Remote) tls() (*tls.Config, error) {
	for _, f := range []struct{ flag, path string }{
		{"--tlscacert", r.CAFile}, {"--tlscert", r.CertFile}, {"--tlskey", r.KeyFile},
	} {
		if _, err := os.Stat(f.path); err != nil {
			return nil, fmt.Errorf("%s: no file to serve TCP with: %w", f.flag, err)
		}
	}
	cfg, err := tlsconfig.Server(tlsconfig.Options{
		CAFile: r.CAFile, CertFile: r.CertFile, KeyFile: r.KeyFile,
		ClientAuth: tls.RequireAndVerifyClientCert, ExclusiveRootPools: true,
	})
	if err != nil {
		return nil, fmt.Errorf("--tlscacert %s, --tlscert %s, --tlskey %s: %w", r.CAFile, r.CertFile, r.KeyFile, err)
	}
	if cfg.ClientCAs == nil || cfg.ClientAuth != tls.RequireAndVerifyClientCert {
		return nil, errors.New("--tlscacert: clients would not be verified")
	}
	return cfg, nil
}

// closeListeners closes what may be closed already, by the server that it was
// given to.
func closeListeners(ls []net.Listener) {
	for _, l := range ls {
		_ = l.Close()
	}
}
