// SPDX-License-Identifier: Apache-2.0

//go:build linux

package guest_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"byre.dev/byre/internal/guest/guesttest"
	"byre.dev/byre/internal/guestapi"
)

// changeRoot changes a root file system in every way that overlayfs has marks
// for.
const changeRoot = `
mkdir -p /new/sub; echo one >/new/one; ln /new/one /new/two; ln -s one /new/link; mknod /new/null c 1 3
rm -r /etc; mkdir /etc; echo kept >/etc/kept
rm /bin/true; echo more >>/bin/false
chmod 0700 /mnt
rm -r /root; echo file >/root
echo gone >/tmp/gone; rm /tmp/gone
echo ready; sleep 1000`

// readRoot returns the members of a container's root as names with their types.
func readRoot(t *testing.T, m *guesttest.Machine, r *guestapi.RootRequest) (map[string]string, error) {
	t.Helper()
	c, err := m.Stream(guestapi.PortStdio, r.Stream)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var buf bytes.Buffer
	var wg sync.WaitGroup
	wg.Go(func() { io.Copy(&buf, c) })
	if _, err := m.Guest.ReadRoot(m.Context(), r); err != nil {
		return nil, err
	}
	wg.Wait()
	got := map[string]string{}
	for tr := tar.NewReader(&buf); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return got, nil
		}
		if err != nil {
			t.Fatal(err)
		}
		data, _ := io.ReadAll(tr)
		got[h.Name] = string(h.Typeflag) + h.Linkname + string(data)
	}
}

func changesAndLayers(t *testing.T, m *guesttest.Machine) {
	p := m.Run("layer", guesttest.Spec("sh", "-c", changeRoot))
	p.AwaitOutput("ready")
	stream, err := m.Guest.Changes(m.Context(), &guestapi.ChangesRequest{ContainerId: "layer"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range r.Changes {
			got = append(got, c.Kind.String()[:1]+" "+string(c.Path))
		}
	}
	want := []string{
		"M /bin", "M /bin/false", "D /bin/true", "M /etc", "D /etc/noexec", "D /etc/passwd", "A /etc/kept", "M /mnt",
		"A /new", "A /new/link", "A /new/null", "A /new/one", "A /new/sub", "A /new/two", "M /root", "M /tmp",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("changes (-want +got):\n%s", d)
	}
	layer, err := readRoot(t, m, &guestapi.RootRequest{ContainerId: "layer", Changed: true, Stream: "lay1"})
	if err != nil {
		t.Fatal(err)
	}
	delete(layer, "bin/false")
	wantLayer := map[string]string{
		"bin/": "5", "bin/.wh.true": "0", "etc/": "5", "etc/.wh.noexec": "0", "etc/.wh.passwd": "0", "etc/kept": "0kept\n", "mnt/": "5",
		"new/": "5", "new/link": "2one", "new/null": "3", "new/one": "0one\n", "new/sub/": "5", "new/two": "1new/one",
		"root": "0file\n", "tmp/": "5",
	}
	if d := cmp.Diff(wantLayer, layer); d != "" {
		t.Errorf("layer (-want +got):\n%s", d)
	}
	whole, err := readRoot(t, m, &guestapi.RootRequest{ContainerId: "layer", Stream: "lay2"})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"bin/sh": "1bin/[", "etc/kept": "0kept\n", "root": "0file\n", "proc/": "5", "bin/true": "", "etc/passwd": ""} {
		if whole[name] != want {
			t.Errorf("%s is %.40q in the whole root, want %q", name, whole[name], want)
		}
	}
	p.Kill(9, false)
	p.Wait()
	p.Delete()
}
