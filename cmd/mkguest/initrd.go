// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/pierrec/lz4/v4"

	"byre.dev/byre/internal/cpio"
)

// skeleton is the initrd without its programs. The console is there before
// devtmpfs is: the kernel opens it for PID 1.
func skeleton() []cpio.Entry {
	var all []cpio.Entry
	for _, dir := range []string{"bin", "dev", "etc", "proc", "run", "sys", "tmp"} {
		all = append(all, cpio.Entry{Name: dir, Mode: cpio.TypeDir | 0o755})
	}
	return append(all,
		cpio.Entry{Name: "dev/console", Mode: cpio.TypeChar | 0o600, Major: 5, Minor: 1},
		cpio.Entry{Name: "dev/null", Mode: cpio.TypeChar | 0o666, Major: 1, Minor: 3},
		cpio.Entry{Name: "etc/passwd", Mode: cpio.TypeRegular | 0o644, Data: []byte("root:x:0:0:root:/:/bin/false\n")},
		cpio.Entry{Name: "etc/group", Mode: cpio.TypeRegular | 0o644, Data: []byte("root:x:0:\ntty:x:5:\n")},
	)
}

func writeInitrd(c config, out string) error {
	entries := skeleton()
	for name, path := range map[string]string{"init": c.initPath, "bin/runc": c.runcPath} {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		entries = append(entries, cpio.Entry{Name: name, Mode: cpio.TypeRegular | 0o755, Data: data})
	}
	return replace(out, func(f *os.File) error {
		w, finish, err := compressor(c.compress, f)
		if err != nil {
			return err
		}
		return errors.Join(cpio.Write(w, entries), finish())
	})
}

// compressor returns a writer to f in a form that the kernel unpacks, and the
// function that ends it.
func compressor(name string, f io.Writer) (io.Writer, func() error, error) {
	switch name {
	case "none":
		w := bufio.NewWriterSize(f, 1<<20)
		return w, w.Flush, nil
	case "lz4":
		w := lz4.NewWriter(f)
		// Legacy is the one form that the kernel knows.
		err := w.Apply(lz4.LegacyOption(true), lz4.CompressionLevelOption(lz4.Level9), lz4.ConcurrencyOption(1))
		return w, w.Close, err
	}
	return nil, nil, fmt.Errorf("compression %q is neither none nor lz4", name)
}

// replace writes a file beside its place and moves it there when it is whole.
func replace(out string, write func(*os.File) error) error {
	tmp := out + ".new"
	f, err := os.Create(tmp)
	if err != nil {
		return err
	}
	if err := errors.Join(write(f), f.Close()); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return os.Rename(tmp, out)
}
