// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"

	"byre.dev/byre/internal/engine/logs"
	"byre.dev/byre/internal/shimapi"
	"byre.dev/byre/internal/usernet"
)

func TestSignalsAreTheGuestsByNumberAndName(t *testing.T) {
	for s, want := range map[string]syscall.Signal{
		"": 15, "9": 9, "KILL": 9, "SIGKILL": 9, "sigusr1": 10, "SIGCHLD": 17, "RTMIN": 34, "SIGRTMIN+3": 37, "RTMAX-2": 62, "64": 64,
	} {
		if got, err := parseSignal(s, sigTerm); got != want || err != nil {
			t.Errorf("%q: %d, error %v; want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"0", "65", "-9", "NOPE", "RTMIN+31", "SIG"} {
		if _, err := parseSignal(s, sigTerm); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: error %v", s, err)
		}
	}
}

func TestFailedStartsHaveDockersExitCodes(t *testing.T) {
	runc := "rpc error: create container x: runc create: runc create failed: unable to start container process: error during container init: exec: "
	for text, want := range map[string]int{
		runc + `"nosuch": executable file not found in $PATH`: 127,
		runc + `"/x": stat /x: no such file or directory`:     127,
		runc + `"/etc/passwd": permission denied`:             126,
		runc + `"/etc": is a directory`:                       126,
		"boot machine: no kernel":                             128,
	} {
		err, code := startError(errors.New(text), "failed to create task for container: ")
		if code != want {
			t.Errorf("%s: %d, want %d (%v)", text, code, want, err)
		}
		if want != 128 && !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: class of %v", text, err)
		}
	}
}

func TestAUserThatTheImageHasNotIsNamedAndNothingElse(t *testing.T) {
	cause := fmt.Errorf("start exec 1 of container 2: unable to find user x: no matching entries in passwd file: %w", errdefs.ErrInvalidArgument)
	err, _ := startError(cause, "")
	if want := "unable to find user x: no matching entries in passwd file"; err.Error() != want || !errdefs.IsInvalidArgument(err) {
		t.Errorf("%v, want %q, invalid", err, want)
	}
}

func TestRestartPolicies(t *testing.T) {
	for _, tc := range []struct {
		policy         container.RestartPolicyMode
		limit          int
		code, restarts int
		want           bool
	}{
		{"no", 0, 1, 0, false}, {"", 0, 1, 0, false}, {"always", 0, 0, 9, true}, {"unless-stopped", 0, 0, 0, true},
		{"on-failure", 0, 0, 0, false}, {"on-failure", 0, 1, 99, true}, {"on-failure", 3, 1, 2, true}, {"on-failure", 3, 1, 3, false},
	} {
		p := container.RestartPolicy{Name: tc.policy, MaximumRetryCount: tc.limit}
		if got := policyRestarts(p, tc.code, tc.restarts); got != tc.want {
			t.Errorf("%+v: %t", tc, got)
		}
	}
}

func TestTheImagesCommandBelongsToTheImagesEntrypoint(t *testing.T) {
	img := &dockerspec.DockerOCIImageConfig{}
	img.Entrypoint, img.Cmd = []string{"/entry"}, []string{"serve"}
	for _, tc := range []struct {
		entry, cmd         []string
		wantEntry, wantCmd []string
	}{
		{nil, nil, []string{"/entry"}, []string{"serve"}},
		{nil, []string{"x"}, []string{"/entry"}, []string{"x"}},
		{[]string{"/other"}, nil, []string{"/other"}, nil},
		{[]string{""}, []string{"sh"}, nil, []string{"sh"}},
	} {
		got := mergeConfig(&container.Config{Entrypoint: tc.entry, Cmd: tc.cmd}, img)
		if diff := cmp.Diff([][]string{tc.wantEntry, tc.wantCmd}, [][]string{got.Entrypoint, got.Cmd}); diff != "" {
			t.Errorf("%v %v (-want +got):\n%s", tc.entry, tc.cmd, diff)
		}
	}
}

func TestBindsNameTheOwnerOfTheUsersFiles(t *testing.T) {
	e, dir := new(Engine), t.TempDir()
	for mode, want := range map[string][2]uint32{"uid=1000": {1000, 1000}, "ro,uid=7,gid=8": {7, 8}} {
		m, err := (&mounting{Engine: e}).parseBind(dir + ":/b:" + mode)
		if err != nil {
			t.Fatal(err)
		}
		if s := m.settings(false); s == nil || *s.UID != want[0] || *s.GID != want[1] {
			t.Errorf("%s: settings %+v", mode, s)
		}
	}
	for _, mode := range []string{"uid=", "uid=root", "uid=-1", "uid=4294967295", "gid=5", "owner=5"} {
		if _, err := (&mounting{Engine: e}).parseBind(dir + ":/b:" + mode); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: error %v", mode, err)
		}
	}
	if m, err := (&mounting{Engine: e}).parseBind(dir + ":/b"); err != nil || m.settings(false) != nil {
		t.Errorf("settings %v, error %v", m.settings(false), err)
	}
}

