// SPDX-License-Identifier: Apache-2.0

package request

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
)

// paths lists the fields of a type down to what has a rule, or to leaves.
func paths(t reflect.Type, prefix string, rules map[string]Rule) []string {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map || t.Kind() == reflect.Array {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || t.PkgPath() == "net/netip" {
		return []string{prefix}
	}
	var all []string
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			all = append(all, paths(f.Type, prefix, rules)...)
			continue
		}
		path := join(prefix, jsonName(f))
		if _, ok := rules[path]; ok {
			all = append(all, path)
			continue
		}
		all = append(all, paths(f.Type, path, rules)...)
	}
	return all
}

func TestEveryFieldOfARequestHasARule(t *testing.T) {
	for _, body := range Bodies() {
		rules := index(body.Rules)
		if len(rules) != len(body.Rules) {
			t.Errorf("%s: a field has two rules", body.To)
		}
		fields := paths(body.Type, "", rules)
		for _, f := range fields {
			if _, ok := rules[f]; !ok {
				t.Errorf("%s: field %s has no rule", body.To, f)
			}
		}
		for name := range rules {
			// An empty struct has no fields to be walked into.
			if !slices.Contains(fields, name) {
				t.Errorf("%s: rule for %s, which is no field", body.To, name)
			}
		}
		for _, r := range body.Beyond {
			if _, ok := fieldOf(body.Type, r.Field); ok {
				t.Errorf("%s: %s is a field, not beyond", body.To, r.Field)
			}
		}
	}
}

// What is honored is honored field by field: a struct that has a rule as a
// whole could get a field that nobody sees.
func TestNoRuleHonorsAWholeStruct(t *testing.T) {
	for _, body := range Bodies() {
		for path, f := range structs(body.Type, "") {
			if r, ok := index(body.Rules)[path]; ok && r.Verdict == Honored {
				t.Errorf("%s: %s is honored as a whole, but is a %s", body.To, path, f)
			}
		}
	}
}

// structs lists the fields that have fields, at any depth.
func structs(t reflect.Type, prefix string) map[string]reflect.Type {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	all := map[string]reflect.Type{}
	if t.Kind() != reflect.Struct || t.NumField() == 0 || readsItself(t) {
		return all
	}
	if prefix != "" {
		all[prefix] = t
	}
	for i := range t.NumField() {
		f := t.Field(i)
		at := prefix
		if !f.Anonymous {
			at = join(prefix, jsonName(f))
		}
		for path, inner := range structs(f.Type, at) {
			all[path] = inner
		}
	}
	return all
}

func check(t *testing.T, body Body, text string) error {
	t.Helper()
	v := reflect.New(body.Type)
	if err := json.Unmarshal([]byte(text), v.Interface()); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return body.Check(v.Interface(), []byte(text))
}

