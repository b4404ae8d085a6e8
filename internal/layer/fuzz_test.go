// SPDX-License-Identifier: Apache-2.0

package layer_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"byre.dev/byre/internal/layer"
)

// FuzzConvert looks for layers that the writer does not survive, or that fail
// for a reason that is not the layer's.
func FuzzConvert(f *testing.F) {
	xattr := file("x", "1")
	xattr.PAXRecords = map[string]string{"SCHILY.xattr.user.a": "1", "SCHILY.xattr.trusted.b": string(make([]byte, 300))}
	for _, seed := range [][]byte{
		archive(f, dir("./"), file("a", "1"), link("b", "a"), symlink("c", "a"), xattr),
		archive(f, file(".wh.a", ""), file("d/.wh..wh..opq", ""), dir("d"), file("lost+found/x", "")),
		archive(f, member{tar.Header{Name: "dev", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}, ""}),
		gzipped(f, archive(f, file("a", "1"))),
		{}, []byte("x"),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		out, err := os.Create(filepath.Join(t.TempDir(), "x"))
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		_, err = layer.Convert(out, bytes.NewReader(b))
		if err != nil && !errors.Is(err, layer.ErrEntry) && !errors.Is(err, layer.ErrFormat) {
			t.Errorf("%v", err)
		}
	})
}
