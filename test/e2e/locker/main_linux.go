// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// A lock is held for the first, and not asked for again for the second: of two
// that do so each finds the other with it, and has time to get it.
const (
	held = 600 * time.Millisecond
	gone = 400 * time.Millisecond
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "locker:", err)
		os.Exit(1)
	}
}

// kinds take and give up the lock of a whole file.
var kinds = map[string]struct{ lock, unlock func(fd int) error }{
	"flock": {
		func(fd int) error { return unix.Flock(fd, unix.LOCK_EX) },
		func(fd int) error { return unix.Flock(fd, unix.LOCK_UN) },
	},
	"fcntl": {
		func(fd int) error {
			return unix.FcntlFlock(uintptr(fd), unix.F_SETLKW, &unix.Flock_t{Type: unix.F_WRLCK})
		},
		func(fd int) error {
			return unix.FcntlFlock(uintptr(fd), unix.F_SETLKW, &unix.Flock_t{Type: unix.F_UNLCK})
		},
	},
}

func run(args []string) error {
	if len(args) == 2 && args[0] == "mapped" {
		return stayMapped(args[1])
	}
	if len(args) == 2 && args[0] == "mongod" {
		return serveAlone(args[1])
	}
	if len(args) != 3 {
		return fmt.Errorf("usage: locker flock|fcntl FILE ROUNDS")
	}
	kind, ok := kinds[args[0]]
	if !ok {
		return fmt.Errorf("no lock is called %q", args[0])
	}
	f, err := os.OpenFile(args[1], os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	rounds, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	for range rounds {
		asked := time.Now()
		if err := retry(func() error { return kind.lock(int(f.Fd())) }); err != nil {
			return fmt.Errorf("lock: %w", err)
		}
		waited := time.Since(asked)
		if err := alone(f); err != nil {
			return err
		}
		if err := retry(func() error { return kind.unlock(int(f.Fd())) }); err != nil {
			return fmt.Errorf("unlock: %w", err)
		}
		fmt.Println("waited", waited.Milliseconds(), "ms")
		time.Sleep(gone)
	}
	return nil
}

// stayMapped maps a file for writing, writes its first byte so, and stays.
func stayMapped(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	m, err := unix.Mmap(int(f.Fd()), 0, 1, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	m[0] = 'm'
	fmt.Println("mapped")
	f.Close()
	for {
		time.Sleep(time.Hour)
	}
}

// serveAlone does with a file what mongod does with mongod.lock: its lock is taken
// or the program ends, its pid stands in it while it runs, and what it finds
// there is left by one that was killed.
func serveAlone(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGTERM)
	whole := &unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_SETLK, whole); err != nil {
		return fmt.Errorf("lock: %s: %w", unix.ErrnoName(err.(unix.Errno)), err)
	}
	st, err := f.Stat()
	if err != nil {
		return err
	}
	left := "a clean end"
	if st.Size() > 0 {
		left = "a kill"
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(f, os.Getpid()); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	fmt.Println("holds it after", left)
	<-stop
	return f.Truncate(0)
}

// alone writes who is here, stays for a while and looks whether somebody else
// has come.
func alone(f *os.File) error {
	me := fmt.Sprintf("%16d", time.Now().UnixNano()%1e15)
	if _, err := f.WriteAt([]byte(me), 0); err != nil {
		return err
	}
	time.Sleep(held)
	got := make([]byte, len(me))
	if _, err := f.ReadAt(got, 0); err != nil {
		return err
	}
	if string(got) != me {
		return fmt.Errorf("another one had the lock as well: %q, want %q", got, me)
	}
	return nil
}

// retry repeats what a signal interrupts, as the runtime sends to itself.
func retry(do func() error) error {
	for {
		if err := do(); err != unix.EINTR {
			return err
		}
	}
}