func TestAConsistentMountIsNotCachedAndInspectSaysSo(t *testing.T) {
	e, dir := new(Engine), t.TempDir()
	for mode, want := range map[string]string{"": "", "cached": "cached", "ro,delegated": "ro,delegated", "ro,consistent": "ro,consistent,cache=none"} {
		m, err := (&mounting{Engine: e}).parseBind(dir + ":/b:" + mode)
		if err != nil {
			t.Fatal(err)
		}
		none := m.settings(false) != nil && m.settings(false).Cache == "none"
		if none != m.Consistent || none != strings.Contains(want, "none") {
			t.Errorf("%q: settings %+v", mode, m.settings(false))
		}
		if got := mountPoints(Record{Mounts: []Mount{m}}, nil)[0].Mode; got != want {
			t.Errorf("%q: inspect says %q, want %q", mode, got, want)
		}
	}
	m, err := (&mounting{Engine: e}).resolveMount(mount.Mount{Type: mount.TypeBind, Source: dir, Target: "/b", Consistency: mount.ConsistencyFull})
	if err != nil || !m.Consistent {
		t.Errorf("a mount that is to be consistent is %+v, %v", m, err)
	}
	if _, err := (&mounting{Engine: e}).resolveMount(mount.Mount{Type: mount.TypeBind, Source: dir, Target: "/b", Consistency: "odd"}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("an unknown consistency: %v", err)
	}
}

