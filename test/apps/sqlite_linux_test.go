// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// ledger is a SQLite database in a directory of the host or in a volume.
type ledger struct {
	t      *testing.T
	source string
	// maker is the machine that made it.
	maker string
}

// newLedger makes a ledger in a directory.
func newLedger(t *testing.T, name, mode string) ledger {
	t.Helper()
	dir := filepath.Join(host.root, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return makeLedger(t, dir, name, mode)
}

func makeLedger(t *testing.T, source, name, mode string) (l ledger) {
	t.Helper()
	database{image: "sqlite"}.load(t)
	l = ledger{t: t, source: source}
	l.maker = l.machine(name + "-maker")
	out := l.must(l.maker, "PRAGMA journal_mode="+mode+";"+
		"CREATE TABLE entry (machine TEXT, writer INT, n INT, filler BLOB, PRIMARY KEY (machine, writer, n));"+
		"CREATE TABLE total (n INT); INSERT INTO total VALUES (0);")
	if out != mode {
		t.Fatalf("the journal's mode is %q, want %q", out, mode)
	}
	return l
}

// machine starts a machine that has the ledger at /data.
func (l ledger) machine(name string) (id string) {
	l.t.Helper()
	id = must(l.t)(byre(l.t.Context(), "run", "-d", "--name", name, "-v", l.source+":/data", "sqlite", "sleep", "100000"))
	l.t.Cleanup(func() {
		if _, err := byre(context.WithoutCancel(l.t.Context()), "rm", "-f", id); err != nil {
			l.t.Error(err)
		}
	})
	return id
}

// session is a sqlite3 that lives as long as its input: one connection.
func (l ledger) session(ctx context.Context, id string) *exec.Cmd {
	return command(ctx, "exec", "-i", id, "sqlite3", "-bail", "-cmd", ".timeout 120000", "/data/ledger.db")
}

// run has a session of its own say SQL.
func (l ledger) run(id, sql string) (string, error) {
	cmd := l.session(l.t.Context(), id)
	cmd.Stdin = strings.NewReader(sql)
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (l ledger) must(id, sql string) string {
	l.t.Helper()
	out, err := l.run(id, sql)
	if err != nil {
		l.t.Fatalf("%s: %v: %s", sql, err, out)
	}
	return out
}

// entries is what a writer says to make count entries, each in a transaction
// that also raises the total. What goes wrong is told with the system call that
// it comes of.
func entries(machine string, writer, count int) string {
	var sql strings.Builder
	sql.WriteString(".log stderr\n")
	for n := range count {
		fmt.Fprintf(&sql, "BEGIN IMMEDIATE; INSERT INTO entry VALUES ('%s', %d, %d, randomblob(%d));"+
			"UPDATE total SET n = n + 1; COMMIT; SELECT 'made %d';\n", machine, writer, n, 100+n*37%3000, n)
	}
	return sql.String()
}

// check looks for every entry of writers, in a machine that is given.
func (l ledger) check(id string, want int) {
	l.t.Helper()
	got := l.must(id, "PRAGMA integrity_check; SELECT count(*) FROM entry; SELECT n FROM total;")
	if wanted := fmt.Sprintf("ok\n%d\n%d", want, want); got != wanted {
		l.t.Errorf("integrity, entries and total are %q, want %q", got, wanted)
	}
}

func TestSQLiteInTwoMachinesKeepsEveryRow(t *testing.T) {
	t.Parallel()
	phase := phases(t, "sqlite")
	l := newLedger(t, "rollback", "delete")
	machines := map[string]string{"a": l.machine("rollback-a"), "b": l.machine("rollback-b")}
	phase("two machines started")
	const writers, count = 2, 25
	l.write(machines, 0, writers, count)
	phase("written")
	for _, id := range machines {
		l.check(id, len(machines)*writers*count)
	}
	phase("checked")
}

// write has writers of each machine, numbered from first, make entries all at
// the same time.
func (l ledger) write(machines map[string]string, first, writers, count int) {
	l.t.Helper()
	var all sync.WaitGroup
	for name, id := range machines {
		for w := range writers {
			all.Go(func() {
				out, err := l.run(id, entries(name, first+w, count))
				if made := strings.Count(out, "made "); err != nil || made != count {
					l.t.Errorf("writer %s%d made %d of %d: %v: %s", name, first+w, made, count, err, out[max(0, len(out)-300):])
				}
			})
		}
	}
	all.Wait()
}

// The machine that has the disk writes to its own ext4, the others to what it
// lends them; then its container is removed, and it lends on.
func TestSQLiteOnAVolumesDiskKeepsEveryRowOfThreeMachines(t *testing.T) {
	t.Parallel()
	phase := phases(t, "sqlite, disk")
	must(t)(byre(t.Context(), "volume", "create", "-o", "type=ext4", "ledger"))
	l := makeLedger(t, "ledger", "disk", "delete")
	machines := map[string]string{"maker": l.maker, "a": l.machine("disk-a"), "b": l.machine("disk-b")}
	phase("three machines started")
	const count = 20
	l.write(machines, 0, 1, count)
	phase("written by three")
	must(t)(byre(t.Context(), "rm", "-f", l.maker))
	delete(machines, "maker")
	l.write(machines, 1, 1, count)
	phase("written by two")
	for _, id := range machines {
		l.check(id, 5*count)
		must(t)(byre(t.Context(), "rm", "-f", id))
	}
	l.check(l.machine("disk-c"), 5*count)
	phase("checked")
}

// refusals are what SQLite says where the log's index cannot be mapped.
var refusals = regexp.MustCompile(`disk I/O error|unable to open database file|locking protocol`)

func TestSQLitesWriteAheadLogWorksInOneMachineAndIsRefusedToOthers(t *testing.T) {
	t.Parallel()
	phase := phases(t, "sqlite, log")
	l := newLedger(t, "log", "wal")
	a, b := l.machine("log-a"), l.machine("log-b")
	phase("two machines started")
	held := l.hold(a)
	const writers, count = 2, 15
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			if out, err := l.run(a, entries("a", w, count)); err != nil {
				t.Errorf("writer a%d: %v: %s", w, err, out)
			}
		})
	}
	for range 5 {
		if out, err := l.run(b, entries("b", 0, 1)); err == nil || !refusals.MatchString(out) {
			t.Errorf("another machine writes to the log: %v: %s", err, out)
		}
	}
	all.Wait()
	phase("written, and refused")
	l.check(a, writers*count)
	held()
	// Now the other machine is the only one.
	if out, err := l.run(b, entries("b", 1, count)); err != nil {
		t.Errorf("alone, the other machine cannot write: %v: %s", err, out)
	}
	l.check(b, (writers+1)*count)
	l.check(a, (writers+1)*count)
	phase("checked")
}

// hold keeps a connection open until the returned function is called.
func (l ledger) hold(id string) func() {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), 5*time.Minute)
	cmd := l.session(ctx, id)
	in, err := cmd.StdinPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	if _, err := io.WriteString(in, "SELECT n FROM total;\n"); err != nil {
		l.t.Error(err)
	}
	if n, err := out.Read(make([]byte, 16)); n == 0 {
		l.t.Errorf("a connection that is kept says nothing: %v", err)
	}
	return func() {
		defer cancel()
		in.Close()
		if err := cmd.Wait(); err != nil {
			l.t.Errorf("a connection that was kept: %v: %s", err, stderr.Bytes())
		}
	}
}
