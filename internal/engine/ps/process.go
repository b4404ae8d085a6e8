// SPDX-License-Identifier: Apache-2.0

package ps

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Texts are what the kernel says of a process below /proc, and of its machine.
type Texts struct {
	Stat, Status, Cmdline []byte
	// Uptime is how long the machine has run, Memory what it has.
	Uptime time.Duration
	Memory uint64
}

// Process is what the texts say.
type Process struct {
	PID, PPID, PGID, SID   int64
	EUID, RUID, EGID, RGID int64
	// State is one letter, TTY the number of the terminal's device.
	State             string
	TTY, Foreground   int64
	Nice, Priority    int64
	Threads           int64
	Virtual, Resident int64
	Locked            bool
	// CPU is the time that it has computed, Age how long ago it began.
	CPU, Age time.Duration
	// Name is the kernel's name for it, Args its arguments.
	Name string
	Args []string

	memory uint64
}

const (
	// tick is the kernel's unit of times in stat.
	tick = time.Second / 100
	page = 4096
)

// Read reads the texts of a process.
func Read(t Texts) (Process, error) {
	p := Process{memory: t.Memory}
	// The name may hold spaces and parentheses: proc_pid_stat(5).
	open, end := bytes.IndexByte(t.Stat, '('), bytes.LastIndexByte(t.Stat, ')')
	if open < 0 || end < open {
		return p, fmt.Errorf("/proc/PID/stat is %q", t.Stat)
	}
	fields := strings.Fields(string(t.Stat[end+1:]))
	if len(fields) < 22 {
		return p, fmt.Errorf("/proc/PID/stat is %q", t.Stat)
	}
	p.Name, p.State = printable(string(t.Stat[open+1:end])), fields[0]
	var utime, stime, start, pages int64
	for field, dst := range map[int]*int64{
		4: &p.PPID, 5: &p.PGID, 6: &p.SID, 7: &p.TTY, 8: &p.Foreground, 14: &utime, 15: &stime,
		18: &p.Priority, 19: &p.Nice, 20: &p.Threads, 22: &start, 23: &p.Virtual, 24: &pages,
	} {
		// Fields are numbered from 1, and the third is the first behind the name.
		n, err := strconv.ParseInt(fields[field-3], 10, 64)
		if err != nil {
			return p, fmt.Errorf("field %d of /proc/PID/stat: %w", field, err)
		}
		*dst = n
	}
	pid, err := strconv.ParseInt(strings.TrimSpace(string(t.Stat[:open])), 10, 64)
	if err != nil {
		return p, fmt.Errorf("/proc/PID/stat is %q", t.Stat)
	}
	p.PID, p.Resident = pid, pages*page
	p.CPU, p.Age = time.Duration(utime+stime)*tick, max(0, t.Uptime-time.Duration(start)*tick)
	p.readStatus(string(t.Status))
	if args := strings.TrimRight(string(t.Cmdline), "\x00"); args != "" {
		for a := range strings.SplitSeq(args, "\x00") {
			p.Args = append(p.Args, printable(a))
		}
	}
	return p, nil
}

func (p *Process) readStatus(status string) {
	for line := range strings.SplitSeq(status, "\n") {
		key, value, _ := strings.Cut(line, ":")
		fields := strings.Fields(value)
		number := func(i int) int64 {
			if i >= len(fields) {
				return 0
			}
			n, _ := strconv.ParseInt(fields[i], 10, 64)
			return n
		}
		switch key {
		case "Uid":
			p.RUID, p.EUID = number(0), number(1)
		case "Gid":
			p.RGID, p.EGID = number(0), number(1)
		case "VmLck":
			p.Locked = number(0) > 0
		}
	}
}

// printable leaves nothing of the guest's that a terminal would obey.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

// load is the share of one processor that it has had since it began, in
// percent.
func (p Process) load() float64 {
	if p.Age <= 0 {
		return 0
	}
	return 100 * float64(p.CPU) / float64(p.Age)
}

// share is that of the machine's memory, in percent.
func (p Process) share() float64 {
	if p.memory == 0 {
		return 0
	}
	return 100 * float64(p.Resident) / float64(p.memory)
}

// terminal names the device: proc_pid_stat(5), field tty_nr.
func (p Process) terminal() string {
	major, minor := p.TTY>>8&0xfff, p.TTY&0xff|p.TTY>>12&0xfff00
	switch {
	case major >= 136 && major <= 143:
		return fmt.Sprintf("pts/%d", (major-136)<<8|minor)
	case major == 4 && minor < 64:
		return fmt.Sprintf("tty%d", minor)
	case major == 4:
		return fmt.Sprintf("ttyS%d", minor-64)
	case p.TTY == 5<<8|1:
		return "console"
	case major == 229:
		return fmt.Sprintf("hvc%d", minor)
	}
	return "?"
}

// stat is the state with ps's letters behind it.
func (p Process) stat() string {
	s := p.State
	switch {
	case p.Nice < 0:
		s += "<"
	case p.Nice > 0:
		s += "N"
	}
	if p.Locked {
		s += "L"
	}
	if p.SID == p.PID {
		s += "s"
	}
	if p.Threads > 1 {
		s += "l"
	}
	if p.Foreground == p.PGID && p.Foreground > 0 {
		s += "+"
	}
	return s
}

// name is the kernel's name; that of one that has ended says so.
func (p Process) name() string {
	if p.State == "Z" {
		return p.Name + " <defunct>"
	}
	return p.Name
}

// command is the arguments, or the name in brackets where there are none.
func (p Process) command() string {
	switch {
	case p.State == "Z":
		return "[" + p.Name + "] <defunct>"
	case len(p.Args) == 0:
		return "[" + p.Name + "]"
	}
	return strings.Join(p.Args, " ")
}