func TestPublishedPortsAreInOrderWithRangesAndAddresses(t *testing.T) {
	r := &Record{Networks: map[string]*network.EndpointSettings{"bridge": nil}, Config: &container.Config{}, Host: &container.HostConfig{PortBindings: network.PortMap{
		network.MustParsePort("80/tcp"):  {{HostPort: "8080"}, {HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: "9000-9005"}},
		network.MustParsePort("53/udp"):  {{}},
		network.MustParsePort("443/tcp"): {{HostPort: "0"}},
	}}}
	got, err := portMappings(r)
	if err != nil {
		t.Fatal(err)
	}
	want := []usernet.PortMapping{
		{Proto: "udp", GuestPort: 53},
		{Proto: "tcp", HostPort: 8080, GuestPort: 80},
		{Proto: "tcp", HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 9000, HostPortEnd: 9005, GuestPort: 80},
		{Proto: "tcp", GuestPort: 443},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	r.Host.PortBindings = network.PortMap{network.MustParsePort("1/sctp"): nil}
	if _, err := portMappings(r); !errdefs.IsInvalidArgument(err) {
		t.Errorf("sctp: error %v", err)
	}
}

func TestStatesHaveDockersWords(t *testing.T) {
	now := time.Now()
	started := now.Add(-2 * time.Hour)
	for _, tc := range []struct {
		s      State
		status container.ContainerState
		text   string
	}{
		{State{}, "created", "Created"},
		{State{Running: true, StartedAt: started}, "running", "Up 2 hours"},
		{State{Running: true, StartedAt: started, Health: &container.Health{Status: "starting"}}, "running", "Up 2 hours (health: starting)"},
		{State{Running: true, Paused: true, StartedAt: started}, "paused", "Up 2 hours (Paused)"},
		{State{Running: true, Restarting: true, StartedAt: started, Finished: started, ExitCode: 1}, "restarting", "Restarting (1) 2 hours ago"},
		{State{StartedAt: started, Finished: started, ExitCode: 3}, "exited", "Exited (3) 2 hours ago"},
		{State{Dead: true}, "dead", "Dead"},
		{State{Removing: true}, "removing", "Removal In Progress"},
	} {
		if got := tc.s.Status(); got != tc.status {
			t.Errorf("%+v: status %s, want %s", tc.s, got, tc.status)
		}
		if got := statusText(tc.s, now); got != tc.text {
			t.Errorf("%+v: %q, want %q", tc.s, got, tc.text)
		}
	}
}

func TestLogOptions(t *testing.T) {
	got, err := logOptions(container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": "10k", "max-file": "3"}})
	if want := (logs.Options{MaxSize: 10_000, MaxFiles: 3}); got != want || err != nil {
		t.Errorf("%+v, error %v", got, err)
	}
	for _, bad := range []map[string]string{{"max-size": "x"}, {"max-file": "0"}, {"max-file": "2"}, {"max-size": "-5"}} {
		if _, err := logOptions(container.LogConfig{Type: "json-file", Config: bad}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%v: error %v", bad, err)
		}
	}
}

func TestLogDriverLocalRotatesByItself(t *testing.T) {
	got, err := logOptions(container.LogConfig{Type: "local", Config: map[string]string{"max-file": "2"}})
	if want := (logs.Options{MaxSize: 20_000_000, MaxFiles: 2}); got != want || err != nil {
		t.Errorf("%+v, error %v; want %+v", got, err, want)
	}
	if _, err := logOptions(container.LogConfig{Type: "none", Config: map[string]string{"max-file": "2"}}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("driver none with options: error %v", err)
	}
}

func TestRecordSurvivesItsFile(t *testing.T) {
	dir := t.TempDir()
	want := Record{
		ID: "id", Name: "n", Created: time.Now().UTC().Round(0), Config: &container.Config{Image: "i", Cmd: []string{"x"}},
		Host:     &container.HostConfig{NetworkMode: "bridge", ShmSize: 5},
		State:    State{Running: true, StartedAt: time.Now().UTC().Round(0)},
		Networks: map[string]*network.EndpointSettings{"bridge": nil},
		Connections: map[string]*Attached{"bridge": {IP: netip.MustParseAddr("172.17.0.2"), Bits: 16, Ports: network.PortMap{
			network.MustParsePort("80/tcp"): {{HostIP: netip.IPv4Unspecified(), HostPort: "8080"}},
		}}},
	}
	if err := writeRecord(dir, want); err != nil {
		t.Fatal(err)
	}
	// A kill leaves the temporary file at most.
	if err := os.WriteFile(filepath.Join(dir, "."+recordFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := readRecord(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got.ports()[network.MustParsePort("80/tcp")][0].HostPort != "8080" || got.State.StartedAt != want.State.StartedAt ||
		got.Config.Cmd[0] != "x" || got.Connections["bridge"].IP != want.Connections["bridge"].IP || isolated(got) {
		t.Errorf("read %+v", got)
	}
}

func TestRecordOfOneNetworkIsTakenOver(t *testing.T) {
	dir := t.TempDir()
	old := `{"ID":"id","Network":"app","Endpoint":{"Aliases":["db"]},"Attached":{"Network":"app","IP":"10.0.0.2","Bits":24,"Ports":{"80/tcp":null}}}`
	if err := os.WriteFile(filepath.Join(dir, recordFile), []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := readRecord(dir)
	if err != nil {
		t.Fatal(err)
	}
	if ep := r.endpoint("app"); ep == nil || ep.Aliases[0] != "db" || r.Connections["app"].Bits != 24 || len(r.ports()) != 1 {
		t.Errorf("read %+v", r)
	}
}

func TestTheWayOutIsTheFirstNetworkOfTheHighestPriority(t *testing.T) {
	leadsOut := func(name string) bool { return name != "internal" }
	for want, networks := range map[string]map[string]*network.EndpointSettings{
		"":  {"internal": nil},
		"a": {"b": nil, "a": nil, "internal": {GwPriority: 9}},
		"b": {"b": {GwPriority: 1}, "a": nil},
		"c": {"c": nil, "d": {GwPriority: -1}, "a": {GwPriority: -1}},
	} {
		if got := wayOut(Record{Networks: networks}, leadsOut); got != want {
			t.Errorf("way out of %v is %q, want %q", networks, got, want)
		}
	}
}

func TestMachineIsToldOfAllNetworks(t *testing.T) {
	at := func(ip, gateway string) *Attached {
		a := &Attached{IP: netip.MustParseAddr(ip), Nameserver: netip.MustParseAddr(ip), Bits: 24, Socket: "/" + ip, MTU: 1500}
		if gateway != "" {
			a.Gateway = netip.MustParseAddr(gateway)
		}
		return a
	}
	r := Record{
		Network: "front", Networks: map[string]*network.EndpointSettings{"back": nil, "front": nil, "db": nil},
		Config: &container.Config{Hostname: "web"}, Host: &container.HostConfig{ExtraHosts: []string{"host:host-gateway"}},
	}
	got, err := machineNetwork(r, map[string]*Attached{"front": at("10.2.0.2", "10.2.0.1"), "back": at("10.1.0.2", "10.1.0.1"), "db": at("10.3.0.2", "")})
	if err != nil {
		t.Fatal(err)
	}
	want := shimapi.Network{
		Links: []shimapi.Link{
			{Socket: "/10.2.0.2", MTU: 1500, Addresses: []string{"10.2.0.2/24"}},
			{Socket: "/10.1.0.2", MTU: 1500, Addresses: []string{"10.1.0.2/24"}, Gateway: "10.1.0.1"},
			{Socket: "/10.3.0.2", MTU: 1500, Addresses: []string{"10.3.0.2/24"}},
		},
		Nameservers: []string{"10.1.0.2"}, Hostname: "web",
		Hosts: []shimapi.Host{
			{Address: "10.1.0.1", Names: []string{"host"}}, {Address: "10.2.0.2", Names: []string{"web"}},
			{Address: "10.1.0.2", Names: []string{"web"}}, {Address: "10.3.0.2", Names: []string{"web"}},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestNamesAreTakenOnce(t *testing.T) {
	c := newCatalog()
	if err := c.reserve("web", "1"); err != nil {
		t.Fatal(err)
	}
	if err := c.reserve("web", "2"); !errdefs.IsConflict(err) {
		t.Fatalf("error %v", err)
	}
	c.release("web", "2")
	if err := c.reserve("web", "2"); !errdefs.IsConflict(err) {
		t.Fatal("a name was given back by who did not have it")
	}
	c.release("web", "1")
	if err := c.reserve("web", "2"); err != nil {
		t.Fatal(err)
	}
}
