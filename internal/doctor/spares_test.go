// SPDX-License-Identifier: Apache-2.0

//go:build unix

package doctor

import (
	"encoding/json"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"byre.dev/byre/internal/home"
	"byre.dev/byre/internal/shimapi"
)

func TestOnlySpareMachinesThatAnswerAreToldOf(t *testing.T) {
	root, err := os.MkdirTemp("/tmp", "byre-doctor.") // short, for the socket
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(root)
	dir := home.Dir(root)
	if f := spares(dir); f.State != OK || !strings.HasPrefix(f.Detail, "none is warm") {
		t.Errorf("without any: %+v", f)
	}
	l, err := net.Listen("unix", dir.Path("s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Mkdir(dir.Path("spares"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, socket := range map[string]string{"a": dir.Path("s"), "killed": dir.Path("nothing")} {
		b, err := json.Marshal(shimapi.Spare{Socket: socket, Since: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir.Path("spares", name+shimapi.SpareSuffix), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if f := spares(dir); f.State != OK || !strings.HasPrefix(f.Detail, "1 warm since ") {
		t.Errorf("with one: %+v", f)
	}
}
