// SPDX-License-Identifier: Apache-2.0

package request

import (
	"encoding"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/volume"
)

// Body is one kind of JSON that clients send, with a rule for every field.
type Body struct {
	// To is what it asks for, such as "create a container".
	To string
	// Type is the struct that it is decoded into.
	Type reflect.Type
	// Rules has what happens to each field of Type.
	Rules []Rule
	// Beyond has what happens to fields that Type does not have and clients
	// send nevertheless; their names are taken whatever their case.
	Beyond []Rule
	// first refuses what no rule for one field can; nil for nothing.
	first func(v any) error
}

// Bodies are all kinds of bodies whose fields are checked.
func Bodies() []Body {
	return []Body{
		ContainerCreate(), ContainerUpdate(), Commit(), ExecCreate(), ExecStart(),
		NetworkCreate(), NetworkConnect(), NetworkDisconnect(), VolumeCreate(), Login(),
	}
}

// ContainerCreate is a request to create a container.
func ContainerCreate() Body {
	repeated := "clients that repeat the query's parameters in the body send it; the query counts"
	return Body{
		To: "create a container", Type: reflect.TypeFor[container.CreateRequest](), Rules: Rules(), first: checkModes,
		Beyond: []Rule{
			{Field: "MacAddress", Verdict: Honored},
			{Field: "name", Verdict: Harmless, Why: repeated},
			{Field: "platform", Verdict: Harmless, Why: repeated},
			{Field: "authConfig", Verdict: Harmless, Why: "docker-java's credentials, which it sends with a pull as well; nothing is pulled here"},
		},
	}
}

// ContainerUpdate is a request to change a container's limits and policy.
func ContainerUpdate() Body {
	return Body{To: "update a container", Type: reflect.TypeFor[container.UpdateConfig](), Rules: UpdateRules()}
}

// Commit is the configuration that a request to commit a container may carry.
func Commit() Body {
	repeated := "clients that repeat the query's parameters in the body send it; the query counts"
	var beyond []Rule
	for _, f := range []string{"container", "containerId", "repo", "repository", "tag", "comment", "message", "author", "pause", "changes"} {
		beyond = append(beyond, Rule{Field: f, Verdict: Harmless, Why: repeated})
	}
	return Body{To: "commit a container", Type: reflect.TypeFor[container.Config](), Rules: commitRules(), Beyond: beyond}
}

// ExecCreate is a request to add a process to a container.
func ExecCreate() Body {
	return Body{
		To: "create an exec", Type: reflect.TypeFor[container.ExecCreateRequest](),
		Rules: honored("User", "Privileged", "Tty", "ConsoleSize", "AttachStdin", "AttachStdout", "AttachStderr", "DetachKeys",
			"Env", "WorkingDir", "Cmd"),
		Beyond: []Rule{
			{Field: "Detach", Verdict: Harmless, Why: "sent by clients of old; the request to start says it"},
			{Field: "Container", Verdict: Harmless, Why: "sent by docker-py; the path names the container"},
			{Field: "containerId", Verdict: Harmless, Why: "sent by docker-java; the path names the container"},
		},
	}
}

// ExecStart is a request to start such a process.
func ExecStart() Body {
	dockerode := "sent by dockerode, of whose own connection it is"
	return Body{
		To: "start an exec", Type: reflect.TypeFor[container.ExecStartRequest](), Rules: honored("Detach", "Tty", "ConsoleSize"),
		Beyond: []Rule{
			{Field: "hijack", Verdict: Harmless, Why: dockerode},
			{Field: "stdin", Verdict: Harmless, Why: dockerode},
		},
	}
}

// NetworkCreate is a request to create a network.
func NetworkCreate() Body {
	return Body{
		To: "create a network", Type: reflect.TypeFor[network.CreateRequest](), Rules: NetworkRules(), first: checkIPv4,
		Beyond: []Rule{{Field: "CheckDuplicate", Verdict: Harmless, Why: "sent for APIs before 1.44; names of networks are always unique"}},
	}
}

