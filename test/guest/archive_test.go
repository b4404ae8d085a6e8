// SPDX-License-Identifier: Apache-2.0

//go:build linux

package guest_test

import (
	"archive/tar"
	"bytes"
	"io"
	"io/fs"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/google/go-cmp/cmp"

	"byre.dev/byre/internal/guest/guesttest"
	"byre.dev/byre/internal/guestapi"
)

// getArchive reads a path of a container as a map of names to contents.
func getArchive(t *testing.T, m *guesttest.Machine, id, path, stream string) (map[string]string, error) {
	t.Helper()
	c, err := m.Stream(guestapi.PortStdio, stream)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var buf bytes.Buffer
	var wg sync.WaitGroup
	wg.Go(func() { io.Copy(&buf, c) })
	_, err = m.Guest.ReadArchive(m.Context(), &guestapi.ArchiveRequest{ContainerId: id, Path: path, Stream: stream})
	if err != nil {
		return nil, err
	}
	wg.Wait()
	got := map[string]string{}
	for tr := tar.NewReader(&buf); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return got, nil
		}
		if err != nil {
			t.Fatal(err)
		}
		data, _ := io.ReadAll(tr)
		got[h.Name] = string(h.Typeflag) + " " + h.Linkname + string(data)
	}
}

// putArchive unpacks entries into a directory of a container.
func putArchive(t *testing.T, m *guesttest.Machine, r *guestapi.ArchiveRequest, entries ...*tar.Header) error {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, h := range entries {
		data := []byte(nil)
		if h.Typeflag == tar.TypeReg {
			data = []byte("data of " + h.Name)
			h.Size = int64(len(data))
		}
		h.ModTime = time.Unix(1234567890, 0)
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		tw.Write(data)
	}
	tw.Close()
	c, err := m.Stream(guestapi.PortStdio, r.Stream)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		c.Write(buf.Bytes())
		c.Close()
	})
	_, err = m.Guest.WriteArchive(m.Context(), r)
	wg.Wait()
	return err
}

func archives(t *testing.T, m *guesttest.Machine) {
	p := m.Run("cp", guesttest.Spec("sh", "-c", "mkdir -p /data/sub; echo one >/data/one; ln /data/one /data/two; ln -s /data/one /data/link; ln -s /data /alias; ln -s ../../../../../etc /up; echo ready; sleep 1000"))
	p.AwaitOutput("ready")
	got, err := getArchive(t, m, "cp", "/data", "ar1")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"data/": "5 ", "data/one": "0 one\n", "data/two": "1 data/one", "data/link": "2 /data/one", "data/sub/": "5 ",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("archive of /data (-want +got):\n%s", d)
	}
	st, err := m.Guest.StatPath(m.Context(), &guestapi.StatPathRequest{ContainerId: "cp", Path: "/alias"})
	if err != nil || st.LinkTarget != "/data" || fs.FileMode(st.Mode)&fs.ModeSymlink == 0 {
		t.Errorf("stat of a symlink: %v, %v", st, err)
	}
	_, err = m.Guest.StatPath(m.Context(), &guestapi.StatPathRequest{ContainerId: "cp", Path: "/none"})
	if !errdefs.IsNotFound(errgrpc.ToNative(err)) {
		t.Errorf("stat of nothing: %v", err)
	}
	// The symlink leads to the container's own /etc, not to the guest's.
	if st, err := m.Guest.StatPath(m.Context(), &guestapi.StatPathRequest{ContainerId: "cp", Path: "/up/noexec"}); err != nil {
		t.Errorf("a symlink with .. does not stop at the root: %v, %v", st, err)
	}
	unpack(t, m)
	p.Kill(9, false)
	p.Wait()
	p.Delete()
}

func unpack(t *testing.T, m *guesttest.Machine) {
	t.Helper()
	err := putArchive(t, m, &guestapi.ArchiveRequest{ContainerId: "cp", Path: "/alias/sub", Stream: "ar2", CopyUidGid: true},
		&tar.Header{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o750, Uid: 12, Gid: 34},
		&tar.Header{Name: "d/f", Typeflag: tar.TypeReg, Mode: 0o4755, Uid: 12, Gid: 34},
		&tar.Header{Name: "d/hard", Typeflag: tar.TypeLink, Linkname: "d/f"},
		&tar.Header{Name: "../../../escape", Typeflag: tar.TypeReg, Mode: 0o644},
	)
	if err != nil {
		t.Fatalf("write archive: %v", err)
	}
	e := m.Exec("cp", "ls", "sh", "-c", "cd /data/sub; stat -c '%n %a %u:%g %h %Y' d d/f escape; ls /escape /data/escape 2>&1 | grep -c 'No such'")
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	e.Wait()
	out, _ := e.Delete()
	want := "d 750 12:34 2 1234567890\nd/f 4755 12:34 2 1234567890\nescape 644 0:0 1 1234567890\n2\n"
	if out != want {
		t.Errorf("unpacked %q, want %q", out, want)
	}
	err = putArchive(t, m, &guestapi.ArchiveRequest{ContainerId: "cp", Path: "/data", Stream: "ar3", NoOverwriteDirNonDir: true},
		&tar.Header{Name: "sub", Typeflag: tar.TypeReg, Mode: 0o644})
	if err == nil {
		t.Error("a directory was replaced by a file")
	}
}
