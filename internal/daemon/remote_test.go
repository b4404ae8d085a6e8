// SPDX-License-Identifier: Apache-2.0

//go:build unix

package daemon_test

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"byre.dev/byre/internal/daemon"
	"byre.dev/byre/internal/testenv"
)

// certificates makes an authority's and returns the directory.
func certificates(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := testenv.Certificates(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func remote(dir string, addresses ...string) daemon.Remote {
	return daemon.Remote{
		Addresses: addresses,
		CAFile:    filepath.Join(dir, "ca.pem"), CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem"),
	}
}

// freePort is an address that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// ping asks a daemon on TCP, which must have a certificate of the authority in
// trusted, with the client's certificate in own, if that is not empty.
func ping(t *testing.T, address, trusted, own string) error {
	t.Helper()
	pool := x509.NewCertPool()
	b, err := os.ReadFile(filepath.Join(trusted, "ca.pem"))
	if err != nil || !pool.AppendCertsFromPEM(b) {
		t.Fatalf("no authority: %v", err)
	}
	cfg := &tls.Config{RootCAs: pool}
	if own != "" {
		pair, err := tls.LoadX509KeyPair(filepath.Join(own, "cert.pem"), filepath.Join(own, "key.pem"))
		if err != nil {
			t.Fatal(err)
		}
		// Whatever authority the server names: a hostile client would do so.
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: cfg}}
	resp, err := c.Get("https://" + address + "/_ping")
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

func TestOnTCPTheDaemonAnswersThoseAloneWhoseCertificateItsAuthoritySigned(t *testing.T) {
	ours, others := certificates(t), certificates(t)
	cfg := config(t)
	address := freePort(t)
	cfg.Remote = remote(ours, address)
	stop := run(t, cfg)
	if err := ping(t, address, ours, ours); err != nil {
		t.Errorf("with a certificate: %v", err)
	}
	if err := ping(t, address, ours, ""); err == nil {
		t.Error("a client without a certificate is answered")
	}
	if err := ping(t, address, ours, others); err == nil {
		t.Error("a client with another authority's certificate is answered")
	}
	resp, err := http.Get("http://" + address + "/_ping")
	if err == nil {
		resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("without TLS: %s", resp.Status)
		}
	}
	if got := version(t, cfg); got != "1.2.3-test" {
		t.Errorf("the door of the state directory: version %q", got)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if c, err := net.Dial("tcp", address); err == nil {
		c.Close()
		t.Error("the address is open without a daemon")
	}
}

func TestCertificatesAndAddressesThatAreNoGoodAreNamed(t *testing.T) {
	dir := certificates(t)
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for want, change := range map[string]func(*daemon.Remote){
		"--tlscacert: no file":           func(r *daemon.Remote) { r.CAFile = "/no/such/ca.pem" },
		"--tlscert: no file":             func(r *daemon.Remote) { r.CertFile = "/no/such/cert.pem" },
		"--tlskey: no file":              func(r *daemon.Remote) { r.KeyFile = "" },
		"--tlscacert " + empty:           func(r *daemon.Remote) { r.CAFile = empty },
		"tcp://" + taken.Addr().String(): func(r *daemon.Remote) { r.Addresses = append(r.Addresses, taken.Addr().String()) },
	} {
		cfg := config(t)
		cfg.Remote = remote(dir, freePort(t))
		change(&cfg.Remote)
		err := daemon.Run(t.Context(), cfg, func() { t.Errorf("%s: the daemon answers", want) })
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("err = %v, want %q", err, want)
		}
	}
}
