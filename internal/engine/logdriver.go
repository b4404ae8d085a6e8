// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"maps"
	"slices"
	"strconv"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"

	"byre.dev/byre/internal/engine/logs"
)

// logDefaults has the log drivers with what their options are where the request
// leaves them open. The driver local differs from json-file in these alone: its
// files are nobody's to read but the daemon's.
func logDefaults() map[string]map[string]string {
	return map[string]map[string]string{
		"json-file": {},
		"local":     {"max-size": "20m", "max-file": "5"},
		"none":      nil,
	}
}

// logOptions reads a log driver's options.
func logOptions(cfg container.LogConfig) (logs.Options, error) {
	o := logs.Options{MaxFiles: 1}
	if cfg.Type == "none" {
		if len(cfg.Config) > 0 {
			return o, invalid("byre does not support HostConfig.LogConfig.Config: log driver none has no options")
		}
		return o, nil
	}
	config := maps.Clone(logDefaults()[cfg.Type])
	if config == nil {
		config = map[string]string{}
	}
	maps.Copy(config, cfg.Config)
	if s := config["max-size"]; s != "" && s != "-1" {
		n, err := units.FromHumanSize(s)
		if err != nil || n <= 0 {
			return o, invalid("log option max-size: %q is no positive size", s)
		}
		o.MaxSize = n
	}
	if s := config["max-file"]; s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			return o, invalid("max-file cannot be less than 1")
		}
		if n > 1 && o.MaxSize == 0 {
			return o, invalid("log option max-file needs max-size")
		}
		o.MaxFiles = n
	}
	return o, nil
}

// logDrivers returns the names of the log drivers.
func logDrivers() []string { return slices.Sorted(maps.Keys(logDefaults())) }
