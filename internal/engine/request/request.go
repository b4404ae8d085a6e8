// SPDX-License-Identifier: Apache-2.0

// Package request says for every field of a request to create a container what
// byre does with it, so that nothing is accepted and ignored. Tests walk the
// types of Docker's API and hold them against the tables: a new field cannot be
// forgotten.
package request

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

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

// Check refuses a decoded request with what byre cannot honour, and raw, the
// same in JSON, with fields that byre does not know. The error names the field.
func Check(req *container.CreateRequest, raw []byte) error {
	if err := checkModes(req.HostConfig); err != nil {
		return err
	}
	c := checker{rules: index(Rules())}
	c.walk("", reflect.ValueOf(req).Elem())
	if c.err == nil {
		c.unknown(raw)
	}
	return c.err
}

// checkModes refuses, in dockerd's words, modes that no daemon knows.
func checkModes(h *container.HostConfig) error {
	switch {
	case h == nil:
		return nil
	case !h.IpcMode.Valid():
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid IPC mode: %v", h.IpcMode))
	case !h.PidMode.Valid():
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid PID mode: %v", h.PidMode))
	case !h.UTSMode.Valid():
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid UTS mode: %v", h.UTSMode))
	}
	return nil
}

// CheckUpdate does the same for a request to update a container.
func CheckUpdate(req *container.UpdateConfig) error {
	c := checker{rules: index(UpdateRules())}
	c.walk("", reflect.ValueOf(req).Elem())
	return c.err
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
	rules map[string]Rule
	err   error
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

// unknown refuses fields of the JSON that the types do not have.
func (c *checker) unknown(raw []byte) {
	var top map[string]json.RawMessage
	if json.Unmarshal(raw, &top) != nil {
		return
	}
	known := Names(reflect.TypeFor[container.CreateRequest]())
	c.unknownIn("", top, append(known, legacyFields("")...))
	var host map[string]json.RawMessage
	if json.Unmarshal(find(top, "HostConfig"), &host) == nil {
		c.unknownIn("HostConfig.", host, append(Names(reflect.TypeFor[container.HostConfig]()), legacyFields("HostConfig")...))
	}
}

func (c *checker) unknownIn(prefix string, fields map[string]json.RawMessage, known []string) {
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		isKnown := slices.ContainsFunc(known, func(k string) bool { return strings.EqualFold(k, name) })
		if !isKnown && !emptyJSON(fields[name]) {
			c.refuse(Rule{Field: prefix + name, Why: "it is not a field of this API"})
		}
	}
}

// legacyFields are fields of older APIs that the HTTP layer translates.
func legacyFields(of string) []string {
	if of == "" {
		return []string{"MacAddress"}
	}
	return nil
}

func find(fields map[string]json.RawMessage, name string) json.RawMessage {
	for k, v := range fields {
		if strings.EqualFold(k, name) {
			return v
		}
	}
	return nil
}

func emptyJSON(raw json.RawMessage) bool {
	var v any
	if json.Unmarshal(raw, &v) != nil {
		return false
	}
	switch v := v.(type) {
	case nil:
		return true
	case map[string]any:
		return len(v) == 0
	case []any:
		return len(v) == 0
	}
	return reflect.ValueOf(v).IsZero()
}

func join(prefix, name string) string {
	if prefix == "" {
		return name
	}
	return prefix + "." + name
}
