// SPDX-License-Identifier: Apache-2.0

//go:build unix

package dockerapi_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

// member finds a member of a JSON document by a path of names, 0 for the first
// of a list, and says whether it is there.
func member(t *testing.T, text, path string) (any, bool) {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	for name := range strings.SplitSeq(path, ".") {
		if list, ok := v.([]any); ok && name == "0" && len(list) > 0 {
			v = list[0]
			continue
		}
		object, _ := v.(map[string]any)
		next, ok := object[name]
		if !ok {
			return nil, false
		}
		v = next
	}
	return v, true
}

// Fields that the API dropped are there for clients that speak a version that
// had them, as dockerd 29 sends them.
func TestOlderVersionsHaveTheFieldsTheyHad(t *testing.T) {
	s := serve(t)
	s.load(t, "tiny:latest")
	s.create(t, "box", container.Config{Image: "tiny"})
	for _, f := range []struct {
		path, field string
		// until is the first version without the field, empty if all since
		// have it; since the first with it.
		since, until string
	}{
		{"/images/json", "0.VirtualSize", "", "1.44"},
		{"/images/json", "0.Descriptor", "1.48", ""},
		{"/images/tiny/json", "VirtualSize", "", "1.44"},
		{"/images/tiny/json", "Container", "", "1.45"},
		{"/images/tiny/json", "ContainerConfig", "", "1.45"},
		{"/images/tiny/json", "Descriptor", "1.48", ""},
		{"/images/tiny/json", "Config.Hostname", "", "1.50"},
		{"/images/tiny/json", "Config.AttachStdin", "", "1.50"},
		{"/images/tiny/json", "Config.Entrypoint", "", "1.52"},
		{"/images/tiny/json", "Config.Cmd", "", ""},
		{"/images/tiny/json", "DockerVersion", "", "1.52"},
		{"/images/tiny/json", "Parent", "", "1.52"},
		{"/images/tiny/json", "Author", "", "1.52"},
		{"/images/tiny/json", "GraphDriver", "", "1.52"},
		{"/containers/box/json", "NetworkSettings.IPAddress", "", "1.52"},
		{"/containers/box/json", "GraphDriver", "", "1.52"},
		{"/info", "RegistryConfig.AllowNondistributableArtifactsCIDRs", "", "1.47"},
		{"/info", "Containerd", "1.46", ""},
		{"/info", "RuncCommit.Expected", "", "1.49"},
		{"/info", "BridgeNfIptables", "", "1.50"},
		{"/system/df", "Images.0.VirtualSize", "", "1.44"},
		{"/system/df", "LayersSize", "", "1.52"},
	} {
		for _, version := range []string{"1.41", "1.43", "1.44", "1.45", "1.46", "1.47", "1.48", "1.49", "1.50", "1.51", "1.52", "1.56"} {
			status, text := s.get(t, "/v"+version+f.path)
			if status != http.StatusOK {
				t.Fatalf("%s %s: %d %s", version, f.path, status, text)
			}
			_, got := member(t, text, f.field)
			if want := version >= f.since && (f.until == "" || version < f.until); got != want {
				t.Errorf("%s of %s in API %s is there: %t, want %t", f.field, f.path, version, got, want)
			}
		}
	}
	_, text := s.get(t, "/v1.43/images/tiny/json")
	size, _ := member(t, text, "Size")
	if virtual, _ := member(t, text, "VirtualSize"); virtual != size || size == 0.0 {
		t.Errorf("size %v, virtual size %v", size, virtual)
	}
	if cmd, _ := member(t, text, "Config.Cmd.0"); cmd != "sh" {
		t.Errorf("the command is %v", cmd)
	}
}

