// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path"
	"time"

	"golang.org/x/sys/unix"
)

var names = []struct {
	mask uint32
	name string
}{
	{unix.IN_MODIFY, "MODIFY"}, {unix.IN_ATTRIB, "ATTRIB"}, {unix.IN_CLOSE_WRITE, "CLOSE_WRITE"},
	{unix.IN_CREATE, "CREATE"}, {unix.IN_DELETE, "DELETE"}, {unix.IN_MOVED_FROM, "MOVED_FROM"}, {unix.IN_MOVED_TO, "MOVED_TO"},
	{unix.IN_DELETE_SELF, "DELETE_SELF"}, {unix.IN_MOVE_SELF, "MOVE_SELF"}, {unix.IN_Q_OVERFLOW, "Q_OVERFLOW"}, {unix.IN_ISDIR, "ISDIR"},
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "inotify:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 3 && args[0] == "read":
		return readUntil(args[1], args[2])
	case len(args) == 2 && args[0] == "map":
		return follow(args[1], "")
	case len(args) == 3 && args[0] == "hold":
		return follow(args[1], args[2])
	}
	stamps := len(args) > 0 && args[0] == "-t"
	if stamps {
		args = args[1:]
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		return err
	}
	paths := map[int32]string{}
	for _, p := range args {
		wd, err := unix.InotifyAddWatch(fd, p, unix.IN_ALL_EVENTS&^(unix.IN_ACCESS|unix.IN_OPEN|unix.IN_CLOSE_NOWRITE))
		if err != nil {
			return fmt.Errorf("watch %s: %w", p, err)
		}
		paths[int32(wd)] = p
	}
	fmt.Println("ready")
	cookies := map[uint32]int{}
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Read(fd, buf)
		if err != nil {
			return err
		}
		for b := buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
			size := binary.NativeEndian.Uint32(b[12:])
			name := b[unix.SizeofInotifyEvent : unix.SizeofInotifyEvent+int(size)]
			name, _, _ = bytes.Cut(name, []byte{0})
			if stamps {
				fmt.Printf("%d ", time.Now().UnixMilli())
			}
			show(path.Join(paths[int32(binary.NativeEndian.Uint32(b))], string(name)),
				binary.NativeEndian.Uint32(b[4:]), binary.NativeEndian.Uint32(b[8:]), cookies)
			b = b[unix.SizeofInotifyEvent+int(size):]
		}
	}
}

func show(path string, mask, cookie uint32, cookies map[uint32]int) {
	line := path
	for _, n := range names {
		if mask&n.mask != 0 {
			line += " " + n.name
		}
	}
	if cookie != 0 {
		if cookies[cookie] == 0 {
			cookies[cookie] = len(cookies) + 1
		}
		line += fmt.Sprintf(" %d", cookies[cookie])
	}
	fmt.Println(line)
}
