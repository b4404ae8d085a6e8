// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
)

// makeImages makes the images that the suites start from, with no registry:
// busybox of the host's under the names that hold a shell, and a program of a
// few lines as hello-world.
func (l *lab) makeImages(ctx context.Context) ([]string, error) {
	dir := filepath.Join(l.cache, "images")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	var files []string
	for i, name := range []string{"busybox:latest", "busybox:glibc", "debian:trixie-slim"} {
		file := filepath.Join(dir, fmt.Sprintf("busybox%d.tar", i))
		files = append(files, file)
		if _, err := os.Stat(file); err == nil {
			continue
		}
		if _, err := output(ctx, l.root, "build/busybox-image", file, name); err != nil {
			return nil, err
		}
	}
	for _, h := range [][2]string{{"frozen", runtime.GOARCH}, {"amd64", "amd64"}, {"arm64", "arm64"}} {
		file := filepath.Join(dir, "hello-"+h[0]+".tar")
		files = append(files, file)
		if _, err := os.Stat(file); err == nil {
			continue
		}
		if err := l.makeHello(ctx, file, "hello-world:"+h[0], h[1]); err != nil {
			return nil, err
		}
	}
	return files, nil
}

const hello = `package main

import "os"

func main() { os.Stdout.WriteString("\nHello from Docker!\n") }
`

// makeHello writes a docker-archive of an image whose one file is /hello.
func (l *lab) makeHello(ctx context.Context, file, name, arch string) error {
	work, err := os.MkdirTemp(l.cache, "hello.")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	source, program := filepath.Join(work, "hello.go"), filepath.Join(work, "hello")
	if err := os.WriteFile(source, []byte(hello), 0o644); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, source)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build hello for %s: %w: %s", arch, err, out)
	}
	binary, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	layer, err := pack(0o755, [2]string{"hello", string(binary)})
	if err != nil {
		return err
	}
	sum := sha256.Sum256(layer)
	config, err := json.Marshal(map[string]any{
		"architecture": arch, "os": "linux", "created": "1970-01-01T00:00:00Z",
		"config":  map[string]any{"Cmd": []string{"/hello"}, "Env": []string{"PATH=/"}},
		"rootfs":  map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hex.EncodeToString(sum[:])}},
		"history": []any{map[string]any{"created": "1970-01-01T00:00:00Z", "created_by": "COPY hello /"}},
	})
	if err != nil {
		return err
	}
	manifest := fmt.Sprintf(`[{"Config":"config.json","RepoTags":[%q],"Layers":["layer.tar"]}]`, name)
	image, err := pack(0o644, [2]string{"config.json", string(config)}, [2]string{"layer.tar", string(layer)}, [2]string{"manifest.json", manifest})
	if err != nil {
		return err
	}
	return os.WriteFile(file, image, 0o644)
}

// pack makes a tar of files, each a name and its contents.
func pack(mode int64, files ...[2]string) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for f := range slices.Values(files) {
		if err := w.WriteHeader(&tar.Header{Name: f[0], Mode: mode, Size: int64(len(f[1])), Typeflag: tar.TypeReg}); err != nil {
			return nil, err
		}
		if _, err := w.Write([]byte(f[1])); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), w.Close()
}