func TestFieldsThatNobodyKnowsAreRefusedAtAnyDepth(t *testing.T) {
	for _, tc := range []struct {
		body       Body
		text, want string
	}{
		{ContainerUpdate(), `{"Frobnicate":1}`, "Frobnicate"},
		{ContainerUpdate(), `{"KernelMemory":1}`, "KernelMemory"},
		{ContainerUpdate(), `{"RestartPolicy":{"Name":"always","Delay":3}}`, "RestartPolicy.Delay"},
		{Commit(), `{"PortSpecs":["80"]}`, "PortSpecs"},
		{ExecCreate(), `{"Cmd":["a"],"Umask":7}`, "Umask"},
		{ExecStart(), `{"Stdout":true}`, "Stdout"},
		{NetworkCreate(), `{"Name":"a","IPAM":{"Config":[{"Subnet":"10.9.0.0/16"},{"VLAN":3}]}}`, "IPAM.Config.VLAN"},
		{NetworkConnect(), `{"Container":"a","EndpointConfig":{"IPAMConfig":{"IPv5Address":"x"}}}`, "EndpointConfig.IPAMConfig.IPv5Address"},
		{NetworkDisconnect(), `{"Container":"a","Gently":true}`, "Gently"},
		{VolumeCreate(), `{"Name":"a","Size":5}`, "Size"},
		{VolumeCreate(), `{"Name":"a","ClusterVolumeSpec":{"Group":"x"}}`, "ClusterVolumeSpec"},
		{VolumeCreate(), `{"Name":"a","Driver":"nfs"}`, "Driver"},
		{Login(), `{"username":"a","otp":"1"}`, "otp"},
		{ContainerCreate(), `{"Image":"a","HostConfig":{"Mounts":[{"Type":"bind","BindOptions":{"Selinux":"z"}}]}}`, "HostConfig.Mounts.BindOptions.Selinux"},
		{ContainerCreate(), `{"Image":"a","HostConfig":{"LogConfig":{"Type":"local","Rotate":1}}}`, "HostConfig.LogConfig.Rotate"},
		{ContainerCreate(), `{"Image":"a","HostConfig":{"PortBindings":{"80/tcp":[{"HostPorts":"1-2"}]}}}`, "HostConfig.PortBindings.HostPorts"},
		{ContainerCreate(), `{"Image":"a","healthcheck":{"test":["NONE"],"Jitter":3}}`, "Healthcheck.Jitter"},
		{ContainerCreate(), `{"Image":"a","NetworkingConfig":{"EndpointsConfig":{"app":{"Priority":3}}}}`, "NetworkingConfig.EndpointsConfig.Priority"},
	} {
		err := check(t, tc.body, tc.text)
		if err == nil || !strings.Contains(err.Error(), "byre does not support "+tc.want+":") || !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: error %v, want a refusal that names %s", tc.text, err, tc.want)
		}
	}
}

func TestWhatClientsSendBesidesIsTaken(t *testing.T) {
	for _, tc := range []struct {
		client string
		body   Body
		text   string
	}{
		{"docker 28", NetworkCreate(), `{"Name":"a","CheckDuplicate":true,"Driver":"bridge","Scope":"","EnableIPv6":false,"IPAM":{"Driver":"default","Options":{},"Config":[]},"Internal":false,"Attachable":false,"Ingress":false,"ConfigOnly":false,"ConfigFrom":null,"Options":{},"Labels":{}}`},
		{"docker 28", ExecCreate(), `{"User":"","Privileged":false,"Tty":true,"ConsoleSize":[24,80],"AttachStdin":true,"AttachStderr":true,"AttachStdout":true,"Detach":true,"DetachKeys":"","Env":null,"WorkingDir":"","Cmd":["sh"]}`},
		{"docker 28", Login(), `{"username":"u","password":"p","email":"u@example.com","serveraddress":"https://index.docker.io/v1/"}`},
		{"docker 28", NetworkDisconnect(), `{"Container":"a","Force":true}`},
		{"docker 28", Commit(), `null`},
		{"docker-py", ExecCreate(), `{"Container":"abc","User":"","Privileged":false,"Tty":false,"AttachStdin":false,"AttachStdout":true,"AttachStderr":true,"Cmd":["a"],"Env":null,"detachKeys":"ctrl-a"}`},
		{"docker-py", ContainerCreate(), `{"Image":"a","Runtime":null,"MacAddress":null,"HostConfig":{"NetworkMode":"default","LogConfig":{"Type":"json-file","Config":{}}}}`},
		{"docker-java", ExecCreate(), `{"containerId":"abc","Cmd":["a"],"AttachStdout":true}`},
		{"docker-java", ContainerCreate(), `{"name":"db","authConfig":{"username":"u"},"Image":"a","PortSpecs":null,"HostConfig":{"KernelMemory":null,"LxcConf":null,"DiskQuota":null}}`},
		{"docker-java", Commit(), `{"containerId":"abc","repository":"r","tag":"t","message":"m","Env":["A=b"],"Hostname":"x","PortSpecs":null}`},
		{"dockerode", ExecStart(), `{"hijack":true,"stdin":true,"Detach":false,"Tty":true,"abortSignal":{}}`},
		{"dockerode", ContainerCreate(), `{"name":"db","platform":"linux/amd64","Image":"a","_query":null}`},
		{"a client of API 1.43", ContainerCreate(), `{"Image":"a","MacAddress":"02:42:ac:11:00:02"}`},
	} {
		if err := check(t, tc.body, tc.text); err != nil {
			t.Errorf("%s sends %s to %s: %v", tc.client, tc.text, tc.body.To, err)
		}
	}
}

