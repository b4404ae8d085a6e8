// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// inspected is what the daemon says of a container.
type inspected struct {
	ID, Name     string
	RestartCount int
	State        struct {
		Status, Error string
		Running       bool
		ExitCode, Pid int
		FinishedAt    string
	}
}

// end is how a container ended.
type end struct {
	code       int
	error      string
	finishedAt string
}

// reconcile compares what the daemon says with what there is, and takes note of
// what was removed.
func (c *chaos) reconcile() {
	if _, err := c.run("ps", "-q"); err != nil { // starts the daemon if it was killed
		c.t.Errorf("after a step: %v", err)
		return
	}
	all := c.inspectAll()
	for name, w := range c.containers {
		if _, ok := all[name]; !ok {
			delete(c.containers, name)
			continue
		}
		c.check(w, all[name])
		w.unsure = false
	}
	for name := range all {
		if c.containers[name] == nil {
			c.t.Errorf("%s is back, or was never made", name)
		}
	}
	type named struct{ Name string }
	var volumes struct{ Volumes []named }
	c.ask("/volumes", &volumes)
	var networks []named
	c.ask("/networks?filters="+url.QueryEscape(`{"type":["custom"]}`), &networks)
	c.volumes, c.networks = map[string]bool{}, map[string]bool{}
	for _, v := range volumes.Volumes {
		// Anonymous volumes are their containers' affair.
		if len(v.Name) < 64 {
			c.volumes[v.Name] = true
		}
	}
	maps.DeleteFunc(c.written, func(volume string, _ []string) bool { return !c.volumes[volume] })
	for _, n := range networks {
		c.networks[n.Name] = true
	}
}

// ask asks the API; a container that is removed meanwhile leaves answer as it is.
func (c *chaos) ask(path string, answer any) {
	client := http.Client{Timeout: chaosLimit, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(c.home, "docker.sock"))
	}}}
	resp, err := client.Get("http://byre" + path)
	if err != nil {
		c.t.Errorf("GET %s: %v", path, err)
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound {
		return
	}
	if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
		c.t.Errorf("GET %s: %v", path, err)
	}
}

func (c *chaos) inspectAll() map[string]inspected {
	var list []struct{ ID string }
	c.ask("/containers/json?all=1", &list)
	all := map[string]inspected{}
	for _, l := range list {
		if i := c.inspect(l.ID); i.Name != "" {
			all[i.Name] = i
		}
	}
	return all
}

func (c *chaos) inspect(id string) (i inspected) {
	c.ask("/containers/"+id+"/json", &i)
	i.Name = strings.TrimPrefix(i.Name, "/")
	return i
}

// check holds one container against the processes of the host.
func (c *chaos) check(w *walker, first inspected) {
	got := first
	settled := c.unsettled(w, got)
	if settled != "" { // what was killed is noticed in a moment
		settled = c.await(func() string {
			got = c.inspect(first.ID)
			return c.unsettled(w, got)
		})
	}
	if settled != "" {
		c.t.Errorf("%s is said to be %s, which is not true: %s", w.name, got.State.Status, settled)
		return
	}
	c.note("%s: %s, exit code %d %s", w.name, got.State.Status, got.State.ExitCode, got.State.Error)
	switch got.State.Status {
	case "running":
		if out, err := c.run("exec", w.name, "echo", "here"); !kinds[w.kind].ends() && (err != nil || out != "here\n") {
			c.t.Errorf("%s is said to run: %q, %v", w.name, out, err)
		}
		w.disturbed = false
	case "exited":
		c.checkEnd(w, got)
	}
}

// unsettled says what contradicts a container's state, or what its restart policy
// has not done yet.
func (c *chaos) unsettled(w *walker, i inspected) string {
	k := kinds[w.kind]
	switch {
	case i.State.Status == "exited" && k.stays() && !w.mayRest && !tooLate(errors.New(i.State.Error)):
		return fmt.Sprintf("its policy %s does not start it again", k.policy)
	case k.ends() && i.RestartCount > retries:
		return fmt.Sprintf("its policy %q started it again %d times", k.policy, i.RestartCount)
	case k.policy == "" && i.RestartCount > 0:
		return fmt.Sprintf("without a policy it was started again %d times", i.RestartCount)
	}
	return c.untrue(i)
}

// settling bounds the wait for what was killed to be noticed, and for what has a
// policy to be started again on a busy host.
const settling = 90 * time.Second

