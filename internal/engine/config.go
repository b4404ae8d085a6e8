// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	enginenet "byre.dev/byre/internal/engine/network"
	"byre.dev/byre/internal/engine/spec"
)

// mergeConfig fills in from the image what the request leaves open, as dockerd
// does: the image's command belongs to the image's entrypoint.
func mergeConfig(req *container.Config, img *dockerspec.DockerOCIImageConfig) *container.Config {
	c := *req
	if c.User == "" {
		c.User = img.User
	}
	if c.WorkingDir == "" {
		c.WorkingDir = img.WorkingDir
	}
	if c.StopSignal == "" {
		c.StopSignal = img.StopSignal
	}
	if len(c.Entrypoint) == 0 {
		if len(c.Cmd) == 0 {
			c.Cmd = slices.Clone(img.Cmd)
		}
		// An entrypoint of one empty string is how a client takes the
		// image's away.
		if c.Entrypoint == nil {
			c.Entrypoint = slices.Clone(img.Entrypoint)
		}
	}
	if len(c.Entrypoint) == 1 && c.Entrypoint[0] == "" {
		c.Entrypoint = nil
	}
	if len(c.Shell) == 0 {
		c.Shell = slices.Clone(img.Shell)
	}
	c.Env = mergeImageEnv(img.Env, c.Env)
	c.Labels = mergeMaps(img.Labels, c.Labels)
	c.Volumes = mergeMaps(img.Volumes, c.Volumes)
	c.ExposedPorts = mergeExposed(img.ExposedPorts, c.ExposedPorts)
	c.Healthcheck = mergeHealth(img.Healthcheck, c.Healthcheck)
	return &c
}

// mergeImageEnv puts the image's variables behind the request's, without those
// that the request has.
func mergeImageEnv(img, req []string) []string {
	merged := slices.Clone(req)
	for _, entry := range img {
		name, _, _ := strings.Cut(entry, "=")
		if !slices.ContainsFunc(req, func(r string) bool { n, _, _ := strings.Cut(r, "="); return n == name }) {
			merged = append(merged, entry)
		}
	}
	return merged
}

func mergeMaps[V any](img, req map[string]V) map[string]V {
	merged := maps.Clone(img)
	if merged == nil {
		merged = map[string]V{}
	}
	maps.Copy(merged, req)
	return merged
}

func mergeExposed(img map[string]struct{}, req network.PortSet) network.PortSet {
	merged := maps.Clone(req)
	for p := range img {
		port, err := network.ParsePort(p)
		if err != nil {
			continue
		}
		if merged == nil {
			merged = network.PortSet{}
		}
		merged[port] = struct{}{}
	}
	return merged
}

func mergeHealth(img, req *container.HealthConfig) *container.HealthConfig {
	if req == nil || img == nil {
		if req == nil {
			return img
		}
		return req
	}
	h := *req
	if len(h.Test) == 0 {
		h.Test = img.Test
	}
	for _, d := range []struct{ dst, src *time.Duration }{
		{&h.Interval, &img.Interval}, {&h.Timeout, &img.Timeout},
		{&h.StartPeriod, &img.StartPeriod}, {&h.StartInterval, &img.StartInterval},
	} {
		if *d.dst == 0 {
			*d.dst = *d.src
		}
	}
	if h.Retries == 0 {
		h.Retries = img.Retries
	}
	return &h
}

// completeHost fills in the defaults of HostConfig that inspect shows.
func completeHost(rec *Record) error {
	h := rec.Host
	if h.NetworkMode.IsDefault() || h.NetworkMode == "" {
		h.NetworkMode = enginenet.Bridge
	}
	if h.ShmSize == 0 {
		h.ShmSize = spec.DefaultShmSize
	}
	if h.IpcMode == "" {
		h.IpcMode = container.IPCModePrivate
	}
	if h.CgroupnsMode == "" {
		h.CgroupnsMode = container.CgroupnsModePrivate
	}
	if h.LogConfig.Type == "" {
		h.LogConfig.Type = "json-file"
	}
	if h.RestartPolicy.Name == "" {
		h.RestartPolicy.Name = container.RestartPolicyDisabled
	}
	if h.MemorySwap == 0 && h.Memory > 0 {
		h.MemorySwap = 2 * h.Memory
	}
	if h.PidsLimit != nil && *h.PidsLimit <= 0 {
		h.PidsLimit = nil
	}
	if h.MaskedPaths == nil && !h.Privileged {
		h.MaskedPaths = spec.MaskedPaths()
	}
	if h.ReadonlyPaths == nil && !h.Privileged {
		h.ReadonlyPaths = spec.ReadonlyPaths()
	}
	h.Runtime = "io.containerd.byre.v1"
	return nil
}