func TestCheckNetworkNamesTheFieldItRefuses(t *testing.T) {
	for body, want := range map[string]string{
		`{"Name":"a","Driver":"overlay"}`: "Driver",
		`{"Name":"a","EnableIPv6":true}`:  "EnableIPv6",
		`{"Name":"a","EnableIPv4":false}`: "EnableIPv4",
		`{"Name":"a","IPAM":{"Config":[{"Subnet":"10.9.0.0/16","IPRange":"10.9.1.0/24"}]}}`:    "",
		`{"Name":"a","Options":{"com.docker.network.unknown":"x"}}`:                            "Options",
		`{"Name":"a","Options":{"foo":"bar"}}`:                                                 "",
		`{"Name":"a","IPAM":{"Config":[{"AuxiliaryAddresses":{"x":"10.9.0.7"}}]}}`:             "IPAM.Config.AuxiliaryAddresses",
		`{"Name":"a","Options":{"com.docker.network.bridge.name":"br0"}}`:                      "Options",
		`{"Name":"a","Options":{"com.docker.network.bridge.enable_icc":"false"}}`:              "Options",
		`{"Name":"a","ConfigFrom":{"Network":"b"}}`:                                            "ConfigFrom.Network",
		`{"Name":"a","Driver":"bridge","EnableIPv6":false,"IPAM":{"Driver":"default"}}`:        "",
		`{"Name":"a","Options":{"com.docker.network.driver.mtu":"1450"},"Internal":true}`:      "",
		`{"Name":"a","Options":{"com.docker.network.bridge.enable_icc":"true"},"Labels":null}`: "",
	} {
		err := check(t, NetworkCreate(), body)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), "byre does not support "+want+":") {
			t.Errorf("%s: error %v, want a refusal that names %q", body, err, want)
		}
	}
}

func TestRulesThatDoNotHonorSayWhy(t *testing.T) {
	var all []Rule
	for _, body := range Bodies() {
		all = append(append(all, body.Rules...), body.Beyond...)
	}
	for _, r := range append(all, BuildRules()...) {
		if r.Verdict != Honored && r.Why == "" {
			t.Errorf("%s: %s without a reason", r.Field, r.Verdict)
		}
		if (r.Verdict == Partly) != (r.Allow != nil) {
			t.Errorf("%s: %s and Allow do not go together", r.Field, r.Verdict)
		}
	}
}

