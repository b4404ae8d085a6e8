// SPDX-License-Identifier: Apache-2.0

package request

import (
	"fmt"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"

	"byre.dev/byre/internal/disk"
)

// Rules are all rules for a request to create a container.
func Rules() []Rule {
	return slices.Concat(configRules(), hostRules(), resourceRules("HostConfig."), deviceRules(), mountRules(), endpointRules("NetworkingConfig.EndpointsConfig."))
}

// UpdateRules are the rules for a request to update a container.
func UpdateRules() []Rule {
	rules := append(resourceRules(""), honored("RestartPolicy.Name", "RestartPolicy.MaximumRetryCount")...)
	for _, f := range []string{"Devices", "DeviceCgroupRules", "DeviceRequests"} {
		rules = append(rules, Rule{Field: f, Verdict: Refused, Why: "a container gets its devices when it is created"})
	}
	return rules
}

// commitRules are those for the configuration of an image that is made of a
// container.
func commitRules() []Rule {
	rules := append(honored("User", "ExposedPorts", "Env", "Cmd", "Volumes", "WorkingDir", "Entrypoint", "OnBuild", "Labels", "StopSignal", "Shell"),
		healthRules()...)
	for _, f := range []string{
		"Hostname", "Domainname", "AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce", "Image",
		"NetworkDisabled", "StopTimeout",
	} {
		rules = append(rules, Rule{Field: f, Verdict: Harmless, Why: "clients send a container's whole configuration; an image has none of it"})
	}
	return append(rules, Rule{Field: "ArgsEscaped", Verdict: Refused, Why: "it concerns Windows containers"})
}

func healthRules() []Rule {
	return honored("Healthcheck.Test", "Healthcheck.Interval", "Healthcheck.Timeout", "Healthcheck.StartPeriod",
		"Healthcheck.StartInterval", "Healthcheck.Retries")
}

func honored(fields ...string) []Rule {
	rules := make([]Rule, len(fields))
	for i, f := range fields {
		rules[i] = Rule{Field: f, Verdict: Honored}
	}
	return rules
}

func configRules() []Rule {
	return append(append(honored(
		"Hostname", "Domainname", "User", "ExposedPorts", "Tty", "OpenStdin", "StdinOnce", "Env", "Cmd",
		"Image", "Volumes", "WorkingDir", "Entrypoint", "NetworkDisabled", "Labels", "StopSignal", "StopTimeout", "Shell",
	), healthRules()...),
		Rule{Field: "AttachStdin", Verdict: Harmless, Why: "kept for inspect; the client attaches by itself"},
		Rule{Field: "AttachStdout", Verdict: Harmless, Why: "kept for inspect; the client attaches by itself"},
		Rule{Field: "AttachStderr", Verdict: Harmless, Why: "kept for inspect; the client attaches by itself"},
		Rule{Field: "OnBuild", Verdict: Harmless, Why: "kept for inspect; it concerns builds alone"},
		Rule{Field: "ArgsEscaped", Verdict: Refused, Why: "it concerns Windows containers"},
	)
}

// hostRules are those of HostConfig without Resources and Mounts.
func hostRules() []Rule {
	rules := honored(
		"HostConfig.Binds", "HostConfig.PortBindings.HostIp", "HostConfig.PortBindings.HostPort", "HostConfig.RestartPolicy.Name",
		"HostConfig.RestartPolicy.MaximumRetryCount", "HostConfig.AutoRemove", "HostConfig.Links",
		"HostConfig.VolumesFrom", "HostConfig.ConsoleSize", "HostConfig.CapAdd", "HostConfig.CapDrop",
		"HostConfig.CgroupnsMode", "HostConfig.Dns", "HostConfig.DnsOptions", "HostConfig.DnsSearch",
		"HostConfig.ExtraHosts", "HostConfig.OomScoreAdj", "HostConfig.Privileged", "HostConfig.PublishAllPorts",
		"HostConfig.ReadonlyRootfs", "HostConfig.SecurityOpt", "HostConfig.Tmpfs", "HostConfig.ShmSize",
		"HostConfig.Sysctls", "HostConfig.Umask", "HostConfig.Init", "HostConfig.MaskedPaths", "HostConfig.ReadonlyPaths",
	)
	return append(rules,
		Rule{Field: "HostConfig.ContainerIDFile", Verdict: Harmless, Why: "the client writes the file"},
		Rule{Field: "HostConfig.LogConfig.Type", Verdict: Partly, Why: "the log drivers are json-file, local and none", Allow: oneOf("json-file", "local", "none")},
		Rule{Field: "HostConfig.LogConfig.Config", Verdict: Partly, Why: "the options of json-file and local are max-size, max-file and compress=false", Allow: allowLogOptions},
		Rule{Field: "HostConfig.NetworkMode", Verdict: Partly, Why: "name a network of the driver bridge, host, none, or container:NAME", Allow: allowNetworkMode},
		Rule{Field: "HostConfig.VolumeDriver", Verdict: Partly, Why: "the volume driver is local", Allow: oneOf("local")},
		Rule{Field: "HostConfig.Annotations", Verdict: Partly, Why: "names that start with dev.byre., and those that put containers into one sandbox, are byre's own", Allow: allowAnnotations},
		Rule{Field: "HostConfig.GroupAdd", Verdict: Partly, Why: "a group is a number or a name of the image's, without a comma or colon", Allow: allowGroups},
		Rule{Field: "HostConfig.IpcMode", Verdict: Partly, Why: "every container has a machine of its own: the mode is private, none, which is private without /dev/shm, shareable, or container:NAME, which shares that container's machine and IPC", Allow: allowIpcMode},
		Rule{Field: "HostConfig.Cgroup", Verdict: Refused, Why: "every container has a machine of its own"},
		Rule{Field: "HostConfig.PidMode", Verdict: Partly, Why: "every container has a machine of its own; container:NAME shares that container's machine and processes", Allow: isContainerPidMode},
		Rule{Field: "HostConfig.StorageOpt", Verdict: Partly, Why: "the option is size, from 16m to 8t; without it a writable layer has 64 GiB", Allow: allowStorage},
		Rule{Field: "HostConfig.UTSMode", Verdict: Refused, Why: "every container has a machine of its own"},
		Rule{Field: "HostConfig.UsernsMode", Verdict: Partly, Why: "there are no user namespaces, the machine is the boundary", Allow: oneOf("host")},
		Rule{Field: "HostConfig.Runtime", Verdict: Partly, Why: "the runtime is io.containerd.byre.v1", Allow: oneOf("io.containerd.byre.v1", "byre")},
		Rule{Field: "HostConfig.Isolation", Verdict: Partly, Why: "the isolation is that of a machine per container", Allow: oneOf("default")},
	)
}

