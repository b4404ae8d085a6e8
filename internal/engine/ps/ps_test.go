// SPDX-License-Identifier: Apache-2.0

package ps

import (
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
)

// What Linux 6.18 said of a shell at a terminal, and of a worker with a name
// that is made to confuse.
func read(t *testing.T) []Process {
	t.Helper()
	var all []Process
	for _, texts := range []Texts{
		{
			Stat:    []byte("321 (sh) S 300 321 321 34816 330 4194304 130 0 0 0 1250 50 0 0 20 0 1 0 6000 2625536 256 18446744073709551615 1 1 0 0 0 0 0 4096 65538 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n"),
			Status:  []byte("Name:\tsh\nUid:\t1000\t0\t0\t0\nGid:\t100\t0\t0\t0\nVmLck:\t       0 kB\n"),
			Cmdline: []byte("/bin/sh\x00-c\x00echo \x1b[2J; sleep 9\x00"),
		},
		{
			Stat:   []byte("330 (a) b (c) Z 321 321 321 34816 321 4194304 0 0 0 0 0 0 0 0 30 10 2 0 359900 0 0 18446744073709551615 0 0 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"),
			Status: []byte("Uid:\t1000\t1000\t1000\t1000\n"),
		},
	} {
		texts.Uptime, texts.Memory = time.Hour, 100<<20
		p, err := Read(texts)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

func TestProcessesAreShownAsPsDoes(t *testing.T) {
	now := time.Date(2026, 3, 4, 15, 30, 0, 0, time.UTC)
	for args, want := range map[string]string{
		"": "UID PID PPID C STIME TTY TIME CMD\n" +
			"root 321 300 0 14:31 pts/0 00:00:13 /bin/sh -c echo ?[2J; sleep 9\n" +
			"1000 330 321 0 15:29 pts/0 00:00:00 [a) b (c] <defunct>",
		"-e":                         "PID TTY TIME CMD\n321 pts/0 00:00:13 sh\n330 pts/0 00:00:00 a) b (c <defunct>",
		"-o pid":                     "PID\n321\n330",
		"-opid,cmd":                  "PID CMD\n321 /bin/sh -c echo ?[2J; sleep 9\n330 [a) b (c] <defunct>",
		"-eo pid,ppid -o stat=STATE": "PID PPID STATE\n321 300 Ss\n330 321 ZNl+",
		"axo uid,ruid,gid,etime":     "UID RUID GID ELAPSED\n0 1000 0 59:00\n1000 1000 0 00:01",
		"--format=pid,nlwp,ni,pri":   "PID NLWP NI PRI\n321 1 0 19\n330 2 10 9",
		"aux": "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND\n" +
			"root 321 0.4 1.0 2564 1024 pts/0 Ss 14:31 0:13 /bin/sh -c echo ?[2J; sleep 9\n" +
			"1000 330 0.0 0.0 0 0 pts/0 ZNl+ 15:29 0:00 [a) b (c] <defunct>",
	} {
		f, err := Parse(args)
		if err != nil {
			t.Errorf("%s: %v", args, err)
			continue
		}
		table := f.Table(read(t), now)
		lines := []string{strings.Join(table.Titles, " ")}
		for _, row := range table.Processes {
			if len(row) != len(table.Titles) {
				t.Errorf("%s: row %q under %q", args, row, table.Titles)
			}
			lines = append(lines, strings.Join(row, " "))
		}
		if diff := cmp.Diff(want, strings.Join(lines, "\n")); diff != "" {
			t.Errorf("ps %s (-want +got):\n%s", args, diff)
		}
	}
}

func TestArgumentsThatAreNotThereAreNamed(t *testing.T) {
	for args, want := range map[string]string{
		"-o pid,shoes": "shoes", "--sort=pid": "--sort=pid", "-o": "-o", "-p 1": "-p", "f": "argument f", "-o ,": "-o", "--forest": "--forest", "-l": "-l",
	} {
		if _, err := Parse(args); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("ps %s: error %v, want one that names %s", args, err, want)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("1 (a) S 0 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 0 0 0"), []byte("Uid:\t0"), []byte("a\x00b"))
	f.Add([]byte("1 )("), []byte("Uid:"), []byte(nil))
	f.Fuzz(func(t *testing.T, stat, status, cmdline []byte) {
		p, err := Read(Texts{Stat: stat, Status: status, Cmdline: cmdline, Uptime: time.Hour, Memory: 1})
		if err != nil {
			return
		}
		for _, args := range []string{"", "aux", "-o pid,lstart,time,args"} {
			format, err := Parse(args)
			if err != nil {
				t.Fatal(err)
			}
			format.Table([]Process{p}, time.Unix(1_700_000_000, 0))
		}
	})
}
