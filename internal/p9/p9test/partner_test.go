// SPDX-License-Identifier: Apache-2.0

//go:build linux

package p9test_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// partner is another process that does to files what it is told, one line
// after the other.
type partner struct {
	t      *testing.T
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Scanner
	killed bool
}

// TestMain makes the test's own program the partner.
func TestMain(m *testing.M) {
	if os.Getenv("P9TEST_PARTNER") != "" {
		partnerMain()
		return
	}
	os.Exit(m.Run())
}

func newPartner(t *testing.T) *partner {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "P9TEST_PARTNER=1")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &partner{t: t, cmd: cmd, in: in, out: bufio.NewScanner(out)}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil && !p.killed {
			t.Errorf("partner: %v", err)
		}
	})
	return p
}

// signal signals every thread of the partner.
func (p *partner) signal(sig unix.Signal) {
	p.t.Helper()
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		if err != nil {
			p.t.Fatal(err)
		}
		if err := unix.Tgkill(p.cmd.Process.Pid, tid, sig); err != nil && !errors.Is(err, unix.ESRCH) {
			p.t.Fatal(err)
		}
	}
}

// kill ends the partner in the middle of what it does.
func (p *partner) kill() {
	p.t.Helper()
	p.killed = true
	if err := p.cmd.Process.Kill(); err != nil {
		p.t.Fatal(err)
	}
}

// tell gives an order without waiting for its end.
func (p *partner) tell(words ...any) {
	p.t.Helper()
	if _, err := fmt.Fprintln(p.in, words...); err != nil {
		p.t.Fatal(err)
	}
}

// answer waits for the end of the oldest order: "" or the error's name.
func (p *partner) answer() string {
	p.t.Helper()
	if !p.out.Scan() {
		p.t.Fatalf("the partner is gone: %v", p.out.Err())
	}
	return p.out.Text()
}

// do gives an order and waits for its end.
func (p *partner) do(words ...any) string {
	p.t.Helper()
	p.tell(words...)
	return p.answer()
}

func (p *partner) must(words ...any) {
	p.t.Helper()
	if e := p.do(words...); e != "" {
		p.t.Fatalf("%v: %s", words, e)
	}
}

func partnerMain() {
	files := map[string]int{}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		err := obey(files, strings.Fields(in.Text()))
		if err == nil {
			fmt.Println()
			continue
		}
		if e, ok := errors.AsType[unix.Errno](err); ok {
			fmt.Println(unix.ErrnoName(e))
			continue
		}
		fmt.Println(err)
	}
}

// obey opens files and locks them:
//
//	open NAME PATH
//	close NAME
//	fcntl, ofd NAME try|wait read|write|unlock START LENGTH
//	flock NAME try|wait read|write|unlock
//	asked NAME                               who is in fcntl's way, as an error
//	append NAME COUNT
//	holds NAME COUNT                         so many bytes "x"
func obey(files map[string]int, w []string) error {
	switch w[0] {
	case "open":
		fd, err := unix.Open(w[2], unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o666)
		files[w[1]] = fd
		return err
	case "close":
		return unix.Close(files[w[1]])
	case "asked":
		l := unix.Flock_t{Type: unix.F_WRLCK}
		if err := unix.FcntlFlock(uintptr(files[w[1]]), unix.F_GETLK, &l); err != nil {
			return err
		}
		return fmt.Errorf("type %d", l.Type)
	case "holds":
		return holds(files[w[1]], w[2])
	case "append":
		var n int
		fmt.Sscan(w[2], &n)
		var st unix.Stat_t
		if err := unix.Fstat(files[w[1]], &st); err != nil {
			return err
		}
		_, err := unix.Pwrite(files[w[1]], slices.Repeat([]byte("x"), n), st.Size)
		return err
	}
	kind, fd, wait, how := w[0], files[w[1]], w[2] == "wait", w[3]
	if kind == "flock" {
		return flock(fd, wait, how)
	}
	var start, length int64
	fmt.Sscan(w[4], &start)
	fmt.Sscan(w[5], &length)
	return fcntl(kind, fd, wait, how, start, length)
}

func holds(fd int, count string) error {
	var n int
	fmt.Sscan(count, &n)
	got := make([]byte, n+1)
	m, err := unix.Pread(fd, got, 0)
	if err != nil {
		return err
	}
	if m != n || strings.Trim(string(got[:n]), "x") != "" {
		return fmt.Errorf("%d bytes, %d of them x, want %d", m, strings.Count(string(got), "x"), n)
	}
	return nil
}

// uninterrupted repeats what a signal of the Go runtime's ended.
func uninterrupted(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func flock(fd int, wait bool, how string) error {
	op := map[string]int{"read": unix.LOCK_SH, "write": unix.LOCK_EX, "unlock": unix.LOCK_UN}[how]
	if !wait {
		op |= unix.LOCK_NB
	}
	return uninterrupted(func() error { return unix.Flock(fd, op) })
}

func fcntl(kind string, fd int, wait bool, how string, start, length int64) error {
	cmd := map[string]int{"fcntlfalse": unix.F_SETLK, "fcntltrue": unix.F_SETLKW,
		"ofdfalse": unix.F_OFD_SETLK, "ofdtrue": unix.F_OFD_SETLKW}[fmt.Sprint(kind, wait)]
	typ := map[string]int16{"read": unix.F_RDLCK, "write": unix.F_WRLCK, "unlock": unix.F_UNLCK}[how]
	return uninterrupted(func() error {
		return unix.FcntlFlock(uintptr(fd), cmd, &unix.Flock_t{Type: typ, Start: start, Len: length})
	})
}