func resourceRules(prefix string) []Rule {
	rules := honored("CpuShares", "Memory", "NanoCpus", "CpuPeriod", "CpuQuota", "CpusetCpus", "CpusetMems",
		"MemoryReservation", "MemorySwap", "PidsLimit", "Ulimits.Name", "Ulimits.Soft", "Ulimits.Hard")
	weights := "a machine's disks are its own, there is no other container to be weighed against"
	rates := "a rate is that of a device of the host, and a machine's disks are none: they are files"
	windows := "it concerns Windows containers"
	rules = append(rules,
		Rule{Field: "CgroupParent", Verdict: Refused, Why: "every container has a machine of its own"},
		Rule{Field: "BlkioWeight", Verdict: Refused, Why: weights},
		Rule{Field: "BlkioWeightDevice", Verdict: Refused, Why: weights},
		Rule{Field: "BlkioDeviceReadBps", Verdict: Refused, Why: rates},
		Rule{Field: "BlkioDeviceWriteBps", Verdict: Refused, Why: rates},
		Rule{Field: "BlkioDeviceReadIOps", Verdict: Refused, Why: rates},
		Rule{Field: "BlkioDeviceWriteIOps", Verdict: Refused, Why: rates},
		Rule{Field: "CpuRealtimePeriod", Verdict: Refused, Why: "control groups of version 2 have no realtime scheduling"},
		Rule{Field: "CpuRealtimeRuntime", Verdict: Refused, Why: "control groups of version 2 have no realtime scheduling"},
		Rule{Field: "MemorySwappiness", Verdict: Partly, Why: "control groups of version 2 have no swappiness", Allow: isMinusOne},
		Rule{Field: "OomKillDisable", Verdict: Refused, Why: "control groups of version 2 cannot switch the OOM killer off"},
		Rule{Field: "CpuCount", Verdict: Refused, Why: windows},
		Rule{Field: "CpuPercent", Verdict: Refused, Why: windows},
		Rule{Field: "IOMaximumIOps", Verdict: Refused, Why: windows},
		Rule{Field: "IOMaximumBandwidth", Verdict: Refused, Why: windows},
	)
	for i := range rules {
		rules[i].Field = prefix + rules[i].Field
	}
	return rules
}

// deviceRules are those of the devices that a container is created with.
func deviceRules() []Rule {
	h := "HostConfig."
	return []Rule{
		{Field: h + "Devices", Verdict: Partly, Why: "devices of the host are not passed to the machine, whose own are " + machinesDevices(), Allow: allowDevices},
		{Field: h + "DeviceCgroupRules", Verdict: Partly, Why: "a rule is TYPE MAJOR:MINOR ACCESS, as in 'c 10:229 rwm'", Allow: allowDeviceRules},
		{Field: h + "DeviceRequests", Verdict: Refused, Why: "devices of the host are not passed to the machine"},
	}
}