func TestAnImageWithoutANameHasOneBeforeAPI143(t *testing.T) {
	s := serve(t)
	for _, label := range []string{"n=1", "n=2"} { // the second takes the name
		tar := bytes.NewReader(tarOf(t, map[string][]byte{"file": nil}))
		resp, err := s.ImageImport(t.Context(), client.ImageImportSource{Source: tar, SourceName: "-"}, "app:1",
			client.ImageImportOptions{Changes: []string{"LABEL " + label}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp); err != nil {
			t.Fatal(err)
		}
		resp.Close()
	}
	for version, want := range map[string]bool{"1.42": true, "1.43": false} {
		if _, text := s.get(t, "/v"+version+"/images/json?all=1"); strings.Contains(text, `"<none>:<none>"`) != want {
			t.Errorf("%s: %s", version, text)
		}
	}
}

func TestMountsAreReadAsTheClientsVersionMeansThem(t *testing.T) {
	s := serve(t)
	s.load(t, "tiny:latest")
	tmpfs := `{"Type":"tmpfs","Target":"/x","VolumeOptions":{"NoCopy":true}}`
	for _, c := range []struct {
		version, mount, want string
	}{
		{"1.41", tmpfs, ""},
		{"1.42", tmpfs, `VolumeOptions must not be specified on mount type \"tmpfs\"`},
		{"1.43", `{"Type":"bind","Source":"/tmp","Target":"/x","ReadOnly":true,"BindOptions":{"ReadOnlyForceRecursive":true}}`, "BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer"},
		{"1.44", `{"Type":"volume","Source":"v","Target":"/x","VolumeOptions":{"Subpath":"a"}}`, "VolumeOptions.Subpath needs API v1.45 or newer"},
		{"1.47", `{"Type":"image","Source":"tiny","Target":"/x"}`, `Mount type \"Image\" needs API v1.48 or newer`},
		{"1.48", `{"Type":"image","Source":"tiny","Target":"/x"}`, ""},
	} {
		status, text := s.post(t, "/v"+c.version+"/containers/create", `{"Image":"tiny","HostConfig":{"Mounts":[`+c.mount+`]}}`)
		if ok := status == http.StatusCreated; ok != (c.want == "") || !strings.Contains(text, c.want) {
			t.Errorf("API %s, %s: %d %s", c.version, c.mount, status, text)
		}
	}
}

func TestAliasesNameTheContainerBeforeAPI145(t *testing.T) {
	s := serve(t)
	s.load(t, "tiny:latest")
	if status, text := s.post(t, "/networks/create", `{"Name":"app"}`); status != http.StatusCreated {
		t.Fatal(status, text)
	}
	resp, err := s.ContainerCreate(t.Context(), client.ContainerCreateOptions{
		Name: "box", Config: &container.Config{Image: "tiny"}, HostConfig: &container.HostConfig{NetworkMode: "app"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for version, want := range map[string]bool{"1.44": true, "1.45": false} {
		_, text := s.get(t, "/v"+version+"/containers/box/json")
		aliases, _ := member(t, text, "NetworkSettings.Networks.app.Aliases")
		list, _ := aliases.([]any)
		if slices.Contains(list, any(resp.ID[:12])) != want {
			t.Errorf("API %s: %v", version, aliases)
		}
	}
}

// Until API 1.51 a container has a MAC address, which is that of its main
// network; since 1.44 each endpoint has its own.
func TestAContainersMACAddressIsThatOfItsMainNetwork(t *testing.T) {
	s := serve(t)
	s.load(t, "tiny:latest")
	for _, name := range []string{"front", "back"} {
		if status, text := s.post(t, "/networks/create", `{"Name":"`+name+`"}`); status != http.StatusCreated {
			t.Fatalf("network %s: %d %s", name, status, text)
		}
	}
	const mac, other = "02:42:c0:a8:00:05", "02:42:c0:a8:00:06"
	wide := `"MacAddress":"` + mac + `",`
	for _, c := range []struct {
		version, body, network, want string
	}{
		{"1.43", wide + `"HostConfig":{}`, "bridge", ""},
		{"1.43", wide + `"HostConfig":{"NetworkMode":"front"}`, "front", ""},
		{"1.43", wide + `"NetworkingConfig":{"EndpointsConfig":{"front":null}}`, "front", ""},
		{"1.43", wide + `"HostConfig":{"NetworkMode":"none"}`, "", "conflicting options: mac-address and the network mode"},
		{"1.44", wide + `"HostConfig":{"NetworkMode":"front"},"NetworkingConfig":{"EndpointsConfig":{"back":{},"front":{}}}`, "front", ""},
		{"1.44", wide + `"NetworkingConfig":{"EndpointsConfig":{"back":{},"front":{}}}`, "", "must match the identity of a network"},
		{"1.51", wide + `"HostConfig":{"NetworkMode":"front"},"NetworkingConfig":{"EndpointsConfig":{"front":{"MacAddress":"` + other + `"}}}`, "",
			"must match the endpoint-specific MAC address"},
		{"1.52", wide + `"HostConfig":{}`, "", "container-wide MAC address no longer supported"},
		{"1.56", `"HostConfig":{"NetworkMode":"front"},"NetworkingConfig":{"EndpointsConfig":{"front":{"MacAddress":"` + mac + `"}}}`, "front", ""},
	} {
		status, text := s.post(t, "/v"+c.version+"/containers/create", `{"Image":"tiny",`+c.body+`}`)
		if ok := status == http.StatusCreated; ok != (c.want == "") || !strings.Contains(text, c.want) {
			t.Errorf("API %s, %s: %d %s", c.version, c.body, status, text)
			continue
		}
		if c.want != "" {
			continue
		}
		id, _ := member(t, text, "Id")
		_, text = s.get(t, "/containers/"+id.(string)+"/json")
		if got, _ := member(t, text, "NetworkSettings.Networks."+c.network+".MacAddress"); got != mac {
			t.Errorf("API %s, %s: the address on %s is %v", c.version, c.body, c.network, got)
		}
	}
	// Nobody asked before 1.44 for an endpoint's own.
	_, text := s.post(t, "/v1.43/containers/create", `{"Image":"tiny","NetworkingConfig":{"EndpointsConfig":{"front":{"MacAddress":"`+mac+`"}}}}`)
	id, _ := member(t, text, "Id")
	_, text = s.get(t, "/containers/"+id.(string)+"/json")
	if got, _ := member(t, text, "NetworkSettings.Networks.front.MacAddress"); got != "" {
		t.Errorf("API 1.43, an endpoint's own: %v", got)
	}
}
