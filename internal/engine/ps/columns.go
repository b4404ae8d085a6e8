// SPDX-License-Identifier: Apache-2.0

package ps

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// column is one column of a table.
type column struct {
	// names are those that -o takes, the title's first.
	names string
	title string
	value func(p Process, now time.Time) string
}

// columnsOf returns the columns of names between spaces.
func columnsOf(names string) ([]column, error) {
	var columns []column
	for name := range strings.FieldsSeq(names) {
		i := slices.IndexFunc(known(), func(c column) bool { return slices.Contains(strings.Fields(c.names), name) })
		if i < 0 {
			var all []string
			for _, c := range known() {
				all = append(all, strings.Fields(c.names)...)
			}
			return nil, invalid("byre does not support the column %s of ps: there are %s", name, strings.Join(all, ", "))
		}
		columns = append(columns, known()[i])
	}
	if len(columns) == 0 {
		return nil, invalid("ps: -o needs the names of columns, such as pid,cmd")
	}
	return columns, nil
}

// known are the columns that there are, under the titles of procps.
func known() []column {
	number := func(n func(p Process) int64) func(Process, time.Time) string {
		return func(p Process, _ time.Time) string { return strconv.FormatInt(n(p), 10) }
	}
	text := func(s func(p Process) string) func(Process, time.Time) string {
		return func(p Process, _ time.Time) string { return s(p) }
	}
	return []column{
		{"pid tgid", "PID", number(func(p Process) int64 { return p.PID })},
		{"ppid", "PPID", number(func(p Process) int64 { return p.PPID })},
		{"pgid pgrp", "PGID", number(func(p Process) int64 { return p.PGID })},
		{"sid sess session", "SID", number(func(p Process) int64 { return p.SID })},
		{"user euser uname", "USER", text(func(p Process) string { return idName(p.EUID) })},
		{"uid_name", "UID", text(func(p Process) string { return idName(p.EUID) })}, // what -f has there
		{"ruser", "RUSER", text(func(p Process) string { return idName(p.RUID) })},
		{"uid euid", "UID", number(func(p Process) int64 { return p.EUID })},
		{"ruid", "RUID", number(func(p Process) int64 { return p.RUID })},
		{"group egroup", "GROUP", text(func(p Process) string { return idName(p.EGID) })},
		{"gid egid", "GID", number(func(p Process) int64 { return p.EGID })},
		{"rgid", "RGID", number(func(p Process) int64 { return p.RGID })},
		{"c", "C", number(func(p Process) int64 { return int64(p.load()) })},
		{"%cpu pcpu", "%CPU", text(func(p Process) string { return strconv.FormatFloat(p.load(), 'f', 1, 64) })},
		{"%mem pmem", "%MEM", text(func(p Process) string { return strconv.FormatFloat(p.share(), 'f', 1, 64) })},
		{"vsz vsize", "VSZ", number(func(p Process) int64 { return p.Virtual >> 10 })},
		{"rss rssize rsz", "RSS", number(func(p Process) int64 { return p.Resident >> 10 })},
		{"tty tt tname", "TTY", text(Process.terminal)},
		{"s state", "S", text(func(p Process) string { return p.State })},
		{"stat", "STAT", text(Process.stat)},
		{"time cputime", "TIME", text(func(p Process) string { return clock(p.CPU) })},
		{"bsdtime", "TIME", text(func(p Process) string { return bsdClock(p.CPU) })},
		{"etime", "ELAPSED", text(func(p Process) string { return elapsed(p.Age) })},
		{"etimes", "ELAPSED", number(func(p Process) int64 { return int64(p.Age / time.Second) })},
		{"stime", "STIME", func(p Process, now time.Time) string { return started(p, now) }},
		{"start start_time bsdstart", "START", func(p Process, now time.Time) string { return started(p, now) }},
		{"lstart", "STARTED", func(p Process, now time.Time) string { return now.Add(-p.Age).Format("Mon Jan _2 15:04:05 2006") }},
		{"ni nice", "NI", number(func(p Process) int64 { return p.Nice })},
		{"pri", "PRI", number(func(p Process) int64 { return 39 - p.Priority })},
		{"nlwp thcount", "NLWP", number(func(p Process) int64 { return p.Threads })},
		{"comm", "COMMAND", text(Process.name)},
		{"ucmd ucomm", "CMD", text(Process.name)},
		{"cmd", "CMD", text(Process.command)},
		{"args command", "COMMAND", text(Process.command)},
	}
}

// idName names root; of others the numbers are shown, because their names are
// the image's.
func idName(id int64) string {
	if id == 0 {
		return "root"
	}
	return strconv.FormatInt(id, 10)
}

func clock(d time.Duration) string {
	s := int64(d / time.Second)
	if days := s / 86400; days > 0 {
		return fmt.Sprintf("%d-%02d:%02d:%02d", days, s/3600%24, s/60%60, s%60)
	}
	return fmt.Sprintf("%02d:%02d:%02d", s/3600, s/60%60, s%60)
}

func bsdClock(d time.Duration) string {
	s := int64(d / time.Second)
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

func elapsed(d time.Duration) string {
	if d < time.Hour {
		return fmt.Sprintf("%02d:%02d", int64(d.Minutes()), int64(d.Seconds())%60)
	}
	return clock(d)
}

// started is the time of day, or the date of what began on another day.
func started(p Process, now time.Time) string {
	at := now.Add(-p.Age)
	switch {
	case at.Format(time.DateOnly) == now.Format(time.DateOnly):
		return at.Format("15:04")
	case at.Year() == now.Year():
		return at.Format("Jan02")
	}
	return at.Format("2006")
}