func mountRules() []Rule {
	m := "HostConfig.Mounts."
	rules := honored(m+"VolumeOptions.Subpath", m+"ImageOptions.Subpath", m+"Source", m+"Target", m+"ReadOnly", m+"BindOptions.NonRecursive", m+"BindOptions.CreateMountpoint", m+"Consistency",
		m+"VolumeOptions.NoCopy", m+"VolumeOptions.Labels", m+"TmpfsOptions.SizeBytes", m+"TmpfsOptions.Mode", m+"TmpfsOptions.Options")
	return append(rules,
		Rule{Field: m + "Type", Verdict: Partly, Why: "the types of mounts are bind, volume, tmpfs and image", Allow: oneOf(mount.TypeBind, mount.TypeVolume, mount.TypeTmpfs, mount.TypeImage)},
		Rule{Field: m + "BindOptions.Propagation", Verdict: Partly, Why: "mounts do not propagate between host and guest, the mode is rprivate", Allow: oneOf(mount.PropagationRPrivate, mount.PropagationPrivate)},
		Rule{Field: m + "BindOptions.ReadOnlyNonRecursive", Verdict: Refused, Why: "a read-only share is read-only all the way down"},
		Rule{Field: m + "BindOptions.ReadOnlyForceRecursive", Verdict: Harmless, Why: "a read-only share is read-only all the way down"},
		Rule{Field: m + "VolumeOptions.DriverConfig.Name", Verdict: Partly, Why: "the volume driver is local", Allow: oneOf("local")},
		Rule{Field: m + "VolumeOptions.DriverConfig.Options", Verdict: Partly, Why: "there are type=ext4 with size, type=directory, and o=bind with device", Allow: func(any) bool { return true }},
		Rule{Field: m + "ClusterOptions", Verdict: Refused, Why: "there is no swarm"},
	)
}

// endpointRules are those of a container's settings on a network.
func endpointRules(e string) []Rule {
	output := "an answer of the daemon, ignored in requests as dockerd does"
	rules := honored(e+"MacAddress", e+"Aliases", e+"GwPriority", e+"IPAMConfig.IPv4Address")
	rules = append(rules,
		Rule{Field: e + "IPAMConfig.IPv6Address", Verdict: Refused, Why: "byre's networks carry IPv4 only"},
		Rule{Field: e + "IPAMConfig.LinkLocalIPs", Verdict: Refused, Why: "a container has one address, and link-local ones are reached from no network"},
		Rule{Field: e + "Links", Verdict: Refused, Why: "links are deprecated, containers of a network find each other by name"},
		Rule{Field: e + "DriverOpts", Verdict: Refused, Why: "byre's networks have no options for one container"},
	)
	for _, f := range []string{
		"NetworkID", "EndpointID", "Gateway", "IPAddress", "IPPrefixLen", "IPv6Gateway",
		"GlobalIPv6Address", "GlobalIPv6PrefixLen", "DNSNames",
	} {
		rules = append(rules, Rule{Field: e + f, Verdict: Harmless, Why: output})
	}
	return rules
}

// oneOf allows the values given.
func oneOf[T ~string](values ...T) func(any) bool {
	return func(v any) bool {
		s := asString(v)
		return slices.ContainsFunc(values, func(ok T) bool { return strings.EqualFold(string(ok), s) })
	}
}

func asString(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case container.NetworkMode:
		return string(v)
	case container.UsernsMode:
		return string(v)
	case container.Isolation:
		return string(v)
	case mount.Type:
		return string(v)
	case mount.Propagation:
		return string(v)
	}
	return "\x00"
}

func allowNetworkMode(v any) bool {
	mode, ok := v.(container.NetworkMode)
	return ok && !strings.HasPrefix(string(mode), "ns:")
}

func allowIpcMode(v any) bool {
	mode, ok := v.(container.IpcMode)
	return ok && (mode.IsPrivate() || mode.IsNone() || mode.IsShareable() || mode.IsContainer())
}

func isContainerPidMode(v any) bool {
	mode, ok := v.(container.PidMode)
	return ok && mode.IsContainer()
}

func allowStorage(v any) bool {
	options, ok := v.(map[string]string)
	_, err := StorageSize(options)
	return ok && err == nil
}

// StorageSize returns how many bytes a container may write to its writable
// layer, 0 for the usual.
func StorageSize(options map[string]string) (size int64, err error) {
	for name, value := range options {
		if !strings.EqualFold(name, "size") {
			return 0, fmt.Errorf("storage option %s is not known", name)
		}
		size, err = units.RAMInBytes(value)
		if err == nil && (size < disk.MinScratch || size > disk.MaxScratch) {
			err = disk.ErrSize
		}
		if err != nil {
			return 0, fmt.Errorf("storage option size=%s: %w", value, err)
		}
	}
	return size, nil
}

func isMinusOne(v any) bool {
	p, ok := v.(*int64)
	return ok && p != nil && *p == -1
}

func allowLogOptions(v any) bool {
	options, ok := v.(map[string]string)
	for name, value := range options {
		ok = ok && (name == "max-size" || name == "max-file" || name == "compress" && value == "false")
	}
	return ok
}

func allowAnnotations(v any) bool {
	annotations, ok := v.(map[string]string)
	for name := range annotations {
		ok = ok && !strings.HasPrefix(name, "dev.byre.") && name != "io.containerd.runc.v2.group" && name != "io.kubernetes.cri.sandbox-id"
	}
	return ok
}

func allowGroups(v any) bool {
	groups, ok := v.([]string)
	return ok && !slices.ContainsFunc(groups, func(g string) bool {
		return g == "" || strings.ContainsAny(g, ",:\n\x00")
	})
}
