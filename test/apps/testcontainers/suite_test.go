// SPDX-License-Identifier: Apache-2.0

package testcontainers

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	tc "github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/exec"
	"github.com/testcontainers/testcontainers-go/network"
	"github.com/testcontainers/testcontainers-go/wait"
)

// patience bounds a start; machines may be emulated.
const patience = 5 * time.Minute

func start(t *testing.T, req tc.ContainerRequest) tc.Container {
	t.Helper()
	c, err := tc.GenericContainer(t.Context(), tc.GenericContainerRequest{ContainerRequest: req, Started: true})
	tc.CleanupContainer(t, c)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func output(t *testing.T, c tc.Container, args ...string) string {
	t.Helper()
	code, out, err := c.Exec(t.Context(), args, exec.Multiplexed())
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(out)
	if err != nil || code != 0 {
		t.Fatalf("%q: exit code %d, %v: %s", args, code, err, b)
	}
	return strings.TrimSpace(string(b))
}

func TestADatabaseStartsAndAnswers(t *testing.T) {
	const become = "setpriv --reuid postgres --regid postgres --init-groups "
	c := start(t, tc.ContainerRequest{
		Image:        "postgres",
		ExposedPorts: []string{"5432/tcp"},
		Env:          map[string]string{"PGDATA": "/data"},
		Cmd: []string{"sh", "-ec", "install -d -o postgres -m 700 /data /run/postgresql; " +
			become + "initdb --auth trust; echo host all all all trust >>/data/pg_hba.conf; exec " + become + "postgres -h '*'"},
		WaitingFor: wait.ForAll(
			wait.ForLog("ready to accept connections").WithStartupTimeout(patience),
			wait.ForListeningPort("5432/tcp").WithStartupTimeout(patience),
			wait.ForExec([]string{"psql", "-U", "postgres", "-c", "SELECT 1"}).WithStartupTimeout(patience),
		).WithDeadline(patience),
	})
	sql := func(q string) string { return output(t, c, "psql", "-U", "postgres", "-XAtc", q) }
	sql("CREATE TABLE t (n int)")
	sql("INSERT INTO t SELECT generate_series(1, 100)")
	if sum := sql("SELECT sum(n) FROM t"); sum != "5050" {
		t.Errorf("the sum is %s", sum)
	}
	endpoint, err := c.Endpoint(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.DialTimeout("tcp", endpoint, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// A request for TLS, which the server answers by one byte: no.
	if _, err := conn.Write([]byte{0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f}); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	if _, err := io.ReadFull(conn, b); err != nil || b[0] != 'N' {
		t.Errorf("the server at the mapped port says %q, %v", b, err)
	}
}

func TestContainersOfANetworkFilesAndLogs(t *testing.T) {
	ctx := t.Context()
	nw, err := network.New(ctx)
	tc.CleanupNetwork(t, nw)
	if err != nil {
		t.Fatal(err)
	}
	web := start(t, tc.ContainerRequest{
		Image:          "busybox",
		ExposedPorts:   []string{"8080/tcp"},
		Networks:       []string{nw.Name},
		NetworkAliases: map[string][]string{nw.Name: {"web"}},
		Labels:         map[string]string{"of": "suite"},
		Files:          []tc.ContainerFile{{Reader: strings.NewReader("hello\n"), ContainerFilePath: "/www/index.html", FileMode: 0o644}},
		Cmd:            []string{"sh", "-c", "echo serving; exec httpd -f -vv -p 8080 -h /www"},
		WaitingFor:     wait.ForHTTP("/").WithPort("8080/tcp").WithStartupTimeout(patience),
		HostConfigModifier: func(h *container.HostConfig) {
			h.Memory = 128 << 20
		},
	})
	client := start(t, tc.ContainerRequest{
		Image: "busybox", Networks: []string{nw.Name}, Cmd: []string{"sleep", "1000"},
		WaitingFor: wait.ForExec([]string{"true"}).WithStartupTimeout(patience),
	})
	if got := output(t, client, "wget", "-qO-", "http://web:8080/"); got != "hello" {
		t.Errorf("by its alias the server says %q", got)
	}
	if err := web.CopyToContainer(ctx, []byte("more\n"), "/www/more", 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := web.CopyFileFromContainer(ctx, "/www/more")
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(r); err != nil || string(b) != "more\n" {
		t.Errorf("the file comes back as %q, %v", b, err)
	}
	url, err := web.PortEndpoint(ctx, "8080/tcp", "http")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := get(url + "/more"); err != nil || got != "more\n" {
		t.Errorf("at %s: %q, %v", url, got, err)
	}
	logs, err := web.Logs(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(logs); err != nil || !strings.Contains(string(b), "serving") {
		t.Errorf("the log is %q, %v", b, err)
	}
	second := time.Second
	if err := web.Stop(ctx, &second); err != nil {
		t.Fatal(err)
	}
	if s, err := web.State(ctx); err != nil || s.Running {
		t.Errorf("stopped, it is %+v, %v", s, err)
	}
	if err := web.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if got := output(t, client, "wget", "-qO-", "http://web:8080/more"); got != "more" {
		t.Errorf("started again, the server says %q", got)
	}
}

func get(url string) (string, error) {
	resp, err := http.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s", resp.Status)
	}
	return string(b), err
}
