// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	apiRuns = 11
	// listed is how many containers the list is of.
	listed = 100
	// idleTime is how long an idle daemon is watched.
	idleTime = 30 * time.Second
)

// benchAPI measures the daemon: what it takes of the host's processors for a
// container and for none, and how long a list takes.
func benchAPI(ctx context.Context, l *lab) error {
	own, machine, err := runCosts(ctx, l)
	if err != nil {
		return err
	}
	var ids []string
	defer func() { _, _ = l.byre(context.WithoutCancel(ctx), append([]string{"rm", "-f"}, ids...)...) }()
	for range listed {
		id, err := l.byre(ctx, "create", "busybox", "true")
		if err != nil {
			return err
		}
		ids = append(ids, strings.TrimSpace(id))
	}
	answer, err := median(apiRuns, func() (time.Duration, error) { return timed(func() error { return list(ctx, l) }) })
	if err != nil {
		return err
	}
	command, err := median(apiRuns, func() (time.Duration, error) {
		return timed(func() error { _, err := l.byre(ctx, "ps", "-a"); return err })
	})
	if err != nil {
		return err
	}
	used, held, err := idle(ctx, l)
	if err != nil {
		return err
	}
	table("Daemon", []string{"what", "measured"}, [][]string{
		{"host CPU of `byre run --rm busybox true` outside of QEMU: client, daemon and shim, mean", millis(own)},
		{"the same of its QEMU, mean", millis(machine)},
		{fmt.Sprintf("`GET /containers/json?all=1` with %d containers, median", listed), millis(answer)},
		{fmt.Sprintf("`byre ps -a` with %d containers, the client's start included, median", listed), millis(command)},
		{fmt.Sprintf("CPU of the idle daemon in %v", idleTime), millis(used)},
		{"memory of the idle daemon, proportional set size", megabytes(held)},
	})
	return nil
}

func millis(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }

// list asks for all containers as a client does that is started already.
func list(ctx context.Context, l *lab) error {
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(l.home, "docker.sock"))
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://byre/v1.51/containers/json?all=1", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("list containers: %s", resp.Status)
	}
	return nil
}

// idle returns the processor time that the daemon takes while nobody asks for
// anything, and its memory.
func idle(ctx context.Context, l *lab) (used time.Duration, held int64, err error) {
	pid, err := daemonPID(l)
	if err != nil {
		return 0, 0, err
	}
	if err := sleep(ctx, 5*time.Second); err != nil { // what the last request left to do
		return 0, 0, err
	}
	before, err := processTime(pid)
	if err != nil {
		return 0, 0, err
	}
	if err := sleep(ctx, idleTime); err != nil {
		return 0, 0, err
	}
	after, err := processTime(pid)
	if err != nil {
		return 0, 0, err
	}
	held, err = cost(pid)
	return after.own - before.own, held, err
}

func daemonPID(l *lab) (int, error) {
	b, err := os.ReadFile(filepath.Join(l.home, "daemon.pid"))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}
