// SPDX-License-Identifier: Apache-2.0

package task

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
)

func accountsRoot(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"passwd": "root:x:0:0:root:/root:/bin/sh\nwww:x:33:34:www:/home:/bin/sh\n",
		"group":  "root:x:0:\nbin:x:1:root\nwww:x:34:\nstaff:x:50:www\n",
	} {
		if err := os.WriteFile(filepath.Join(root, "etc", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func resolved(t *testing.T, root, name string, more ...uint32) (specUser, error) {
	t.Helper()
	raw, err := json.Marshal(map[string]any{"user": specUser{Username: name, AdditionalGids: more}, "cwd": "/"})
	if err != nil {
		t.Fatal(err)
	}
	out, err := resolveExecUser(raw, root)
	if err != nil {
		return specUser{}, err
	}
	var p struct{ User specUser }
	if err := json.Unmarshal(out, &p); err != nil {
		t.Fatal(err)
	}
	return p.User, nil
}

func TestUsersAreResolvedInTheContainersOwnFiles(t *testing.T) {
	root := accountsRoot(t)
	for _, tc := range []struct {
		name string
		want specUser
	}{
		{"www", specUser{UID: 33, GID: 34, AdditionalGids: []uint32{34, 7, 50}}},
		{"0,staff,www", specUser{AdditionalGids: []uint32{0, 7, 1, 34, 50}}},
		{"www:staff", specUser{UID: 33, GID: 50, AdditionalGids: []uint32{50, 7}}},
		{"33", specUser{UID: 33, GID: 34, AdditionalGids: []uint32{34, 7, 50}}},
		{"4711", specUser{UID: 4711, AdditionalGids: []uint32{0, 7}}},
		{"4711:12", specUser{UID: 4711, GID: 12, AdditionalGids: []uint32{12, 7}}},
		{"0", specUser{AdditionalGids: []uint32{0, 7, 1}}},
	} {
		got, err := resolved(t, root, tc.name, 7)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
}

func TestUnknownUserIsRefused(t *testing.T) {
	if _, err := resolved(t, accountsRoot(t), "nobodyhere"); !errdefs.IsInvalidArgument(err) {
		t.Fatalf("error %v, want one for an invalid argument", err)
	}
}

func TestAccountsNeverComeFromOutsideTheRoot(t *testing.T) {
	root := t.TempDir()
	outside := accountsRoot(t)
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(outside, "etc/passwd"), filepath.Join(root, "etc/passwd")); err != nil {
		t.Fatal(err)
	}
	if got, err := resolved(t, root, "www"); err == nil {
		t.Fatalf("user found as %+v in a file outside of the root", got)
	}
}
