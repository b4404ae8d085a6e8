// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"strings"
	"testing"
)

const profile = `{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86"],
"syscalls":[{"names":["read","write"],"action":"SCMP_ACT_ALLOW"},
{"names":["personality"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":8,"op":"SCMP_CMP_EQ"}]}]}`

func TestEachProfileIsCompiledOnce(t *testing.T) {
	other := strings.Replace(profile, "write", "openat", 1)
	var one, two bytes.Buffer
	if err := run(strings.NewReader(profile), &one); err != nil {
		t.Fatal(err)
	}
	if err := run(strings.NewReader(profile+"\n"+other), &two); err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(two.Bytes(), one.Bytes()) || two.Len() < 2*one.Len()-16 || one.Len() < 100 {
		t.Errorf("tables of %d and %d bytes", one.Len(), two.Len())
	}
}

func TestAProfileThatRuncRefusesIsAnError(t *testing.T) {
	for _, bad := range []string{"", "{", `{"defaultAction":"SCMP_ACT_NONE"}`} {
		if err := run(strings.NewReader(bad), &bytes.Buffer{}); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
