// SPDX-License-Identifier: Apache-2.0

package hcs_test

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"byre.dev/byre/internal/vm/hcs"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares a document with testdata/<name>.json.
func golden(t *testing.T, name string, doc any) {
	t.Helper()
	got, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	path := filepath.Join("testdata", name+".json")
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func small() hcs.Spec {
	return hcs.Spec{
		Owner: "byre", Kernel: `C:\byre\guest\bzImage`, Initrd: `C:\byre\guest\initrd`,
		Cmdline: "console=ttyS0 quiet panic=-1", Memory: 1 << 30, CPUs: 2,
	}
}

func TestDocumentOfASmallMachine(t *testing.T) {
	doc, err := hcs.Document(small())
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "small", doc)
}

func TestDocumentOfAFullMachine(t *testing.T) {
	s := small()
	s.Memory = 3<<30 + 1
	s.CPUs = 8
	s.ConsolePipe = `\\.\pipe\byre-console-1`
	s.UserSID = "S-1-5-21-1004336348-1177238915-682003330-1001"
	doc, err := hcs.Document(s)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "full", doc)
}

func TestRequests(t *testing.T) {
	attach, err := hcs.AttachDisk(63, `C:\byre\layers\1.vhd`, true)
	if err != nil {
		t.Fatal(err)
	}
	detach, err := hcs.DetachDisk(63)
	if err != nil {
		t.Fatal(err)
	}
	n := hcs.NIC{ID: "5f1d1a2c-8c2b-4b55-9d0f-2f4b7f1f0a11", Endpoint: "0c9c2d1e-3b55-4f6a-8a8e-9f1c0d2e3f40", MAC: "00-15-5D-00-00-01"}
	add, err := hcs.AttachNIC(n)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "requests", map[string]hcs.ModifySettingRequest{
		"attach disk": attach, "detach disk": detach, "set memory": hcs.SetMemory(2<<30 + 5<<20),
		"attach NIC": add, "detach NIC": hcs.DetachNIC(n),
	})
}

func TestDiskBeyondTheControllerIsRefused(t *testing.T) {
	if _, err := hcs.AttachDisk(hcs.MaxDisks, "x.vhd", false); !errors.Is(err, errdefs.ErrResourceExhausted) {
		t.Errorf("AttachDisk = %v, want resource exhausted", err)
	}
	if _, err := hcs.DetachDisk(hcs.MaxDisks); !errors.Is(err, errdefs.ErrResourceExhausted) {
		t.Errorf("DetachDisk = %v, want resource exhausted", err)
	}
}

func TestCardWithoutAnEndpointIsRefused(t *testing.T) {
	if _, err := hcs.AttachNIC(hcs.NIC{ID: "x"}); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("AttachNIC = %v, want invalid argument", err)
	}
}

func TestSpecsThatHCSWouldRefuse(t *testing.T) {
	for name, spoil := range map[string]func(*hcs.Spec){
		"no kernel":     func(s *hcs.Spec) { s.Kernel = "" },
		"no initrd":     func(s *hcs.Spec) { s.Initrd = "" },
		"no processor":  func(s *hcs.Spec) { s.CPUs = 0 },
		"no memory":     func(s *hcs.Spec) { s.Memory = 0 },
		"everybody":     func(s *hcs.Spec) { s.UserSID = "WD" },
		"two grants":    func(s *hcs.Spec) { s.UserSID = "S-1-5-18)(A;;FA;;;WD" },
		"trailing line": func(s *hcs.Spec) { s.UserSID = "S-1-5-18\n" },
	} {
		t.Run(name, func(t *testing.T) {
			s := small()
			spoil(&s)
			if _, err := hcs.Document(s); !errors.Is(err, errdefs.ErrInvalidArgument) {
				t.Errorf("Document = %v, want invalid argument", err)
			}
		})
	}
}
