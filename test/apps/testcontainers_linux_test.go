// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"byre.dev/byre/internal/testenv"
)

// TestTestcontainersForGo runs the tests of the module testcontainers, which use
// Testcontainers for Go, over byre's socket.
func TestTestcontainersForGo(t *testing.T) {
	testenv.NeedRoot(t, "build the suite: the user made for tests has no module cache")
	t.Parallel()
	postgres.load(t)
	busybox := filepath.Join(host.root, "busybox.tar")
	if out, err := exec.CommandContext(t.Context(), filepath.Join("..", "..", "build", "busybox-image"), busybox).CombinedOutput(); err != nil {
		t.Fatalf("make the busybox image: %v: %s", err, out)
	}
	must(t)(byre(t.Context(), "load", "-q", "-i", busybox))
	cmd := exec.CommandContext(t.Context(), "go", "test", "-count", "1", "-timeout", "20m", "-v", ".")
	cmd.Dir = "testcontainers"
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+filepath.Join(host.home, "docker.sock"), "TESTCONTAINERS_RYUK_DISABLED=true",
		// In a container, which a build machine may be, the library takes the
		// network's gateway for the host that ports are published on.
		"TESTCONTAINERS_HOST_OVERRIDE=localhost")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	} else {
		t.Logf("%s", out)
	}
}
