// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// readUntil opens and reads a file again and again until it holds end, and
// prints how often and what failed, and how often it was cut off before the end
// of its line.
func readUntil(path, end string) error {
	reads, cut, failed := 0, 0, map[string]int{}
	for {
		b, err := os.ReadFile(path)
		reads++
		switch {
		case err != nil:
			failed[err.Error()]++
		case len(b) == 0 || b[len(b)-1] != '\n':
			cut++
		case string(bytes.TrimSpace(b)) == end:
			for e, n := range failed {
				fmt.Printf("%d times %s\n", n, e)
			}
			fmt.Printf("%d reads, %d kinds of errors, %d cut off\n", reads, len(failed), cut)
			return nil
		}
	}
}

// follow prints the first line of a file whenever it has changed, as it is seen
// through one mapping or, if text is given, through a file that is open for
// writing since before text was written.
func follow(path, text string) error {
	flags := os.O_RDWR
	if text == "" {
		flags = os.O_RDONLY
	}
	f, err := os.OpenFile(path, flags, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, 64)
	if text == "" {
		if buf, err = unix.Mmap(int(f.Fd()), 0, len(buf), unix.PROT_READ, unix.MAP_SHARED); err != nil {
			return err
		}
	} else if _, err := f.WriteAt([]byte(text+"\n"), 0); err != nil {
		return err
	}
	for last := ""; ; time.Sleep(20 * time.Millisecond) {
		if text != "" {
			f.ReadAt(buf, 0) // what is not there shows
		}
		line, _, _ := bytes.Cut(buf, []byte("\n"))
		if string(line) != last {
			last = string(line)
			fmt.Println(last)
		}
	}
}
