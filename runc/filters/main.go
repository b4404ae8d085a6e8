// SPDX-License-Identifier: Apache-2.0

// Command filters compiles seccomp filters for runc to be built with. It reads
// them from its standard input, in the form of the OCI runtime specification
// and one after the other, and writes the table of ../libseccomp.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/runc/libcontainer/seccomp"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"github.com/opencontainers/runtime-spec/specs-go"
	libseccomp "github.com/seccomp/libseccomp-golang"
)

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "filters:", err)
		os.Exit(1)
	}
}

func run(r io.Reader, w io.Writer) error {
	var table []byte
	for d := json.NewDecoder(r); ; {
		profile := &specs.LinuxSeccomp{}
		if err := d.Decode(profile); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return fmt.Errorf("read a profile: %w", err)
		}
		var err error
		if table, err = appendFilter(table, profile); err != nil {
			return err
		}
	}
	if len(table) == 0 {
		return errors.New("no profile was given")
	}
	_, err := w.Write(table)
	return err
}

// errTaken ends runc's way with a filter before it is loaded.
var errTaken = errors.New("the filter was taken")

// appendFilter has runc make a profile's filter, and takes it from there: so
// its calls are those that runc makes for a container.
func appendFilter(table []byte, profile *specs.LinuxSeccomp) ([]byte, error) {
	config, err := specconv.SetupSeccomp(profile)
	if err != nil {
		return nil, err
	}
	libseccomp.Unknown = func(f *libseccomp.ScmpFilter) error {
		if table, err = f.Encode(table); err != nil {
			return err
		}
		return errTaken
	}
	defer func() { libseccomp.Unknown = nil }()
	if _, err := seccomp.InitSeccomp(config); !errors.Is(err, errTaken) {
		return nil, fmt.Errorf("make the filter: %w", err)
	}
	return table, nil
}
