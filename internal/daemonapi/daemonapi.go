// SPDX-License-Identifier: Apache-2.0

// Package daemonapi is the contract between byre, the command line, and byred,
// the program beside it that holds what a command line has no use for: the
// daemon, the networks' switches and the examination of the host. Every command
// pays for what its program is linked with; hence two programs.
//
// The first argument of byred is one of the verbs.
package daemonapi

import (
	"flag"
	"fmt"
	"io"
)

// Program is the name of the daemon's program, which is in byre's directory.
const Program = "byred"

const (
	// Serve runs the daemon; [Options.Args] follow.
	Serve = "serve"
	// Doctor examines the host and takes no arguments.
	Doctor = "doctor"
	// Network runs one network's switch; the network's directory follows.
	Network = "network-switch"
)

// ExitTaken is the exit code of a daemon that found its state directory taken by
// another, which may be on its way out. It is EX_TEMPFAIL of sysexits.h.
const ExitTaken = 75

// Options are what a daemon is told on its command line.
type Options struct {
	// Addresses are TCP addresses, host and port, on which the Docker API is
	// served beside the state directory's own door, to clients with certificates
	// alone.
	Addresses []string
	// CAFile holds the certificates that clients' must be signed by; CertFile and
	// KeyFile are the daemon's. They mean something with Addresses alone.
	CAFile, CertFile, KeyFile string
}

// Args returns the arguments that [ParseOptions] reads. Without Addresses there
// are none.
func (o Options) Args() []string {
	if len(o.Addresses) == 0 {
		return nil
	}
	var args []string
	for _, a := range o.Addresses {
		args = append(args, "--tcp="+a)
	}
	return append(args, "--tlscacert="+o.CAFile, "--tlscert="+o.CertFile, "--tlskey="+o.KeyFile)
}

// ParseOptions reads a daemon's arguments.
func ParseOptions(args []string) (Options, error) {
	var o Options
	set := flag.NewFlagSet(Serve, flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.Func("tcp", "", func(a string) error {
		o.Addresses = append(o.Addresses, a)
		return nil
	})
	set.StringVar(&o.CAFile, "tlscacert", "", "")
	set.StringVar(&o.CertFile, "tlscert", "", "")
	set.StringVar(&o.KeyFile, "tlskey", "", "")
	if err := set.Parse(args); err != nil {
		return Options{}, fmt.Errorf("%s: %w", Serve, err)
	}
	if set.NArg() > 0 {
		return Options{}, fmt.Errorf("%s: %q is no option", Serve, set.Arg(0))
	}
	return o, nil
}
