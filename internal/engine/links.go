// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"

	enginenet "byre.dev/byre/internal/engine/network"
	"byre.dev/byre/internal/shimapi"
)

// Links (--link) are Docker's old way for a container on the bridge to know
// another by a name of its choosing: a line in its hosts file. The line follows
// the other's address when that one is started again.

// Linked is one link of a container.
type Linked struct {
	// Alias is what the container calls the other, ID which that is.
	Alias, ID string
}

// completeLinks finds the containers that a new one is linked to.
func (e *Engine) completeLinks(rec *Record) error {
	if len(rec.Host.Links) == 0 {
		return nil
	}
	if mode := rec.Host.NetworkMode; mode.IsContainer() || mode.IsHost() || mode.IsNone() {
		return invalid("conflicting options: links and the network mode %s", mode)
	}
	if rec.Network != enginenet.Bridge {
		return invalid("byre does not support HostConfig.Links on network %s: containers of a network find each other by name and alias", rec.Network)
	}
	for _, l := range rec.Host.Links {
		name, alias, given := strings.Cut(l, ":")
		if !given {
			alias = strings.TrimPrefix(name, "/")
		}
		// The form that inspect shows: /other:/own/alias.
		alias = alias[strings.LastIndexByte(alias, '/')+1:]
		if name == "" || checkName(alias) != nil {
			return invalid("bad format for links: %s", l)
		}
		c, err := e.containers.get(name)
		if err != nil {
			// Not found would have the client pull the image.
			return invalid("could not get container for %s: %v", name, err)
		}
		if mode := c.snapshot().Host.NetworkMode; mode.IsHost() || mode.IsContainer() {
			return invalid("conflicting options: container %s has the network mode %s, which can't be used with links", name, mode)
		}
		rec.Links = append(rec.Links, Linked{Alias: alias, ID: c.id})
	}
	return nil
}

// linkedHosts are the lines of the hosts file for a container's links. At a
// start every other must run; later one that does not has no line.
func (e *Engine) linkedHosts(r Record, starting bool) ([]shimapi.Host, error) {
	var hosts []shimapi.Host
	for _, l := range r.Links {
		c, err := e.containers.get(l.ID)
		if err != nil {
			continue // removed: so is the link
		}
		other := c.snapshot()
		a := other.Connections[enginenet.Bridge]
		switch {
		case a != nil && other.State.Running:
			hosts = append(hosts, shimapi.Host{Address: a.IP.String(), Names: []string{l.Alias, other.Config.Hostname, other.Name}})
		case starting && !other.State.Running:
			return nil, fmt.Errorf("Cannot link to a non running container: /%s AS /%s/%s", other.Name, r.Name, l.Alias)
		case starting:
			return nil, fmt.Errorf("Cannot link to /%s, as it does not belong to the default network", other.Name)
		}
	}
	return hosts, nil
}

// relink tells the containers that run and are linked to one that was started
// its address, in goroutines of the engine's.
func (e *Engine) relink(id string) {
	for _, c := range e.containers.all() {
		if r := c.snapshot(); !r.State.Running || !r.linkedTo(id) {
			continue
		}
		e.run.Go(func() {
			if err := e.relinkOne(c); err != nil {
				c.log.Warn("container does not know the address of one it is linked to", "err", err)
			}
		})
	}
}

func (e *Engine) relinkOne(c *Container) error {
	ctx, cancel := context.WithTimeout(e.ctx, cleanupTimeout)
	defer cancel()
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.unlock()
	r := c.snapshot()
	if _, err := c.running(); err != nil || len(r.Connections) == 0 {
		return nil
	}
	return e.setNetwork(ctx, c, r, r.Connections)
}

func (r Record) linkedTo(id string) bool {
	return slices.ContainsFunc(r.Links, func(l Linked) bool { return l.ID == id })
}

// linkNames are the names that containers have by others' links to them, by
// their IDs.
func linkNames(all []Record) map[string][]string {
	names := map[string][]string{}
	for _, r := range all {
		for _, l := range r.Links {
			names[l.ID] = append(names[l.ID], "/"+r.Name+"/"+l.Alias)
		}
	}
	return names
}

// shownLinks are a container's links as inspect has them.
func (e *Engine) shownLinks(r Record) []string {
	var links []string
	for _, l := range r.Links {
		if c, err := e.containers.get(l.ID); err == nil {
			links = append(links, "/"+c.snapshot().Name+":/"+r.Name+"/"+l.Alias)
		}
	}
	return links
}
