// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package main

import "os"

// nextData takes everything for data.
func nextData(_ *os.File, off int64) (int64, error) { return off, nil }
