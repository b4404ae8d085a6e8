// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// bootSpec is a machine that boots.
func bootSpec() spec {
	return spec{
		name: "web,1", accel: "tcg", cpus: 2, memory: 1 << 30, hotMemory: 7 << 30,
		kernel: "/usr/share/byre/guest/vmlinux", initrd: "/usr/share/byre/guest/initrd", cmdline: "console=ttyS0 quiet",
		memoryPath: "/dev/fd/6", qmpFD: 3, consoleFD: 4, linkFD: 5, nics: 2,
	}
}

func TestArguments(t *testing.T) {
	clone := bootSpec()
	clone.kernel, clone.initrd, clone.cmdline = "", "", ""
	clone.incoming, clone.private = true, true
	accelerated := bootSpec()
	accelerated.accel, accelerated.hotMemory, accelerated.memoryPath = "kvm", 0, ""
	single := bootSpec()
	single.cpus = 1
	for name, s := range map[string]spec{"boot": bootSpec(), "clone": clone, "kvm": accelerated, "single": single} {
		t.Run(name, func(t *testing.T) {
			got := strings.Join(args(s), "\n") + "\n"
			path := filepath.Join("testdata", name+".args")
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", path, diff)
			}
		})
	}
}

// TestDefaultCommandLineIsTheKernels keeps the constant and kernel/cmdline, which
// the kernel's own bench boots with, the same.
func TestDefaultCommandLineIsTheKernels(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "..", "..", "kernel", "cmdline"))
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			want = append(want, line)
		}
	}
	if diff := cmp.Diff(strings.Join(want, " "), DefaultCmdline); diff != "" {
		t.Errorf("-kernel/cmdline +DefaultCmdline:\n%s", diff)
	}
}
