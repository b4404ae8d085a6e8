// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"byre.dev/byre/internal/testenv"
)

// shop is a compose project, a copy of testdata/shop.
type shop struct {
	t   *testing.T
	dir string
}

// compose runs byre compose in the project.
func (s *shop) compose(args ...string) string {
	s.t.Helper()
	return must(s.t)(byre(s.t.Context(), append([]string{"compose", "--progress", "quiet", "--project-directory", s.dir}, args...)...))
}

// visit asks the one web server that there is, or the index'th.
func (s *shop) visit(index string) string {
	s.t.Helper()
	address := s.compose("port", "--index", index, "web", "8000")
	client := http.Client{Timeout: 2 * time.Minute}
	r, err := client.Get("http://" + address + "/")
	if err != nil {
		s.t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		s.t.Fatalf("%s, %v: %s", r.Status, err, body)
	}
	return string(body)
}

// wants checks what a visit shows.
func (s *shop) wants(index, want string) {
	s.t.Helper()
	if got := s.visit(index); got != want {
		s.t.Errorf("web server %s shows %q, want %q", index, got, want)
	}
}

func TestAComposeProjectWithADatabaseAndACache(t *testing.T) {
	testenv.Once(t)
	t.Parallel()
	phase := phases(t, "shop")
	for _, image := range []string{"postgres", "redis", "python"} {
		database{image: image}.load(t)
	}
	phase("images made and loaded")
	s := &shop{t, filepath.Join(host.root, "shop")}
	if err := os.CopyFS(s.dir, os.DirFS(filepath.Join("testdata", "shop"))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			ctx := context.WithoutCancel(t.Context())
			out, _ := command(ctx, "compose", "--project-directory", s.dir, "logs", "--tail", "20").CombinedOutput()
			t.Logf("%s", out)
			out, err := command(ctx, "compose", "--project-directory", s.dir, "down", "--volumes", "--timeout", "1").CombinedOutput()
			if err != nil {
				t.Errorf("%v: %s", err, out)
			}
		}
	})
	s.compose("up", "-d", "--wait")
	phase("up and healthy")
	s.wants("1", "hello: order 1, visit 1")
	if err := os.WriteFile(filepath.Join(s.dir, "app", "greeting"), []byte("welcome"), 0o644); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	s.wants("1", "welcome: order 2, visit 2")
	phase("visited")
	s.compose("up", "-d", "--wait", "--scale", "web=2")
	s.wants("2", "welcome: order 3, visit 3")
	s.wants("1", "welcome: order 4, visit 4")
	phase("scaled")
	s.compose("restart", "db", "cache")
	s.compose("up", "-d", "--wait", "--scale", "web=1")
	s.wants("1", "welcome: order 5, visit 1") // the cache keeps nothing
	phase("restarted")
	s.compose("down")
	s.compose("up", "-d", "--wait")
	s.wants("1", "welcome: order 6, visit 1")
	phase("down and up again")
	s.compose("down", "--volumes")
	for _, what := range [][]string{{"ps", "-aq", "--filter", "label=com.docker.compose.project=shop"}, {"volume", "ls", "-q"}, {"network", "ls", "-q", "--filter", "name=shop"}} {
		if left := must(t)(byre(t.Context(), what...)); strings.Contains(left, "shop") || what[0] != "volume" && left != "" {
			t.Errorf("byre %s after the project is gone: %s", strings.Join(what, " "), left)
		}
	}
	phase("gone")
}
