// SPDX-License-Identifier: Apache-2.0

package foreign

import (
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestContainersRunUnderAnyContainerd(t *testing.T) {
	c := startContainerd(t, "")
	c.ctr("images", "import", busyboxArchive(t))
	for _, tt := range []struct {
		name string
		run  func(*testing.T, *containerd)
	}{
		{"a directory of the host with a writable layer in the guest", hostDirectory},
		{"standard input ends with its writer", standardInput},
		{"no byte of 8 MiB is lost", everyByte},
		{"exec, pause, figures, signals", control},
		{"a signal's death is 128 and the signal", killed},
		{"the machine has a network of its own", network},
		{"an option that no machine has is refused", refused},
	} {
		t.Run(strings.ReplaceAll(tt.name, " ", "_"), func(t *testing.T) {
			sub := *c
			sub.t = t
			tt.run(t, &sub)
		})
	}
}

func hostDirectory(t *testing.T, c *containerd) {
	r := c.run("", "dir", "sh", "-c", "uname -r; echo made >/new; cat /new; grep -c '^overlay / ' /proc/mounts; echo said >&2; exit 7")
	if !regexp.MustCompile(`^\S+-byre\nmade\n1\n$`).MatchString(r.stdout) || !strings.Contains(r.stderr, "said\n") || r.code != 7 {
		t.Errorf("got %+v; want a kernel of byre's, a new file on an overlay, and exit code 7", r)
	}
	if r := c.run("", "dir2", "ls", "/new"); r.code == 0 {
		t.Error("what one container wrote is in the next one's root")
	}
}

func standardInput(t *testing.T, c *containerd) {
	if r := c.run("one\ntwo\nthree\n", "in", "wc", "-l"); r.stdout != "3\n" || r.code != 0 {
		t.Errorf("got %+v, want 3 lines", r)
	}
	large := strings.Repeat("0123456789abcdef", 1<<16)
	if r := c.run(large, "inlarge", "sh", "-c", "sleep 1; wc -c"); r.stdout != "1048576\n" || r.code != 0 {
		t.Errorf("a slow process got %q, want 1 MiB; code %d, %s", r.stdout, r.code, r.stderr)
	}
}

func everyByte(t *testing.T, c *containerd) {
	if r := c.run("", "bytes", "dd", "if=/dev/zero", "bs=1M", "count=8"); len(r.stdout) != 8<<20 {
		t.Errorf("%d bytes came, want %d; %s", len(r.stdout), 8<<20, r.stderr)
	}
	// A client that is slow to take them loses none either.
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := c.command(ctx, c.runArgs("slow", "dd", "if=/dev/zero", "bs=1M", "count=8")...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(6 * time.Second)
	n, err := io.Copy(io.Discard, out)
	if werr := cmd.Wait(); n != 8<<20 || err != nil || werr != nil {
		t.Errorf("a slow client got %d bytes, %v, %v; want %d", n, err, werr, 8<<20)
	}
}

func control(t *testing.T, c *containerd) {
	// Nothing reads the output of a container that runs detached.
	args := c.runArgs("ctl", "sh", "-c", `trap "exit 5" TERM; while :; do sleep 0.1; done`)
	c.ctr(append([]string{"run", "-d", "--null-io"}, args[4:]...)...)
	exec := func(id, stdin string, args ...string) result {
		r, err := c.tryWith(stdin, append([]string{"task", "exec", "--fifo-dir", c.dir + "/fifo", "--exec-id", id, "ctl"}, args...)...)
		if r.code < 0 {
			t.Fatal(err)
		}
		return r
	}
	if r := exec("a", "", "sh", "-c", "echo out; echo err >&2; exit 3"); r.stdout != "out\n" || !strings.Contains(r.stderr, "err\n") || r.code != 3 {
		t.Errorf("exec gave %+v", r)
	}
	if r := exec("b", "through\n", "cat"); r.stdout != "through\n" || r.code != 0 {
		t.Errorf("exec with input gave %+v", r)
	}
	if r := exec("c", "", "no-such-command"); r.code == 0 || !strings.Contains(r.stderr, "no-such-command") {
		t.Errorf("exec of nothing gave %+v", r)
	}
	c.ctr("task", "pause", "ctl")
	if out := c.ctr("task", "ls"); !strings.Contains(out, "PAUSED") {
		t.Errorf("after pause: %s", out)
	}
	c.ctr("task", "resume", "ctl")
	if out := c.ctr("task", "metrics", "ctl"); !strings.Contains(out, "memory.usage") || !strings.Contains(out, "cpu.usage_usec") {
		t.Errorf("metrics: %s", out)
	}
	if out := c.ctr("task", "ps", "ctl"); strings.Count(out, "\n") < 2 {
		t.Errorf("ps: %s", out)
	}
	c.ctr("task", "kill", "-s", "TERM", "ctl")
	await(t, "", func() error {
		if out := c.ctr("task", "ls"); !strings.Contains(out, "STOPPED") {
			return os.ErrDeadlineExceeded
		}
		return nil
	})
	if r, _ := c.try("task", "rm", "ctl"); !strings.Contains(r.stderr, "5") {
		t.Errorf("rm tells no exit code: %+v", r)
	}
	c.ctr("container", "rm", "ctl")
}

func killed(t *testing.T, c *containerd) {
	codes := make(chan int, 1)
	go func() { // received below
		r, _ := c.try(c.runArgs("victim", "sleep", "1000")...)
		codes <- r.code
	}()
	await(t, "", func() error {
		if out := c.ctr("task", "ls"); !strings.Contains(out, "RUNNING") {
			return os.ErrDeadlineExceeded
		}
		return nil
	})
	c.ctr("task", "kill", "-s", "KILL", "victim")
	if code := <-codes; code != 137 {
		t.Errorf("exit code %d, want 137", code)
	}
}

// network has a container reach another machine, by NAT, and not the host.
func network(t *testing.T, c *containerd) {
	const theirs, ours = "198.18.77.2", "198.18.77.1"
	neighbor(t, ours, theirs)
	l, err := net.Listen("tcp4", net.JoinHostPort(ours, "7000"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r := c.run("", "net", "sh", "-c", "grep -c nameserver /etc/resolv.conf; ip route | head -n 1; nc -w 20 "+theirs+" 7000; nc -w 20 "+ours+" 7000")
	if !strings.HasPrefix(r.stdout, "1\n") || !strings.Contains(r.stdout, "default via") || !strings.HasSuffix(r.stdout, "from the neighbor\n") {
		t.Errorf("the neighbor is not reached: %+v", r)
	}
	if !strings.Contains(r.stderr, "refused") {
		t.Errorf("the host's own services are reached: %+v", r)
	}
}

// neighbor is another machine on a network of the host's: a network namespace
// with a server.
func neighbor(t *testing.T, ours, theirs string) {
	t.Helper()
	name := "byre-test"
	ip := func(args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), "ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
		}
	}
	ip("netns", "add", name)
	t.Cleanup(func() {
		if out, err := exec.Command("ip", "netns", "del", name).CombinedOutput(); err != nil {
			t.Errorf("remove the neighbor: %v: %s", err, out)
		}
	})
	ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
	ip("addr", "add", ours+"/30", "dev", name)
	ip("link", "set", name, "up")
	ip("-n", name, "addr", "add", theirs+"/30", "dev", "eth0")
	ip("-n", name, "link", "set", "eth0", "up")
	server := exec.CommandContext(t.Context(), "ip", "netns", "exec", name, "busybox", "nc", "-l", "-p", "7000")
	server.Stdin = strings.NewReader("from the neighbor\n")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
}

func refused(t *testing.T, c *containerd) {
	args := c.runArgs("pidhost", "true")
	r, err := c.try(append([]string{"run", "--with-ns", "pid:/proc/1/ns/pid"}, args[1:]...)...)
	if err == nil || !strings.Contains(r.stderr, "pid namespace") {
		t.Errorf("a namespace of the host was taken: %+v, %v", r, err)
	}
}

func TestErofsImagesStack(t *testing.T) {
	needRoot(t)
	if _, err := exec.LookPath("mkfs.erofs"); err != nil {
		t.Fatal("mkfs.erofs is missing: apt-get install erofs-utils")
	}
	for name, size := range map[string]string{"what is written is a directory": "0", "what is written is an image": "1g"} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			archive, cache := busyboxArchive(t), erofsCache(t)
			c := startContainerd(t, "[plugins.'io.containerd.snapshotter.v1.erofs']\n  default_size = '"+size+"'\n  layer_content_caches = ['"+cache+"']\n")
			fillErofsCache(t, archive, cache)
			c.ctr("images", "import", "--local", "--snapshotter", "erofs", archive)
			args := c.runArgs("erofs", "sh", "-c", "uname -r; echo made >/new; cat /new; test -x /bin/busybox; ls /bin | wc -l; head -n 1 /proc/mounts | cut -d' ' -f3")
			r, err := c.try(append([]string{"run", "--snapshotter", "erofs"}, args[1:]...)...)
			if err != nil || !regexp.MustCompile(`^\S+-byre\nmade\n[1-9][0-9]{2}\noverlay\n$`).MatchString(r.stdout) {
				t.Errorf("got %+v, %v", r, err)
			}
		})
	}
}

