// SPDX-License-Identifier: Apache-2.0

//go:build unix

package dockerapi_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"byre.dev/byre/internal/ctrd"
	"byre.dev/byre/internal/dockerapi"
	"byre.dev/byre/internal/engine"
)

// server is an engine on a containerd of its own, behind a real HTTP server.
// Nothing can run in it: there are no machines.
type server struct {
	*client.Client
	home   string
	url    string
	store  *ctrd.Server
	engine *engine.Engine
	stop   func()
}

func serve(t *testing.T) *server {
	t.Helper()
	// Sockets have short paths.
	home, err := os.MkdirTemp("", "byre")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(home) })
	template := filepath.Join(home, "template")
	if err := os.WriteFile(template, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	shim := filepath.Join(home, "containerd-shim-byre-v1")
	if err := os.WriteFile(shim, []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	store, err := ctrd.Start(t.Context(), ctrd.Config{
		Root: filepath.Join(home, "c"), State: filepath.Join(home, "r"), ShimDir: home, Template: template,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	s := &server{home: home, store: store, stop: func() {}}
	s.start(t)
	t.Cleanup(func() { s.stop() })
	return s
}

// start opens the engine on what is there, in place of the one before.
func (s *server) start(t *testing.T) {
	t.Helper()
	s.stop()
	home := s.home
	e, err := engine.New(t.Context(), engine.Config{
		Home: home, ScratchTemplate: filepath.Join(home, "template"), Containerd: s.store.Client(), NetworkCommand: []string{"/bin/false"},
		ShimState: filepath.Join(home, "r", "io.containerd.runtime.v2.task"), Build: engine.Build{Version: "test"},
	})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(dockerapi.New(e, nil, nil))
	s.engine, s.url = e, srv.URL
	s.stop = func() {
		srv.Close()
		if err := e.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}
	if s.Client, err = client.New(client.WithHost("tcp://" + srv.Listener.Addr().String())); err != nil {
		t.Fatal(err)
	}
}

// imageTar is what "docker save" would write for a tiny image.
func imageTar(t *testing.T, name string) io.Reader {
	t.Helper()
	layer := tarOf(t, map[string][]byte{"etc/passwd": []byte("root:x:0:0::/:/bin/sh\n"), "bin/sh": []byte("#!")})
	diffID := fmt.Sprintf("sha256:%x", sha256.Sum256(layer))
	config, err := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux", "created": "2026-01-01T00:00:00Z",
		"config": map[string]any{"Cmd": []string{"sh"}, "Env": []string{"A=image"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{diffID}},
	})
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": []string{name}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		t.Fatal(err)
	}
	return bytes.NewReader(tarOf(t, map[string][]byte{"config.json": config, "layer.tar": layer, "manifest.json": manifest}))
}

func tarOf(t *testing.T, files map[string][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, data := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(data))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func (s *server) load(t *testing.T, name string) {
	t.Helper()
	resp, err := s.ImageLoad(t.Context(), imageTar(t, name))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Close()
	text, err := io.ReadAll(resp)
	if err != nil || !strings.Contains(string(text), "Loaded image: "+name) {
		t.Fatalf("load said %s, error %v", text, err)
	}
}

func (s *server) create(t *testing.T, name string, cfg container.Config) string {
	t.Helper()
	resp, err := s.ContainerCreate(t.Context(), client.ContainerCreateOptions{Name: name, Config: &cfg})
	if err != nil {
		t.Fatal(err)
	}
	return resp.ID
}

// post sends a raw request and returns status and body.
func (s *server) post(t *testing.T, path, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// get does the same without a body.
func (s *server) get(t *testing.T, path string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func TestImagesAreLoadedNamedAndRemoved(t *testing.T) {
	s := serve(t)
	s.load(t, "tiny:latest")
	if _, err := s.ImageTag(t.Context(), client.ImageTagOptions{Source: "tiny", Target: "other/name:2"}); err != nil {
		t.Fatal(err)
	}
	list, err := s.ImageList(t.Context(), client.ImageListOptions{})
	if err != nil || len(list.Items) != 1 || len(list.Items[0].RepoTags) != 2 {
		t.Fatalf("images %+v, error %v; want one with two tags", list.Items, err)
	}
	s.create(t, "user", container.Config{Image: "tiny"})
	if _, err := s.ImageRemove(t.Context(), "other/name:2", client.ImageRemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err = s.ImageRemove(t.Context(), "tiny", client.ImageRemoveOptions{})
	if !errdefs.IsConflict(err) || !strings.Contains(err.Error(), "is using its referenced image") {
		t.Fatalf("removal of an image in use: %v", err)
	}
	if _, err := s.ContainerRemove(t.Context(), "user", client.ContainerRemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	gone, err := s.ImageRemove(t.Context(), "tiny", client.ImageRemoveOptions{})
	if err != nil || len(gone.Items) != 2 || gone.Items[1].Deleted == "" {
		t.Fatalf("removal said %+v, error %v", gone.Items, err)
	}
	_, err = s.ContainerCreate(t.Context(), client.ContainerCreateOptions{Config: &container.Config{Image: "tiny"}})
	if !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "No such image: tiny:latest") {
		t.Fatalf("create without its image: %v", err)
	}
}

func TestArchiveThatIsNoImageIsRefused(t *testing.T) {
	s := serve(t)
	if _, err := s.ImageLoad(t.Context(), strings.NewReader("this is no tar")); !errdefs.IsInvalidArgument(err) {
		t.Fatalf("error %v, want one for an invalid argument", err)
	}
	list, err := s.ImageList(t.Context(), client.ImageListOptions{})
	if err != nil || len(list.Items) != 0 {
		t.Fatalf("images %+v, error %v", list.Items, err)
	}
}

func TestContainersAreFoundByNameAndShortID(t *testing.T) {
	s := serve(t)
	s.load(t, "tiny:latest")
	id := s.create(t, "one", container.Config{Image: "tiny", Env: []string{"B=request"}})
	for _, ref := range []string{"one", "/one", id, id[:12]} {
		c, err := s.ContainerInspect(t.Context(), ref, client.ContainerInspectOptions{})
		if err != nil || c.Container.ID != id {
			t.Fatalf("%s: error %v", ref, err)
		}
		if got := strings.Join(c.Container.Config.Env, " "); got != "B=request A=image" {
			t.Errorf("environment %q", got)
		}
		if c.Container.State.Status != container.StateCreated {
			t.Errorf("state %s", c.Container.State.Status)
		}
	}
	_, err := s.ContainerInspect(t.Context(), "two", client.ContainerInspectOptions{})
	if !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "No such container: two") {
		t.Errorf("error %v", err)
	}
	_, err = s.ContainerCreate(t.Context(), client.ContainerCreateOptions{Name: "one", Config: &container.Config{Image: "tiny"}})
	if !errdefs.IsConflict(err) || !strings.Contains(err.Error(), `The container name "/one" is already in use by container "`+id) {
		t.Errorf("error %v", err)
	}
}

// As with dockerd, networks may be made between a container and its start;
// clients of before API 1.44 name one.
func TestContainerIsCreatedForNetworksThatAreNotThereYet(t *testing.T) {
	s := serve(t)
	s.load(t, "tiny:latest")
	const body = `{"Image":"tiny","NetworkingConfig":{"EndpointsConfig":{"one":{},"two":{}}}}`
	if status, text := s.post(t, "/v1.44/containers/create?name=box-a", body); status != http.StatusCreated {
		t.Errorf("%d %s", status, text)
	}
	status, text := s.post(t, "/v1.43/containers/create?name=box-b", body)
	if status != http.StatusBadRequest || !strings.Contains(text, "Container cannot be created with multiple network endpoints: one, two") {
		t.Errorf("%d %s", status, text)
	}
	status, text = s.post(t, "/containers/create?name=box-c", `{"Image":"tiny","ExposedPorts":{"80/tcp":{}},"HostConfig":{"NetworkMode":"host","PortBindings":{"81/tcp":[{}]}}}`)
	if status != http.StatusCreated || !strings.Contains(text, "Published ports are discarded") {
		t.Errorf("%d %s", status, text)
	}
}

func TestWhatCannotBeHonoredIsRefusedByName(t *testing.T) {
	s := serve(t)
	s.load(t, "tiny:latest")
	for body, want := range map[string]string{
		`{"Image":"tiny","HostConfig":{"PidMode":"host"}}`:                                                        "byre does not support HostConfig.PidMode: ",
		`{"Image":"tiny","HostConfig":{"Frobnicate":1}}`:                                                          "byre does not support HostConfig.Frobnicate: ",
		`{"Image":"tiny","HostConfig":{"CapAdd":["FLY"]}}`:                                                        `unknown capability: \"FLY\"`,
		`{"Image":"tiny","HostConfig":{"SecurityOpt":["label=type:x"]}}`:                                          "byre does not support HostConfig.SecurityOpt",
		`{"Image":"tiny","HostConfig":{"Binds":["/nowhere:/x:shared"]}}`:                                          "byre does not support HostConfig.Binds",
		`{"Image":"tiny","HostConfig":{"Memory":1}}`:                                                              "Minimum memory limit allowed is 6MB",
		`{"Image":"tiny","WorkingDir":"relative"}`:                                                                "needs to be an absolute path",
		`{"Image":"tiny","HostConfig":{"AutoRemove":true,"RestartPolicy":{"Name":"always"}}}`:                     "AutoRemove",
		`{"Image":"tiny","HostConfig":{"Mounts":[{"Type":"bind","Source":"/nonexistent-source","Target":"/x"}]}}`: "bind source path does not exist: /nonexistent-source",
		``: "invalid JSON: EOF",
		`{"Image":"tiny","HostConfig":{"SecurityOpt":["writeable-cgroups=true"]}}`:                                                    `invalid --security-opt 2: \"writeable-cgroups=true\"`,
		`{"Image":"tiny","HostConfig":{"Mounts":[{"Type":"volume","Source":"v","Target":"/x","VolumeOptions":{"Subpath":"../up"}}]}}`: "subpath must be a relative path within the volume",
		`{"Image":"tiny","HostConfig":{"Mounts":[{"Type":"image","Source":"tiny","Target":"/x","ImageOptions":{"Subpath":"/a"}}]}}`:   "subpath must be a relative path within the volume",
		`{"Image":"tiny","HostConfig":{"Mounts":[{"Type":"image","Source":"nowhere","Target":"/x"}]}}`:                                "nowhere",
		`{"Image":"tiny","HostConfig":{"NetworkMode":"host"},"NetworkingConfig":{"EndpointsConfig":{"host":{},"bridge":{}}}}`:         "in host mode",
	} {
		status, text := s.post(t, "/containers/create", body)
		if status != http.StatusBadRequest || !strings.Contains(text, want) {
			t.Errorf("%s:\n%d %swant 400 and %s", body, status, text, want)
		}
	}
	list, err := s.ContainerList(t.Context(), client.ContainerListOptions{All: true})
	if err != nil || len(list.Items) != 0 {
		t.Errorf("containers were left behind: %+v, error %v", list.Items, err)
	}
	status, text := s.post(t, "/v1.45/swarm/init", "{}")
	if status != http.StatusNotImplemented || !strings.Contains(text, "POST /swarm/init") {
		t.Errorf("refused operation: %d %s", status, text)
	}
	if status, text = s.post(t, "/no/such/path", "{}"); status != http.StatusNotFound || !strings.Contains(text, "page not found") {
		t.Errorf("unknown path: %d %s", status, text)
	}
	if status, text = s.post(t, "/networks/prune/", "{}"); status != http.StatusOK {
		t.Errorf("a slash at the end: %d %s", status, text)
	}
}

// fifo opens one of a container's FIFOs as its shim would.
func (s *server) fifo(t *testing.T, id, stream string) *os.File {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(s.home, "containers", id, "init."+stream), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func TestAttachedInputReachesTheProcessBeforeItsStart(t *testing.T) {
	s := serve(t)
	s.load(t, "tiny:latest")
	id := s.create(t, "in", container.Config{Image: "tiny", OpenStdin: true, StdinOnce: true})
	at, err := s.ContainerAttach(t.Context(), id, client.ContainerAttachOptions{Stream: true, Stdin: true, Stdout: true, Stderr: true})
	if err != nil {
		t.Fatal(err)
	}
	defer at.Close()
	if _, err := at.Conn.Write([]byte("typed early")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64)
	n, err := s.fifo(t, id, "stdin").Read(buf)
	if string(buf[:n]) != "typed early" || err != nil {
		t.Fatalf("the process reads %q, error %v", buf[:n], err)
	}
}

func TestFailedStartEndsTheAttachmentAndTheWait(t *testing.T) {
	s := serve(t)
	s.load(t, "tiny:latest")
	id := s.create(t, "fails", container.Config{Image: "tiny", NetworkDisabled: true})
	at, err := s.ContainerAttach(t.Context(), id, client.ContainerAttachOptions{Stream: true, Stdout: true, Stderr: true})
	if err != nil {
		t.Fatal(err)
	}
	defer at.Close()
	if _, err := s.ContainerStart(t.Context(), id, client.ContainerStartOptions{}); err == nil {
		t.Fatal("a container started without a runtime")
	}
	var out, errs bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, &errs, at.Reader); err != nil && !errors.Is(err, net.ErrClosed) {
		t.Fatalf("the attachment ended with %v", err)
	}
	c, err := s.ContainerInspect(t.Context(), id, client.ContainerInspectOptions{})
	if err != nil || c.Container.State.Running || c.Container.State.ExitCode != 128 || c.Container.State.Error == "" {
		t.Fatalf("state %+v, error %v", c.Container.State, err)
	}
	wait := s.ContainerWait(t.Context(), id, client.ContainerWaitOptions{})
	select {
	case r := <-wait.Result:
		if r.StatusCode != 128 {
			t.Fatalf("exit code %d", r.StatusCode)
		}
	case err := <-wait.Error:
		t.Fatal(err)
	}
}

func TestContainersAreThereAfterARestartOfTheEngine(t *testing.T) {
	s := serve(t)
	s.load(t, "tiny:latest")
	id := s.create(t, "keeps", container.Config{Image: "tiny", Labels: map[string]string{"a": "b"}})
	// What a kill in the middle of a creation leaves.
	half := filepath.Join(s.home, "containers", strings.Repeat("0", 64))
	if err := os.Mkdir(half, 0o700); err != nil {
		t.Fatal(err)
	}
	s.start(t)
	list, err := s.ContainerList(t.Context(), client.ContainerListOptions{All: true})
	if err != nil || len(list.Items) != 1 || list.Items[0].ID != id || list.Items[0].Names[0] != "/keeps" || list.Items[0].Labels["a"] != "b" {
		t.Fatalf("containers %+v, error %v", list.Items, err)
	}
	if _, err := os.Stat(half); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("half a container is still there: %v", err)
	}
	_, err = s.ContainerCreate(t.Context(), client.ContainerCreateOptions{Name: "keeps", Config: &container.Config{Image: "tiny"}})
	if !errdefs.IsConflict(err) {
		t.Errorf("its name can be taken: %v", err)
	}
}

func TestContainerThatRanWithoutItsMachineIsNotReportedRunning(t *testing.T) {
	s := serve(t)
	s.load(t, "tiny:latest")
	id := s.create(t, "lost", container.Config{Image: "tiny"})
	path := filepath.Join(s.home, "containers", id, "container.json")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var rec engine.Record
	if err := json.Unmarshal(b, &rec); err != nil {
		t.Fatal(err)
	}
	rec.State.Running, rec.State.PID = true, 7
	if b, err = json.Marshal(rec); err != nil {
		t.Fatal(err)
	}
	s.stop()
	s.stop = func() {}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	s.start(t)
	c, err := s.ContainerInspect(t.Context(), id, client.ContainerInspectOptions{})
	if err != nil || c.Container.State.Running || c.Container.State.ExitCode != 255 || c.Container.State.Error == "" {
		t.Fatalf("state %+v, error %v", c.Container.State, err)
	}
}