func TestModesThatNobodyKnowsAreRefusedInDockersWords(t *testing.T) {
	for want, host := range map[string]container.HostConfig{
		"invalid PID mode: container": {PidMode: "container"},
		"invalid IPC mode: no":        {IpcMode: "no"},
		"invalid UTS mode: no":        {UTSMode: "no"},
	} {
		err := ContainerCreate().Check(&container.CreateRequest{Config: &container.Config{Image: "a"}, HostConfig: &host}, []byte("{}"))
		if !errdefs.IsInvalidArgument(err) || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}

func TestCheckNamesTheFieldItRefuses(t *testing.T) {
	for _, tc := range []struct{ body, want string }{
		{`{"Image":"a","HostConfig":{"PidMode":"host"}}`, "HostConfig.PidMode"},
		{`{"Image":"a","HostConfig":{"UTSMode":"host"}}`, "HostConfig.UTSMode"},
		{`{"Image":"a","HostConfig":{"Annotations":{"io.containerd.runc.v2.group":"x"}}}`, "HostConfig.Annotations"},
		{`{"Image":"a","HostConfig":{"BlkioWeight":10}}`, "HostConfig.BlkioWeight"},
		{`{"Image":"a","HostConfig":{"Devices":[{"PathOnHost":"/dev/sda"}]}}`, "HostConfig.Devices"},
		{`{"Image":"a","HostConfig":{"Devices":[{"PathOnHost":"/dev/fuse","CgroupPermissions":"x"}]}}`, "HostConfig.Devices"},
		{`{"Image":"a","HostConfig":{"Devices":[{"PathOnHost":"/dev/fuse","PathInContainer":"fuse"}]}}`, "HostConfig.Devices"},
		{`{"Image":"a","HostConfig":{"DeviceCgroupRules":["c 10:229"]}}`, "HostConfig.DeviceCgroupRules"},
		{`{"Image":"a","HostConfig":{"DeviceCgroupRules":["c 99999999999:1 r"]}}`, "HostConfig.DeviceCgroupRules"},
		{`{"Image":"a","HostConfig":{"DeviceRequests":[{"Count":-1}]}}`, "HostConfig.DeviceRequests"},
		{`{"Image":"a","HostConfig":{"IpcMode":"host"}}`, "HostConfig.IpcMode"},
		{`{"Image":"a","HostConfig":{"UsernsMode":"keep-id"}}`, "HostConfig.UsernsMode"},
		{`{"Image":"a","HostConfig":{"Cgroup":"container:b"}}`, "HostConfig.Cgroup"},
		{`{"Image":"a","HostConfig":{"BlkioDeviceReadBps":[{"Path":"/dev/sda","Rate":1}]}}`, "HostConfig.BlkioDeviceReadBps"},
		{`{"Image":"a","HostConfig":{"LogConfig":{"Type":"syslog"}}}`, "HostConfig.LogConfig.Type"},
		{`{"Image":"a","HostConfig":{"LogConfig":{"Type":"json-file","Config":{"compress":"true"}}}}`, "HostConfig.LogConfig.Config"},
		{`{"Image":"a","HostConfig":{"MemorySwappiness":60}}`, "HostConfig.MemorySwappiness"},
		{`{"Image":"a","HostConfig":{"StorageOpt":{"inodes":"9"}}}`, "HostConfig.StorageOpt"},
		{`{"Image":"a","HostConfig":{"StorageOpt":{"size":"many"}}}`, "HostConfig.StorageOpt"},
		{`{"Image":"a","HostConfig":{"StorageOpt":{"size":"0"}}}`, "HostConfig.StorageOpt"},
		{`{"Image":"a","HostConfig":{"StorageOpt":{"size":"-1G"}}}`, "HostConfig.StorageOpt"},
		{`{"Image":"a","HostConfig":{"StorageOpt":{"size":"1m"}}}`, "HostConfig.StorageOpt"},
		{`{"Image":"a","HostConfig":{"StorageOpt":{"size":"9t"}}}`, "HostConfig.StorageOpt"},
		{`{"Image":"a","HostConfig":{"Mounts":[{"Type":"cluster","Source":"x","Target":"/x"}]}}`, "HostConfig.Mounts.Type"},
		{`{"Image":"a","HostConfig":{"GroupAdd":["docker,root"]}}`, "HostConfig.GroupAdd"},
		{`{"Image":"a","HostConfig":{"KernelMemory":4096}}`, "HostConfig.KernelMemory"},
		{`{"Image":"a","Frobnicate":1}`, "Frobnicate"},
		{`{"Image":"a","NetworkingConfig":{"EndpointsConfig":{"bridge":{"IPAMConfig":{"IPv6Address":"fd00::9"}}}}}`, "NetworkingConfig.EndpointsConfig.IPAMConfig.IPv6Address"},
		{`{"Image":"a","HostConfig":{"NetworkMode":"ns:/proc/1/ns/net"}}`, "HostConfig.NetworkMode"},
	} {
		err := check(t, ContainerCreate(), tc.body)
		if err == nil || !strings.Contains(err.Error(), "byre does not support "+tc.want+":") || !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: error %v, want a refusal that names %s", tc.body, err, tc.want)
		}
	}
}