// await calls until nothing is amiss, and returns what was in the end.
func (c *chaos) await(amiss func() string) string {
	deadline := time.Now().Add(settling)
	for {
		s := amiss()
		if s == "" || time.Now().After(deadline) {
			return s
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// untrue says what contradicts a container's state.
func (c *chaos) untrue(i inspected) string {
	var machine, shim bool
	for _, p := range processesOf(i.ID) {
		machine = machine || strings.Contains(p.cmd, "qemu-system")
		shim = shim || strings.Contains(p.cmd, "containerd-shim")
	}
	s := i.State
	switch s.Status {
	case "":
		return "" // it was removed meanwhile
	case "running", "paused":
		if !machine || !shim {
			return fmt.Sprintf("machine %v, shim %v", machine, shim)
		}
		if !s.Running || s.Pid == 0 {
			return fmt.Sprintf("running %v, PID %d", s.Running, s.Pid)
		}
	case "created", "exited":
		if machine || shim {
			return fmt.Sprintf("machine %v, shim %v", machine, shim)
		}
		if s.Running || s.Pid != 0 {
			return fmt.Sprintf("running %v, PID %d", s.Running, s.Pid)
		}
	default:
		return "no state to stay in: " + s.Error
	}
	return ""
}

// checkEnd holds an exit code against what the container has said of its end.
func (c *chaos) checkEnd(w *walker, i inspected) {
	out, err := c.run("logs", w.name)
	if err != nil {
		c.t.Errorf("logs of %s: %v", w.name, err)
	}
	lines := strings.Fields(strings.TrimSpace(out))
	own := kinds[w.kind].code
	this := end{i.State.ExitCode, i.State.Error, i.State.FinishedAt}
	said := len(lines) > 1 && lines[len(lines)-2] == "ended" && lines[len(lines)-1] == fmt.Sprint(own)
	switch code := i.State.ExitCode; {
	case this == w.explained:
		return
	case code == own && said:
	case code == own && own >= 0:
		c.t.Errorf("%s ended with %d, and did not say so: %q", w.name, code, out)
		return
	case code == 137 && w.disturbed:
	case code == 255 && w.disturbed && i.State.Error != "":
	case code == 128 && lostNetwork.MatchString(i.State.Error):
	case code == 128 && w.disturbed && kinds[w.kind].policy != "" && i.State.Error != "":
		// A start by its policy that was cut off.
	case w.unsure && i.State.Error != "":
		// A start that was cut off.
	default:
		c.t.Errorf("%s ended with %d (%s), which nothing explains; it said %q", w.name, code, i.State.Error, out)
		return
	}
	w.explained = this
}

// inventory lists the files of the state directory that stay when nothing is in
// it but an image; logs and databases change.
func (c *chaos) inventory() []string {
	var all []string
	err := filepath.WalkDir(c.home, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // gone meanwhile
		}
		rel, _ := filepath.Rel(c.home, path)
		for _, own := range []string{"template", "serve.log", "daemon.pid", filepath.Join("networks", "bridge"), "shares", filepath.Join("shares", "locks")} {
			if rel == own {
				if d.IsDir() && d.Name() != "shares" && d.Name() != "locks" {
					return filepath.SkipDir
				}
				return nil
			}
		}
		all = append(all, rel)
		return nil
	})
	if err != nil {
		c.t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

// nothingLeft fails when something is left but the image and the daemon.
func (c *chaos) nothingLeft(before []string) {
	left := c.await(func() string {
		var left []string
		for _, p := range processesOf(c.home) {
			if strings.Contains(p.cmd, "byred serve") || strings.Contains(p.cmd, "network-switch") && strings.Contains(p.cmd, filepath.Join("networks", "bridge")) {
				continue
			}
			left = append(left, fmt.Sprintf("process %d: %s", p.pid, p.cmd))
		}
		mounts, _ := os.ReadFile("/proc/self/mountinfo")
		if strings.Contains(string(mounts), c.home) {
			left = append(left, "a mount")
		}
		for _, file := range c.inventory() {
			if _, found := slices.BinarySearch(before, file); !found {
				left = append(left, "file: "+file)
			}
		}
		return strings.Join(left, "\n")
	})
	if left != "" {
		c.t.Errorf("left behind:\n%s", left)
	}
	if out, err := c.run("network", "inspect", "bridge", "-f", "{{len .Containers}}"); err != nil || strings.TrimSpace(out) != "0" {
		c.t.Errorf("containers on the network bridge: %q, %v", out, err)
	}
}
