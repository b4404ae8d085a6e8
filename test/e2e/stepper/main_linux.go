// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

const steps = 1000

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "stepper:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 2 && args[0] == "do":
		return doAll(args[1])
	case len(args) == 3 && args[0] == "check":
		n, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		return checkAll(args[1], n)
	}
	return errors.New("usage: stepper do DIR | stepper check DIR STEPS")
}

func doAll(dir string) error {
	unix.Umask(0)
	for i := range steps {
		if err := step(dir, i); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
		fmt.Println("done", i)
	}
	return nil
}

// step makes a file, a link, a device or a directory with an owner of its own,
// and syncs.
func step(dir string, i int) error {
	name := filepath.Join(dir, fmt.Sprint("n", i))
	var err error
	switch i % 4 {
	case 0:
		err = makeFile(name)
	case 1:
		err = os.Symlink(filepath.Base(name), name)
	case 2:
		err = unix.Mknod(name, unix.S_IFCHR|0o620, int(unix.Mkdev(uint32(i), 7)))
	case 3:
		err = errors.Join(os.Mkdir(name+".tmp", 0o750), os.Rename(name+".tmp", name))
	}
	if err == nil {
		err = os.Lchown(name, 1000+i, 2000+i)
	}
	if err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func makeFile(name string) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteString(filepath.Base(name)); err != nil {
		return err
	}
	if err := unix.Fsetxattr(int(f.Fd()), "user.step", []byte(filepath.Base(name)), 0); err != nil {
		return err
	}
	return f.Sync()
}

// checkAll looks for what the first n steps made, and makes one more.
func checkAll(dir string, n int) error {
	for i := range n {
		if err := check(dir, i); err != nil {
			return fmt.Errorf("step %d of %d: %w", i, n, err)
		}
	}
	return step(dir, steps)
}

func check(dir string, i int) error {
	name := filepath.Join(dir, fmt.Sprint("n", i))
	var st unix.Stat_t
	if err := unix.Lstat(name, &st); err != nil {
		return err
	}
	want := []uint32{unix.S_IFREG | 0o640, unix.S_IFLNK | 0o777, unix.S_IFCHR | 0o620, unix.S_IFDIR | 0o750}[i%4]
	if st.Mode != want || st.Uid != uint32(1000+i) || st.Gid != uint32(2000+i) {
		return fmt.Errorf("mode %o, owner %d:%d", st.Mode, st.Uid, st.Gid)
	}
	switch i % 4 {
	case 0:
		return checkFile(name)
	case 2:
		if st.Rdev != unix.Mkdev(uint32(i), 7) {
			return fmt.Errorf("device %x", st.Rdev)
		}
	}
	return nil
}

func checkFile(name string) error {
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	v := make([]byte, 64)
	n, err := unix.Getxattr(name, "user.step", v)
	if err != nil {
		return err
	}
	if want := filepath.Base(name); string(b) != want || string(v[:n]) != want {
		return fmt.Errorf("holds %q, with attribute %q", b, v[:n])
	}
	return nil
}