// What docker 28.2.2 sends for "docker run busybox true".
const dockerRun = `{"Hostname":"","Domainname":"","User":"","AttachStdin":false,"AttachStdout":true,"AttachStderr":true,"Tty":false,
"OpenStdin":false,"StdinOnce":false,"Env":null,"Cmd":["true"],"Image":"busybox","Volumes":{},"WorkingDir":"","Entrypoint":null,
"OnBuild":null,"Labels":{},"HostConfig":{"Binds":null,"ContainerIDFile":"","LogConfig":{"Type":"","Config":{}},"NetworkMode":"default",
"PortBindings":{},"RestartPolicy":{"Name":"no","MaximumRetryCount":0},"AutoRemove":false,"VolumeDriver":"","VolumesFrom":null,
"ConsoleSize":[24,80],"CapAdd":null,"CapDrop":null,"CgroupnsMode":"","Dns":[],"DnsOptions":[],"DnsSearch":[],"ExtraHosts":null,
"GroupAdd":null,"IpcMode":"","Cgroup":"","Links":null,"OomScoreAdj":0,"PidMode":"","Privileged":false,"PublishAllPorts":false,
"ReadonlyRootfs":false,"SecurityOpt":null,"UTSMode":"","UsernsMode":"","ShmSize":0,"Isolation":"","CpuShares":0,"Memory":0,
"NanoCpus":0,"CgroupParent":"","BlkioWeight":0,"BlkioWeightDevice":[],"BlkioDeviceReadBps":[],"BlkioDeviceWriteBps":[],
"BlkioDeviceReadIOps":[],"BlkioDeviceWriteIOps":[],"CpuPeriod":0,"CpuQuota":0,"CpuRealtimePeriod":0,"CpuRealtimeRuntime":0,
"CpusetCpus":"","CpusetMems":"","Devices":[],"DeviceCgroupRules":null,"DeviceRequests":null,"MemoryReservation":0,"MemorySwap":0,
"MemorySwappiness":-1,"OomKillDisable":false,"PidsLimit":0,"Ulimits":[],"CpuCount":0,"CpuPercent":0,"IOMaximumIOps":0,
"IOMaximumBandwidth":0,"MaskedPaths":null,"ReadonlyPaths":null},"NetworkingConfig":{"EndpointsConfig":{"default":{"IPAMConfig":null,
"Links":null,"Aliases":null,"MacAddress":"","DriverOpts":null,"GwPriority":0,"NetworkID":"","EndpointID":"","Gateway":"","IPAddress":"",
"IPPrefixLen":0,"IPv6Gateway":"","GlobalIPv6Address":"","GlobalIPv6PrefixLen":0,"DNSNames":null}}}}`

func TestCheckTakesSettingsThatAreNull(t *testing.T) {
	body := `{"Image":"a","NetworkingConfig":{"EndpointsConfig":{"app":null}}}`
	if err := check(t, ContainerCreate(), body); err != nil {
		t.Error(err)
	}
}

func TestCheckAcceptsWhatDockerSendsForAPlainRun(t *testing.T) {
	if err := check(t, ContainerCreate(), dockerRun); err != nil {
		t.Fatal(err)
	}
}

func TestStorageSizeIsReadAsDockerReadsIt(t *testing.T) {
	for text, want := range map[string]int64{"1G": 1 << 30, "512m": 512 << 20, "1073741824": 1 << 30} {
		if got, err := StorageSize(map[string]string{"size": text}); err != nil || got != want {
			t.Errorf("size=%s: %d, %v", text, got, err)
		}
	}
	if got, err := StorageSize(nil); err != nil || got != 0 {
		t.Errorf("no option: %d, %v", got, err)
	}
}