// NetworkConnect is a request to put a container on a network.
func NetworkConnect() Body {
	return Body{To: "connect a container to a network", Type: reflect.TypeFor[network.ConnectRequest](), Rules: ConnectRules()}
}

// NetworkDisconnect is a request to take a container off a network.
func NetworkDisconnect() Body {
	return Body{To: "disconnect a container from a network", Type: reflect.TypeFor[network.DisconnectRequest](), Rules: honored("Container", "Force")}
}

// VolumeCreate is a request to create a volume.
func VolumeCreate() Body {
	return Body{
		To: "create a volume", Type: reflect.TypeFor[volume.CreateRequest](),
		Rules: append(honored("Name", "Labels"),
			Rule{Field: "Driver", Verdict: Partly, Why: "the volume driver is local", Allow: oneOf("local")},
			Rule{Field: "DriverOpts", Verdict: Partly, Why: "there are type=ext4 with size, type=directory, and o=bind with device", Allow: func(any) bool { return true }},
			Rule{Field: "ClusterVolumeSpec", Verdict: Refused, Why: "there is no swarm"},
		),
	}
}

// Login is a request to check credentials.
func Login() Body {
	return Body{
		To: "check credentials", Type: reflect.TypeFor[registry.AuthConfig](),
		Rules: honored("username", "password", "auth", "serveraddress", "identitytoken", "registrytoken"),
		Beyond: []Rule{
			{Field: "email", Verdict: Harmless, Why: "registries have not asked for it since API 1.23; it comes out of old configuration files"},
			{Field: "stackOrchestrator", Verdict: Harmless, Why: "docker-java's setting for the client's own use"},
		},
	}
}

// Check refuses a decoded request with what byre cannot honor, and raw, the
// same in JSON, with fields that byre does not know. V points to a value of the
// body's type. The error names the field.
func (b Body) Check(v any, raw []byte) error {
	if b.first != nil {
		if err := b.first(v); err != nil {
			return err
		}
	}
	c := checker{rules: index(b.Rules), beyond: b.Beyond}
	c.walk("", reflect.ValueOf(v).Elem())
	if c.err == nil {
		c.unknown("", b.Type, raw)
	}
	return c.err
}

// unknown refuses what has a value in the JSON and no place in its type, at
// any depth.
func (c *checker) unknown(path string, t reflect.Type, raw json.RawMessage) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if c.err != nil || readsItself(t) {
		return
	}
	switch t.Kind() {
	case reflect.Struct:
		c.unknownFields(path, t, raw)
	case reflect.Map:
		var values map[string]json.RawMessage
		if json.Unmarshal(raw, &values) == nil {
			for _, name := range slices.Sorted(maps.Keys(values)) {
				c.unknown(path, t.Elem(), values[name])
			}
		}
	case reflect.Slice, reflect.Array:
		var values []json.RawMessage
		if json.Unmarshal(raw, &values) == nil {
			for _, value := range values {
				c.unknown(path, t.Elem(), value)
			}
		}
	}
}

func (c *checker) unknownFields(path string, t reflect.Type, raw json.RawMessage) {
	var values map[string]json.RawMessage
	if json.Unmarshal(raw, &values) != nil {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		at := join(path, name)
		if field, ok := fieldOf(t, name); ok {
			c.unknown(join(path, jsonName(field)), field.Type, values[name])
		} else if !emptyJSON(values[name]) && !c.isBeyond(at) {
			c.refuse(Rule{Field: at, Why: "it is not a field of this API"})
		}
	}
}

func (c *checker) isBeyond(path string) bool {
	return slices.ContainsFunc(c.beyond, func(r Rule) bool { return strings.EqualFold(r.Field, path) })
}

// readsItself says whether a type has its own way to be read from JSON: what
// does not belong in it is an error already.
func readsItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[json.Unmarshaler]()) || p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
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
