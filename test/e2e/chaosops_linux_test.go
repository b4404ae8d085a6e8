// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
)

// choose picks one thing to do, to something that nothing else in this step is
// done to; nil for nothing. What it returns sets its argument when a command
// fails that would have succeeded had nothing been killed.
func (c *chaos) choose(taken map[string]bool) func(failed *bool) {
	switch n := c.rnd.IntN(20); {
	case n == 0 && len(c.networks) < chaosNetworks:
		return c.makeNetwork()
	case n == 1 && len(c.volumes) < chaosVolumes:
		return c.makeVolume()
	case n == 2:
		return c.removeUnused(taken)
	case n <= 8 && len(c.containers) < chaosContainers:
		return c.makeContainer(taken)
	}
	var free []string
	for _, name := range slices.Sorted(maps.Keys(c.containers)) {
		if !taken[name] {
			free = append(free, name)
		}
	}
	if len(free) == 0 {
		return nil
	}
	name := free[c.rnd.IntN(len(free))]
	taken[name] = true
	return c.changeContainer(c.containers[name])
}

func (c *chaos) name(kind string) string {
	c.made++
	return fmt.Sprintf("%s%d", kind, c.made)
}

func (c *chaos) makeNetwork() func(*bool) {
	name := c.name("net")
	c.networks[name] = true
	return func(failed *bool) {
		_, err := c.run("network", "create", name)
		*failed = err != nil
	}
}

func (c *chaos) makeVolume() func(*bool) {
	name := c.name("vol")
	c.volumes[name] = true
	return func(failed *bool) {
		_, err := c.run("volume", "create", name)
		*failed = err != nil
	}
}

// removeUnused removes a volume or a network, which is refused when it is used.
func (c *chaos) removeUnused(taken map[string]bool) func(*bool) {
	kind, have := "volume", c.volumes
	if c.rnd.IntN(2) == 0 {
		kind, have = "network", c.networks
	}
	names := slices.Sorted(maps.Keys(have))
	if len(names) == 0 {
		return nil
	}
	name := names[c.rnd.IntN(len(names))]
	if taken[name] {
		return nil
	}
	taken[name] = true
	return func(*bool) { _, _ = c.run(kind, "rm", name) }
}

func (c *chaos) makeContainer(taken map[string]bool) func(*bool) {
	kind := slices.Sorted(maps.Keys(kinds))[c.rnd.IntN(len(kinds))]
	w := &walker{name: c.name(kind), kind: kind, mayRest: true}
	taken[w.name] = true
	verb := "create"
	if c.rnd.IntN(2) == 0 {
		verb = "run"
	}
	args := []string{verb, "--name", w.name, "--label", "kind=" + kind}
	if verb == "run" {
		args = append(args, "-d")
	}
	if policy := kinds[kind].policy; policy != "" {
		args = append(args, "--restart", policy)
	}
	if c.rnd.IntN(2) == 0 {
		args = append(args, "-v", "/anonymous")
	}
	if names := unclaimed(c.volumes, taken); len(names) > 0 && c.rnd.IntN(2) == 0 {
		w.volume = names[c.rnd.IntN(len(names))]
		taken[w.volume] = true
		args = append(args, "-v", w.volume+":/data")
	}
	if names := unclaimed(c.networks, taken); len(names) > 0 && c.rnd.IntN(2) == 0 {
		name := names[c.rnd.IntN(len(names))]
		taken[name] = true
		args = append(args, "--network", name)
	}
	if c.rnd.IntN(4) == 0 {
		args = append(args, "-p", "127.0.0.1:0:80")
	}
	args = append(args, "busybox", "sh", "-c", kinds[kind].script)
	c.containers[w.name] = w
	return func(failed *bool) { c.about(w, failed, args...) }
}

// unclaimed are the names that nothing in this step is done to.
func unclaimed(have, taken map[string]bool) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(have)), func(name string) bool { return taken[name] })
}

// about runs a command about a container, which is refused where its state is
// not the one that the command wants; what was cut off makes it unsure.
func (c *chaos) about(w *walker, failed *bool, args ...string) {
	ends := slices.Contains([]string{"stop", "kill", "restart", "rm"}, args[0])
	if ends {
		w.mayRest = true
	}
	_, err := c.run(args...)
	if starts := slices.Contains([]string{"run", "start", "restart"}, args[0]); starts {
		w.mayRest = err != nil
	}
	switch {
	case err == nil || refused(err):
	case tooLate(err):
		c.mu.Lock()
		c.late++
		c.mu.Unlock()
	default:
		*failed, w.unsure = true, true
	}
}

// lateShare bounds how many of the walk's steps may have a machine that did not
// start in time: one in so many. A daemon that never starts one has more of them.
const lateShare = 2

