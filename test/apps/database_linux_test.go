// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// database is a server that keeps its data in /data, a bind mount.
type database struct {
	image string
	// initialize and serve are shell commands, run as root in the container.
	// No setting of theirs makes a commit less durable than it is by default.
	initialize, serve string
	// ready is what the server logs when it takes connections.
	ready string
	// client reads SQL and prints rows, fields parted by tabs.
	client []string
	// create is what comes before the tables are made, use what each client
	// says first.
	create, use string
	// flush, where not empty, writes pages back while transactions go on.
	flush string
}

var (
	postgres = database{
		image: "postgres",
		initialize: "chown postgres: /data && chmod 700 /data && " +
			"setpriv --reuid postgres --regid postgres --init-groups initdb -D /data --auth trust",
		serve: "install -d -o postgres /run/postgresql && " +
			"exec setpriv --reuid postgres --regid postgres --init-groups postgres -D /data",
		ready:  "ready to accept connections",
		client: []string{"psql", "-X", "-q", "-A", "-t", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-U", "postgres"},
		flush:  "CHECKPOINT;",
	}
	mariadb = database{
		image: "mariadb",
		// Less is made: no texts of help, no views of the schema sys.
		initialize: "chown mysql: /data && cd /usr/share/mysql && : >fill_help_tables.sql && : >mysql_sys_schema.sql && " +
			"mariadb-install-db --user=mysql --datadir=/data --skip-test-db --auth-root-authentication-method=normal",
		serve:  "install -d -o mysql /run/mysqld && exec mariadbd --user=mysql --datadir=/data",
		ready:  "ready for connections",
		client: []string{"mariadb", "--batch", "--skip-column-names", "--unbuffered", "--user=root"},
		create: "CREATE DATABASE bank;",
		use:    "USE bank;",
	}
)

func TestPostgreSQLOnABindMountLosesNothingWhenItsMachineIsKilled(t *testing.T) {
	postgres.survives(t)
}

func TestMariaDBOnABindMountLosesNothingWhenItsMachineIsKilled(t *testing.T) {
	mariadb.survives(t)
}

// survives initializes the database on a directory of the host, kills its
// machine while transactions are made, and checks in a new container that
// every transaction is there whole or not at all, and each one that was
// acknowledged is there.
func (d database) survives(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	phase := phases(t, d.image)
	d.load(t)
	phase("image made and loaded")
	data := filepath.Join(host.root, d.image)
	if err := os.Mkdir(data, 0o755); err != nil {
		t.Fatal(err)
	}
	must(t)(byre(ctx, "run", "--rm", "-v", data+":/data", d.image, "sh", "-ec", d.initialize))
	phase("initialized")

	first := d.start(t, d.image+"-first", data)
	phase("started")
	if err := d.makeBank(ctx, first); err != nil {
		t.Fatal(err)
	}
	phase("tables made")
	acked := d.killDuringTransfers(t, first)
	phase(fmt.Sprintf("%v transfers acknowledged, machine killed", acked))

	second := d.start(t, d.image+"-second", data)
	phase("recovered")
	if err := d.checkBank(ctx, second, acked); err != nil {
		t.Error(err)
	}
	phase("checked")
	must(t)(byre(ctx, "stop", "-t", "60", second))
	if code := must(t)(byre(ctx, "wait", second)); code != "0" {
		t.Errorf("exit code %s after an orderly stop", code)
	}
	phase("stopped")
}

func (d database) load(t *testing.T) {
	t.Helper()
	mk := exec.CommandContext(t.Context(), filepath.Join("..", "..", "build", "debian-image"), d.image)
	mk.Stderr = os.Stderr
	out, err := mk.Output()
	if err != nil {
		t.Fatalf("make the image: %v", err)
	}
	must(t)(byre(t.Context(), "load", "-q", "-i", strings.TrimSpace(string(out))))
}

// start starts a server over data and waits until it is ready.
func (d database) start(t *testing.T, name, data string) (id string) {
	t.Helper()
	id = must(t)(byre(t.Context(), "run", "-d", "--name", name, "-v", data+":/data", d.image, "sh", "-c", d.serve))
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		if t.Failed() {
			out, _ := command(ctx, "logs", "--tail", "30", id).CombinedOutput()
			t.Logf("%s:\n%s", name, out)
		}
		if _, err := byre(ctx, "rm", "-f", "-v", id); err != nil {
			t.Error(err)
		}
	})
	deadline := time.Now().Add(5 * time.Minute)
	for {
		// Asked of the host: a client would take the guest's time.
		logs, err := command(t.Context(), "logs", id).CombinedOutput()
		if err == nil && strings.Contains(string(logs), d.ready) {
			return id
		}
		if state := must(t)(byre(t.Context(), "inspect", "-f", "{{.State.Status}}", id)); state != "running" {
			t.Fatalf("%s is %s", name, state)
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is not ready after 5 min: %v", name, err)
		}
		time.Sleep(time.Second)
	}
}

// query returns the rows that statements answer.
func (d database) query(ctx context.Context, id, sql string) ([][]string, error) {
	cmd := command(ctx, append([]string{"exec", "-i", id}, d.client...)...)
	cmd.Stdin = strings.NewReader(sql)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", sql, err, out)
	}
	var rows [][]string
	for line := range strings.Lines(string(out)) {
		rows = append(rows, strings.Split(strings.TrimSuffix(line, "\n"), "\t"))
	}
	return rows, nil
}

// phases returns a function that logs how long each phase took.
func phases(t *testing.T, name string) func(string) {
	start := time.Now()
	return func(what string) {
		t.Logf("%s: %5.1f s: %s", name, time.Since(start).Seconds(), what)
		start = time.Now()
	}
}

// must returns a function that fails the test where there is an error.
func must(t *testing.T) func(string, error) string {
	return func(out string, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
}
