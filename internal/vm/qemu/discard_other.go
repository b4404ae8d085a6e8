// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package qemu

import "os"

// discards keeps QEMU from damaging a template; only Linux can.
type discards struct{ template os.FileInfo }

func (*discards) install() error { return errNoFilter }

func (*discards) serve() {}

func (*discards) close() error { return nil }

func sharesTemplates(string) bool { return false }