// checkConfig refuses combinations and values that no start could honour.
func checkConfig(rec *Record) error {
	h := rec.Host
	if err := container.ValidateRestartPolicy(h.RestartPolicy); err != nil {
		return invalid("%v", err)
	}
	if h.AutoRemove && !h.RestartPolicy.IsNone() {
		return invalid("can't create 'AutoRemove' container with restart policy")
	}
	if rec.Config.WorkingDir != "" {
		rec.Config.WorkingDir = path.Clean(rec.Config.WorkingDir)
		if !path.IsAbs(rec.Config.WorkingDir) {
			return invalid("the working directory '%s' is invalid, it needs to be an absolute path", rec.Config.WorkingDir)
		}
	}
	if _, err := parseSignal(rec.Config.StopSignal, sigTerm); err != nil {
		return err
	}
	if _, err := logOptions(h.LogConfig); err != nil {
		return err
	}
	if _, ok := h.Annotations[""]; ok {
		return invalid("invalid Annotations: the empty string is not permitted as an annotation key")
	}
	for _, v := range rec.Config.Env {
		if v == "" || v[0] == '=' {
			return invalid("invalid environment variable: %s", v)
		}
	}
	if err := checkHealth(rec.Config.Healthcheck); err != nil {
		return err
	}
	return checkResources(&h.Resources)
}

// checkHealth refuses what no health check can be run by.
func checkHealth(h *container.HealthConfig) error {
	if h == nil {
		return nil
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"Interval", h.Interval}, {"Timeout", h.Timeout}, {"StartPeriod", h.StartPeriod}, {"StartInterval", h.StartInterval}} {
		if d.value != 0 && d.value < container.MinimumDuration {
			return invalid("%s in Healthcheck cannot be less than %s", d.name, container.MinimumDuration)
		}
	}
	if h.Retries < 0 {
		return invalid("Retries in Healthcheck cannot be negative")
	}
	return nil
}

// minMemory is dockerd's least limit.
const minMemory = 6 << 20

func checkResources(r *container.Resources) error {
	switch {
	case r.Memory != 0 && r.Memory < minMemory:
		return invalid("Minimum memory limit allowed is 6MB")
	case r.MemorySwap > 0 && r.Memory == 0:
		return invalid("You should always set the Memory limit when using Memoryswap limit, see usage")
	case r.MemorySwap > 0 && r.MemorySwap < r.Memory:
		return invalid("Minimum memoryswap limit should be larger than memory limit, see usage")
	case r.MemoryReservation > 0 && r.Memory > 0 && r.Memory < r.MemoryReservation:
		return invalid("Minimum memory limit can not be less than memory reservation limit, see usage")
	case r.CPUShares < 0:
		return invalid("invalid CPU shares (%d): value must be a positive integer", r.CPUShares)
	case r.NanoCPUs < 0:
		return invalid("byre does not support HostConfig.NanoCpus: %d is negative", r.NanoCPUs)
	case r.NanoCPUs > 0 && (r.CPUPeriod > 0 || r.CPUQuota > 0):
		return invalid("Conflicting options: Nano CPUs and CPU Period/Quota cannot both be set")
	case r.CPUPeriod != 0 && (r.CPUPeriod < 1000 || r.CPUPeriod > 1_000_000):
		return invalid("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
	case r.CPUQuota > 0 && r.CPUQuota < 1000:
		return invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)")
	}
	return nil
}
