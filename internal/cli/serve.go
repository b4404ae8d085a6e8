// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/docker/cli/cli"
	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/flags"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"byre.dev/byre/internal/daemonapi"
	"byre.dev/byre/internal/home"
	"byre.dev/byre/internal/localsock"
)

const (
	// tlsHost is where the API is served when TLS is asked for and no host is
	// named, as by dockerd.
	tlsHost = "localhost"
	tlsPort = "2376"
)

// serveFlags are dockerd's flags for where it serves, with its defaults.
type serveFlags struct {
	hosts          []string
	tls, tlsVerify bool
	files          daemonapi.Options
}

func (f *serveFlags) install(set *pflag.FlagSet) {
	dir := os.Getenv(client.EnvOverrideCertPath)
	if dir == "" {
		dir = config.Dir()
	}
	set.StringArrayVarP(&f.hosts, "host", "H", nil, "Serve on a TCP address as well: tcp://host:port, to clients with certificates")
	set.BoolVar(&f.tls, "tls", false, "Use TLS; implies --tlsverify")
	set.BoolVar(&f.tlsVerify, flags.FlagTLSVerify, os.Getenv(client.EnvTLSVerify) != "", "Use TLS and verify the clients")
	set.StringVar(&f.files.CAFile, "tlscacert", filepath.Join(dir, flags.DefaultCaFile), "Trust clients signed only by this CA")
	set.StringVar(&f.files.CertFile, "tlscert", filepath.Join(dir, flags.DefaultCertFile), "Path to TLS certificate file")
	set.StringVar(&f.files.KeyFile, "tlskey", filepath.Join(dir, flags.DefaultKeyFile), "Path to TLS key file")
}

// options checks the flags. Without a TCP address nothing but the door of the
// state directory is served, whose address may be named. The environment alone
// (DOCKER_TLS_VERIFY, which clients have) opens no port.
func (f *serveFlags) options(set *pflag.FlagSet, own string) (daemonapi.Options, error) {
	verify := f.tlsVerify || f.tls && !set.Changed(flags.FlagTLSVerify)
	opts := f.files
	for _, host := range f.hosts {
		if strings.TrimSpace(host) == "" || host == own {
			continue
		}
		address, err := tcpAddress(host, own)
		if err != nil {
			return daemonapi.Options{}, err
		}
		opts.Addresses = append(opts.Addresses, address)
	}
	if len(f.hosts) == 0 && (f.tls || verify && set.Changed(flags.FlagTLSVerify)) {
		opts.Addresses = []string{net.JoinHostPort(tlsHost, tlsPort)}
	}
	if len(opts.Addresses) > 0 && !verify {
		return daemonapi.Options{}, fmt.Errorf("serve: --host tcp://%s: TCP is served to clients with certificates alone: give --tlsverify, with --tlscacert, --tlscert and --tlskey",
			opts.Addresses[0])
	}
	return opts, nil
}

// tcpAddress returns host and port of a tcp:// address, with dockerd's defaults.
func tcpAddress(given, own string) (string, error) {
	if !strings.Contains(given, "://") {
		given = "tcp://" + given
	}
	u, err := url.Parse(given)
	if err != nil {
		return "", fmt.Errorf("serve: --host %s: no address: tcp://127.0.0.1:2376 is one", given)
	}
	switch {
	case u.Scheme != "tcp":
		return "", fmt.Errorf("serve: --host %s: the daemon always serves on %s, and besides on tcp:// addresses alone; %s moves the first", given, own, home.Env)
	case u.Path != "" || u.RawQuery != "" || u.User != nil:
		return "", fmt.Errorf("serve: --host %s: an address is tcp://host:port and nothing more", given)
	}
	name, port := u.Hostname(), u.Port()
	if u.Host == "" {
		name = tlsHost
	}
	if port == "" {
		port = tlsPort
	}
	return net.JoinHostPort(name, port), nil
}

func serveCommand(cfg Config) *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the daemon in the foreground (other commands start it by themselves)",
		Args:  cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opts, err := f.options(cmd.Flags(), localsock.Address(cfg.Home.Path("docker.sock")))
			if err != nil {
				return err
			}
			return serve(cmd, cfg, opts)
		},
	}
	f.install(cmd.Flags())
	return cmd
}

func serve(cmd *cobra.Command, cfg Config, opts daemonapi.Options) error {
	for _, name := range []string{"host", "context", "tls", flags.FlagTLSVerify, "tlscacert", "tlscert", "tlskey"} {
		if cmd.Root().Flags().Changed(name) {
			return fmt.Errorf("serve: --%s before the command chooses a daemon for a client: for the daemon itself give it after \"serve\"", name)
		}
	}
	return become(cfg, append([]string{daemonapi.Serve}, opts.Args()...)...)
}
