// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/storage"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"
)

// fields are members of a JSON object.
type fields map[string]any

// extended is a JSON object with members that an older API had beside those of
// today's.
type extended struct {
	object any
	more   fields
}

// MarshalJSON adds each member that the object does not have, or has as null;
// members of a member that is an object in both are added to that one.
func (e extended) MarshalJSON() ([]byte, error) {
	base, err := plainJSON(e.object)
	if err != nil || len(e.more) == 0 {
		return base, err
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(base, &members); err != nil {
		return nil, err
	}
	for name, v := range e.more {
		have, ok := members[name]
		missing := !ok || string(have) == "null"
		if inner, nested := v.(fields); nested && !missing && have[0] == '{' {
			v = extended{have, inner}
		} else if !missing {
			continue
		}
		if members[name], err = plainJSON(v); err != nil {
			return nil, err
		}
	}
	return plainJSON(members)
}

// plainJSON leaves <, > and & as they are, as writeJSON does.
func plainJSON(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSpace(buf.Bytes()), err
}

// summaryFor puts an item of the list of images in the form of the client's API.
func summaryFor(r *call, sum image.Summary) any {
	if r.before("1.43") && len(sum.RepoTags) == 0 && len(sum.RepoDigests) == 0 {
		sum.RepoTags, sum.RepoDigests = []string{"<none>:<none>"}, []string{"<none>@<none>"}
	}
	if r.before("1.48") {
		sum.Descriptor = nil
	}
	if r.before("1.51") {
		sum.Containers = -1
	}
	return withVirtualSize(r, sum)
}

// withVirtualSize adds the field that API 1.44 dropped.
func withVirtualSize(r *call, sum image.Summary) any {
	if r.before("1.44") {
		return extended{sum, fields{"VirtualSize": sum.Size}}
	}
	return sum
}

// imageFor puts the description of an image in the form of the client's API.
func imageFor(r *call, resp *image.InspectResponse) any {
	if !r.before("1.52") {
		return resp
	}
	more := fields{"Parent": "", "Comment": "", "DockerVersion": "", "Author": "", "Config": imageConfigFields(r)}
	if r.before("1.48") {
		resp.Descriptor = nil
	}
	if r.before("1.45") {
		more["Container"], more["ContainerConfig"] = "", nil
	}
	if r.before("1.44") {
		more["VirtualSize"] = resp.Size
		if resp.Created == "" {
			resp.Created = time.Time{}.Format(time.RFC3339Nano)
		}
	}
	resp.GraphDriver = &storage.DriverData{Name: "byre", Data: map[string]string{}}
	return extended{resp, more}
}

// imageConfigFields are those of an image's configuration that were shown
// without a value: until API 1.50 all that a container's has, until 1.52 those
// that an image's may have.
func imageConfigFields(r *call) fields {
	f := fields{
		"Cmd": nil, "Entrypoint": nil, "Env": nil, "Labels": nil, "OnBuild": nil, "User": "", "Volumes": nil, "WorkingDir": "",
	}
	if r.before("1.50") {
		maps.Copy(f, fields{
			"AttachStderr": false, "AttachStdin": false, "AttachStdout": false, "Domainname": "", "Hostname": "", "Image": "",
			"OpenStdin": false, "StdinOnce": false, "Tty": false,
		})
	}
	return f
}

// containerFor puts the description of a container in the form of the client's
// API.
func containerFor(r *call, resp *container.InspectResponse) any {
	if r.before("1.56") && resp.HostConfig != nil {
		resp.HostConfig.Umask = nil
	}
	if !r.before("1.52") {
		return resp
	}
	if r.before("1.48") {
		resp.ImageManifestDescriptor = nil
	}
	if r.before("1.45") {
		addAliases(resp)
	}
	resp.GraphDriver = &storage.DriverData{Name: resp.Driver, Data: map[string]string{}}
	resp.Storage = nil
	return extended{resp, fields{"NetworkSettings": legacySettings(resp.NetworkSettings)}}
}

// addAliases names a container by its short ID and host name among its aliases
// on networks of the user's, as was done until DNSNames came with API 1.45.
func addAliases(resp *container.InspectResponse) {
	for name, ep := range resp.NetworkSettings.Networks {
		if !container.NetworkMode(name).IsUserDefined() {
			continue
		}
		for _, alias := range []string{resp.ID[:12], resp.Config.Hostname} {
			if !slices.Contains(ep.Aliases, alias) {
				ep.Aliases = append(ep.Aliases, alias)
			}
		}
	}
}

// legacySettings are the fields that API 1.52 dropped: those of the network
// "bridge", without a value where a container is not on it.
func legacySettings(s *container.NetworkSettings) fields {
	f := fields{
		"Bridge": "", "HairpinMode": false, "LinkLocalIPv6Address": "", "LinkLocalIPv6PrefixLen": 0,
		"SecondaryIPAddresses": nil, "SecondaryIPv6Addresses": nil,
		"EndpointID": "", "Gateway": "", "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "IPAddress": "", "IPPrefixLen": 0,
		"IPv6Gateway": "", "MacAddress": "",
	}
	if ep := s.Networks["bridge"]; ep != nil && ep.IPAddress.IsValid() {
		f["EndpointID"], f["IPAddress"], f["IPPrefixLen"] = ep.EndpointID, ep.IPAddress, ep.IPPrefixLen
		f["Gateway"], f["MacAddress"] = ep.Gateway, ep.MacAddress
	}
	return f
}

// infoFor puts the description of the engine in the form of the client's API.
func infoFor(r *call, info system.Info) any {
	more := fields{}
	if r.before("1.50") {
		// There is no bridge of the host's that its packet filter could see.
		more["BridgeNfIptables"], more["BridgeNfIp6tables"] = false, false
		info.DiscoveredDevices = nil
	}
	if r.before("1.49") {
		info.FirewallBackend = nil
		for name, c := range map[string]system.Commit{
			"ContainerdCommit": info.ContainerdCommit, "RuncCommit": info.RuncCommit, "InitCommit": info.InitCommit,
		} {
			more[name] = fields{"Expected": c.ID}
		}
	}
	if r.before("1.47") {
		more["RegistryConfig"] = fields{"AllowNondistributableArtifactsCIDRs": nil, "AllowNondistributableArtifactsHostnames": nil}
	}
	if r.before("1.46") {
		info.Containerd = nil
	}
	if r.before("1.44") {
		info.Runtimes = maps.Clone(info.Runtimes)
		for name, rt := range info.Runtimes {
			info.Runtimes[name] = system.RuntimeWithStatus{Runtime: rt.Runtime}
		}
	}
	return extended{info, more}
}

// oldUsage is the form of disk usage before API 1.52; what was not asked for is
// null.
type oldUsage struct {
	LayersSize int64
	Images     []any
	Containers []container.Summary
	Volumes    []volume.Volume
	BuildCache []build.CacheRecord
}