// tooLate says that a machine did not start in time, by the words of those who
// gave it up: a host that is too busy has lost nothing. That anything else took
// too long, a request of the daemon's above all, is a failure.
func tooLate(err error) bool {
	start := strings.Contains(err.Error(), "failed to create task for container")
	return start && (strings.Contains(err.Error(), "deadline") || strings.Contains(err.Error(), "does not come up within"))
}

// refused says that a command found something in a state that excludes it.
func refused(err error) bool {
	for _, words := range []string{
		"is not running", "No such container", "no such container", "is already paused", "is not paused", "is paused",
		"container is running", "container is paused", "is already in use", "no such volume",
		"has no active endpoints", "is already running", "is restarting", "cannot start a paused container",
	} {
		if strings.Contains(err.Error(), words) {
			return true
		}
	}
	return lostNetwork.MatchString(err.Error())
}

// lostNetwork is what a start is told whose network is gone: a container that does
// not run keeps none from being removed.
var lostNetwork = regexp.MustCompile(`network \S+ not found`)

func (c *chaos) changeContainer(w *walker) func(*bool) {
	volatile := func(args ...string) func(*bool) {
		return func(failed *bool) {
			c.mu.Lock()
			w.disturbed = true
			c.mu.Unlock()
			c.about(w, failed, append(args, w.name)...)
		}
	}
	plain := func(args ...string) func(*bool) {
		return func(failed *bool) { c.about(w, failed, append(args, w.name)...) }
	}
	switch c.rnd.IntN(12) {
	case 0, 1:
		return plain("start")
	case 2:
		return volatile("stop", "-t", "1")
	case 3:
		return volatile("kill")
	case 4:
		return volatile("restart", "-t", "1")
	case 5:
		return volatile("rm", "-f", "-v")
	case 6:
		return plain("rm", "-v")
	case 7:
		return plain("pause")
	case 8:
		return plain("unpause")
	case 9:
		return plain("logs")
	}
	return c.write(w)
}

var writes atomic.Int64

// write writes a file in a container, in its volume if it has one.
func (c *chaos) write(w *walker) func(*bool) {
	file := fmt.Sprintf("f%d", writes.Add(1))
	dir := "/tmp"
	if w.volume != "" {
		dir = "/data"
	}
	return func(failed *bool) {
		_, err := c.run("exec", w.name, "sh", "-c", fmt.Sprintf("echo %s | dd of=%s/%s conv=fsync 2>/dev/null", file, dir, file))
		if err == nil && w.volume != "" {
			c.mu.Lock()
			c.written[w.volume] = append(c.written[w.volume], file)
			c.mu.Unlock()
		}
		// An exec in a container that ends meanwhile ends with it.
		if err != nil && !refused(err) && !strings.Contains(err.Error(), "exit status 137") && !kinds[w.kind].ends() {
			*failed, w.unsure = true, true
		}
	}
}

// removeAll removes everything, whatever state it is in.
func (c *chaos) removeAll() {
	c.note("the end: all is removed")
	list := func(args ...string) []string {
		out, err := c.run(args...)
		if err != nil {
			c.t.Errorf("after all: %v", err)
		}
		return strings.Fields(out)
	}
	if ids := list("ps", "-aq"); len(ids) > 0 {
		if _, err := c.run(append([]string{"rm", "-f", "-v"}, ids...)...); err != nil {
			c.t.Errorf("not everything can be removed: %v", err)
		}
	}
	for _, name := range list("network", "ls", "-q", "--filter", "type=custom") {
		if _, err := c.run("network", "rm", name); err != nil {
			c.t.Errorf("not everything can be removed: %v", err)
		}
	}
	// Anonymous volumes of a creation that was cut off belong to nobody.
	for _, name := range list("volume", "ls", "-q") {
		if _, err := c.run("volume", "rm", name); err != nil {
			c.t.Errorf("not everything can be removed: %v", err)
		}
	}
}

// checkWritten checks, in a machine of its own, that what was acknowledged is in
// the volumes.
func (c *chaos) checkWritten() {
	if len(c.written) == 0 {
		return
	}
	c.note("what was written is looked for")
	args := []string{"run", "--rm"}
	for name := range c.volumes {
		args = append(args, "-v", name+":/"+name)
	}
	args = append(args, "busybox", "sh", "-c", `for f in /*/f[0-9]*; do [ "$(cat $f)" = "${f##*/}" ] && echo $f; done; true`)
	out, err := c.run(args...)
	if err != nil {
		c.t.Errorf("volumes not read: %v", err)
	}
	there := map[string]bool{}
	for _, path := range strings.Fields(out) {
		there[strings.TrimPrefix(path, "/")] = true
	}
	for volume, files := range c.written {
		for _, file := range files {
			if !there[volume+"/"+file] {
				c.t.Errorf("a container wrote %s into %s and was told so: it is not there", file, volume)
			}
		}
	}
}
