// SPDX-License-Identifier: Apache-2.0

// Package request says for every field of the bodies that clients send, and for
// parameters of queries, what byre does with it, so that nothing is accepted and
// ignored. Tests walk the types of Docker's API and hold them against the tables:
// a new field cannot be forgotten.
package request

import (
	"fmt"
	"reflect"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
)

// Verdict is what byre does with a field.
type Verdict int

const (
	// Honored: the field has its effect; values that cannot have it are
	// refused where they are used.
	Honored Verdict = iota
	// Harmless: the field needs no effect; Why says the reason.
	Harmless
	// Refused: any value but the empty one is an error; Why says the reason.
	Refused
	// Partly: the values that Allow lets pass are honored, others refused.
	Partly
)

// String names the verdict.
func (v Verdict) String() string {
	return [...]string{"honored", "harmless", "refused", "partly"}[v]
}

// Rule is what byre does with one field.
type Rule struct {
	// Field is the path of the field in the request's JSON; elements of lists
	// and maps add nothing to it.
	Field string
	// Verdict is what happens to it.
	Verdict Verdict
	// Why is the reason for a refusal, or for doing nothing; it ends the
	// sentence "byre does not support FIELD: ...".
	Why string
	// Allow decides for Partly.
	Allow func(v any) bool
}

// checkModes refuses, in dockerd's words, modes that no daemon knows.
func checkModes(v any) error {
	req, ok := v.(*container.CreateRequest)
	if !ok || req.HostConfig == nil {
		return nil
	}
	switch h := req.HostConfig; {
	case !h.IpcMode.Valid():
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid IPC mode: %v", h.IpcMode))
	case !h.PidMode.Valid():
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid PID mode: %v", h.PidMode))
	case !h.UTSMode.Valid():
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid UTS mode: %v", h.UTSMode))
	}
	return nil
}

func index(rules []Rule) map[string]Rule {
	m := make(map[string]Rule, len(rules))
	for _, r := range rules {
		m[r.Field] = r
	}
	return m
}

// checker walks a request and keeps the first refusal.
type checker struct {
	rules  map[string]Rule
	beyond []Rule
	err    error
}

func (c *checker) walk(prefix string, v reflect.Value) {
	for name, field := range Fields(v) {
		path := join(prefix, name)
		if c.err != nil || empty(field) {
			continue
		}
		if rule, ok := c.rules[path]; ok {
			c.apply(rule, field)
			continue
		}
		c.descend(path, field)
	}
}

// descend goes into what has fields of its own and no rule.
func (c *checker) descend(path string, v reflect.Value) {
	if empty(v) {
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		c.descend(path, v.Elem())
	case reflect.Struct:
		c.walk(path, v)
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			c.descend(path, v.Index(i))
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			c.descend(path, v.MapIndex(key))
		}
	default:
		c.refuse(Rule{Field: path, Why: "it is not known"})
	}
}

func (c *checker) apply(r Rule, v reflect.Value) {
	switch r.Verdict {
	case Refused:
		c.refuse(r)
	case Partly:
		if !r.Allow(v.Interface()) {
			c.refuse(r)
		}
	}
}

func (c *checker) refuse(r Rule) {
	if c.err == nil {
		c.err = errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("byre does not support %s: %s", r.Field, r.Why))
	}
}

func join(prefix, name string) string {
	if prefix == "" {
		return name
	}
	return prefix + "." + name
}
