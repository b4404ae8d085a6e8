// SPDX-License-Identifier: Apache-2.0

package shimapi_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"byre.dev/byre/internal/shimapi"
)

func TestSettingsSurviveTheirAnnotations(t *testing.T) {
	uid, gid := uint32(999), uint32(998)
	want := shimapi.Settings{
		Network: &shimapi.Network{
			Links: []shimapi.Link{{Socket: "/run/s", MAC: "02:00:00:00:00:01", Addresses: []string{"10.1.0.2/24"}}},
			Hosts: []shimapi.Host{{Address: "10.1.0.3", Names: []string{"db"}}},
		},
		Mounts:    map[string]shimapi.Mount{"/src": {Cache: "none", UID: &uid, GID: &gid}},
		MaxMemory: 8 << 30,
		CPUs:      4,
		NoEtc:     true,
		PID:       "c1",
		IPC:       "c2",
	}
	a := map[string]string{"org.example": "kept"}
	for name, value := range map[string]any{
		shimapi.AnnotationNetwork: want.Network, shimapi.AnnotationMounts: want.Mounts,
		shimapi.AnnotationMaxMemory: want.MaxMemory, shimapi.AnnotationCPUs: want.CPUs,
		shimapi.AnnotationNoEtc: want.NoEtc, shimapi.AnnotationPID: want.PID, shimapi.AnnotationIPC: want.IPC,
	} {
		var err error
		if a, err = shimapi.Annotate(a, name, value); err != nil {
			t.Fatal(err)
		}
	}
	got, err := shimapi.ParseSettings(a)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("settings differ (-want +got):\n%s", d)
	}
}

func TestBadAnnotationsAreRefusedByName(t *testing.T) {
	for name, value := range map[string]string{
		shimapi.AnnotationNetwork:   `{"links":[{"socket":"/s","gateway":"10.0.0.1"},{"socket":"/t","gateway":"10.1.0.1"}]}`,
		shimapi.AnnotationMounts:    `{"/x":{"cache":"mmap"}}`,
		shimapi.AnnotationCPUs:      `-1`,
		shimapi.AnnotationMaxMemory: `-5`,
		"dev.byre.unheard-of":       `1`,
	} {
		_, err := shimapi.ParseSettings(map[string]string{name: value})
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s=%s: error %v, want one that names it", name, value, err)
		}
	}
}

func TestSubpathsLeadDown(t *testing.T) {
	for _, bad := range []string{`{"/x":{"subpath":"../y"}}`, `{"/x":{"subpath":"/y"}}`, `{"/x":{"subpath":"y","socket":true}}`, `{"/x":{"layers":["/l"],"disk":true}}`} {
		if _, err := shimapi.ParseSettings(map[string]string{shimapi.AnnotationMounts: bad}); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}

func TestOneIDWithoutTheOtherIsRefused(t *testing.T) {
	_, err := shimapi.ParseSettings(map[string]string{shimapi.AnnotationMounts: `{"/x":{"uid":5}}`})
	if err == nil || !strings.Contains(err.Error(), "uid and gid") {
		t.Fatalf("error = %v", err)
	}
}

func TestAddressComesFromBootstrap(t *testing.T) {
	got, err := shimapi.Address([]byte(`{"version":3,"address":"unix:///run/s/1","protocol":"ttrpc"}`))
	if err != nil || got != "unix:///run/s/1" {
		t.Fatalf("Address = %q, %v", got, err)
	}
	for _, bad := range []string{``, `{}`, `{"address":"x","protocol":"grpc"}`} {
		if got, err := shimapi.Address([]byte(bad)); err == nil {
			t.Errorf("Address(%q) = %q, want an error", bad, got)
		}
	}
}