// erofsCache is a directory for layers that are images already, which
// containerd uses as they are. Its own conversion takes a mkfs.erofs newer than
// Debian 12's.
func erofsCache(t *testing.T) string { return filepath.Join(t.TempDir(), "cache") }

func fillErofsCache(t *testing.T, archive, cache string) {
	t.Helper()
	script := `set -eu
tar -C "$1" -xf "$2" layer.tar
sum=$(sha256sum "$1/layer.tar" | cut -d' ' -f1)
mkdir -p "$1/root" "$3/sha256/${sum%"${sum#??}"}"
tar -C "$1/root" -xpf "$1/layer.tar"
mkfs.erofs -Enoinline_data "$3/sha256/${sum%"${sum#??}"}/$sum.erofs" "$1/root"`
	if out, err := exec.CommandContext(t.Context(), "sh", "-c", script, "sh", t.TempDir(), archive, cache).CombinedOutput(); err != nil {
		t.Fatalf("make an erofs image of the layer: %v: %s", err, out)
	}
}

func TestEnginesAreThoseTheProjectIsBuiltWith(t *testing.T) {
	want := version(t, filepath.Join("..", "..", "go.mod"), "github.com/containerd/containerd/v2")
	if got := version(t, filepath.Join("containerd", "go.mod"), "github.com/containerd/containerd/v2"); got != want {
		t.Errorf("the tests' containerd is %s, the project's %s", got, want)
	}
}

func version(t *testing.T, file, module string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(regexp.QuoteMeta(module) + ` (v\S+)`).FindSubmatch(b)
	if m == nil {
		t.Fatalf("%s does not name %s", file, module)
	}
	return string(m[1])
}
