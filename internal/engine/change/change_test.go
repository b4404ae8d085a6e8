// SPDX-License-Identifier: Apache-2.0

package change_test

import (
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"byre.dev/byre/internal/engine/change"
)

func TestChangesAreAppliedAsADockerfileWould(t *testing.T) {
	base := container.Config{
		Env: []string{"PATH=/bin", "A=1"}, Cmd: []string{"old"}, WorkingDir: "/srv", Labels: map[string]string{"x": "y"},
	}
	for _, c := range []struct {
		name  string
		lines []string
		want  func(*container.Config)
	}{
		{"nothing", nil, func(*container.Config) {}},
		{"env replaces and expands", []string{"ENV A=2 B=${PATH}:/sbin"}, func(c *container.Config) {
			c.Env = []string{"PATH=/bin", "A=2", "B=/bin:/sbin"}
		}},
		{"labels are added", []string{`LABEL a="b c"`}, func(c *container.Config) { c.Labels = map[string]string{"x": "y", "a": "b c"} }},
		{"a command in brackets is taken as it is", []string{`CMD ["a", "b c"]`}, func(c *container.Config) { c.Cmd = []string{"a", "b c"} }},
		{"a command without is the shell's", []string{`CMD a b`}, func(c *container.Config) { c.Cmd = []string{"/bin/sh", "-c", "a b"} }},
		{"an entrypoint takes the old command away", []string{`ENTRYPOINT ["e"]`}, func(c *container.Config) {
			c.Cmd, c.Entrypoint = nil, []string{"e"}
		}},
		{"but not one of the same changes", []string{`CMD ["c"]`, `ENTRYPOINT ["e"]`}, func(c *container.Config) {
			c.Cmd, c.Entrypoint = []string{"c"}, []string{"e"}
		}},
		{"a relative directory goes on from the old one", []string{"WORKDIR sub"}, func(c *container.Config) { c.WorkingDir = "/srv/sub" }},
		{"ranges of ports", []string{"EXPOSE 80 90-91/udp"}, func(c *container.Config) {
			c.ExposedPorts = network.PortSet{
				network.MustParsePort("80/tcp"): {}, network.MustParsePort("90/udp"): {}, network.MustParsePort("91/udp"): {},
			}
		}},
		{"the rest", []string{"user 1:2", "STOPSIGNAL SIGINT", "VOLUME /data", "ONBUILD RUN true", "HEALTHCHECK --interval=3s CMD true"},
			func(c *container.Config) {
				c.User, c.StopSignal, c.OnBuild = "1:2", "SIGINT", []string{"RUN true"}
				c.Volumes = map[string]struct{}{"/data": {}}
				c.Healthcheck = &container.HealthConfig{Test: []string{"CMD-SHELL", "true"}, Interval: 3 * time.Second}
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := base
			c.want(&want)
			got, err := change.Apply(base, c.lines)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, got, cmpopts.EquateComparable(network.Port{}), cmpopts.EquateEmpty()); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

func TestInstructionsThatBuildAreRefusedByName(t *testing.T) {
	for _, line := range []string{"RUN true", "COPY a b", "FROM x", "NONSENSE", "EXPOSE many", "WORKDIR"} {
		_, err := change.Apply(container.Config{}, []string{line})
		if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), strings.Fields(line)[0]) {
			t.Errorf("%s: %v, want a refusal that names it", line, err)
		}
	}
}

func TestChangesLeaveTheirBaseAlone(t *testing.T) {
	base := container.Config{Env: []string{"A=1"}, Labels: map[string]string{}}
	if _, err := change.Apply(base, []string{"ENV A=2", "LABEL l=m"}); err != nil {
		t.Fatal(err)
	}
	if base.Env[0] != "A=1" || len(base.Labels) != 0 {
		t.Errorf("the base became %v", base)
	}
}
