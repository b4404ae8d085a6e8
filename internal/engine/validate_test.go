// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
)

func TestConfigurationsThatNoStartCouldHonourAreRefusedInDockersWords(t *testing.T) {
	for want, change := range map[string]func(*Record){
		"invalid environment variable: =foo":                        func(r *Record) { r.Config.Env = []string{"A=b", "=foo"} },
		"invalid environment variable:":                             func(r *Record) { r.Config.Env = []string{""} },
		"Interval in Healthcheck cannot be less than 1ms":           func(r *Record) { r.Config.Healthcheck.Interval = time.Microsecond },
		"Timeout in Healthcheck cannot be less than 1ms":            func(r *Record) { r.Config.Healthcheck.Timeout = -time.Second },
		"StartPeriod in Healthcheck cannot be less than 1ms":        func(r *Record) { r.Config.Healthcheck.StartPeriod = 1 },
		"StartInterval in Healthcheck cannot be less than 1ms":      func(r *Record) { r.Config.Healthcheck.StartInterval = 1 },
		"Retries in Healthcheck cannot be negative":                 func(r *Record) { r.Config.Healthcheck.Retries = -1 },
		"the empty string is not permitted as an annotation key":    func(r *Record) { r.Host.Annotations = map[string]string{"": "a"} },
		"invalid CPU shares (-1): value must be a positive integer": func(r *Record) { r.Host.CPUShares = -1 },
	} {
		rec := &Record{
			Config: &container.Config{Healthcheck: &container.HealthConfig{Interval: time.Second}},
			Host:   &container.HostConfig{LogConfig: container.LogConfig{Type: "json-file"}},
		}
		if err := checkConfig(rec); err != nil {
			t.Fatal(err)
		}
		change(rec)
		if err := checkConfig(rec); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

func TestATmpfsOfItsOwnOptionIsNoMountPoint(t *testing.T) {
	e := new(Engine)
	rec := Record{Config: &container.Config{}, Host: &container.HostConfig{
		Tmpfs:  map[string]string{"/a": ""},
		Mounts: []mount.Mount{{Type: mount.TypeTmpfs, Target: "/b"}},
	}}
	if err := (&mounting{Engine: e}).resolveMounts(&rec); err != nil {
		t.Fatal(err)
	}
	if got := mountPoints(rec, nil); len(got) != 1 || got[0].Destination != "/b" || len(rec.Mounts) != 2 {
		t.Errorf("mount points %+v of %+v", got, rec.Mounts)
	}
	rec.Host.Tmpfs = map[string]string{"/": ""}
	if err := (&mounting{Engine: e}).resolveMounts(&rec); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "destination can't be '/'") {
		t.Errorf("a tmpfs over everything: %v", err)
	}
}

func TestVolumesFromAContainerThatIsNotThereAreAWrongRequest(t *testing.T) {
	e := &Engine{containers: newCatalog()}
	if _, err := (&mounting{Engine: e}).mountsFrom("nobody"); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("error %v", err)
	}
}
