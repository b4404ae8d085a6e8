// SPDX-License-Identifier: Apache-2.0

package foreign

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/testenv"
)

// dockerd is a dockerd of the test's own, on a containerd of its own.
type dockerd struct {
	t *testing.T
	// host is where it listens, client the docker that speaks to it.
	host, client string
}

// startDockerd starts a dockerd that changes nothing of the host's network, with
// busybox in its store, and ends it with the test.
func startDockerd(t *testing.T) *dockerd {
	t.Helper()
	program := buildDockerd(t)
	c := startContainerd(t, "")
	d := &dockerd{t: t, host: "unix://" + c.dir + "/d.sock", client: testenv.NeedTool(t, "docker")}
	// It looks for runc on its PATH and does not start without; this is the
	// guest's.
	programs := filepath.Join(c.dir, "programs")
	if err := os.Mkdir(programs, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{program, filepath.Join(binDir(t), "obj", "runc")} {
		if err := os.Symlink(p, filepath.Join(programs, filepath.Base(p))); err != nil {
			t.Fatal(err)
		}
	}
	config := filepath.Join(c.dir, "daemon.json")
	if err := os.WriteFile(config, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // after dockerd's end, which leaves this one mounted
		if err := unix.Unmount(c.dir+"/exec/netns/default", unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			t.Errorf("unmount what dockerd left: %v", err)
		}
	})
	serve(t, c.dir, c.home, filepath.Join(programs, "dockerd"), "--config-file", config, "-H", d.host,
		"--containerd", c.dir+"/c.sock", "--data-root", c.dir+"/data", "--exec-root", c.dir+"/exec", "-p", c.dir+"/d.pid",
		"--bridge=none", "--iptables=false", "--ip6tables=false", "--userland-proxy=false")
	await(t, filepath.Join(c.dir, "dockerd.log"), func() error {
		_, err := d.try("", "info")
		return err
	})
	d.docker("load", "-i", busyboxArchive(t))
	return d
}

// buildDockerd takes minutes the first time.
func buildDockerd(t *testing.T) string {
	t.Helper()
	needRoot(t)
	cmd := exec.CommandContext(t.Context(), filepath.Join("..", "..", "build", "dockerd"))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		testenv.Skip(t, testenv.Tool, "dockerd could not be built: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// command is the system's docker: the one in byre speaks to byre alone.
func (d *dockerd) command(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, d.client, append([]string{"-H", d.host}, args...)...)
}

func (d *dockerd) try(stdin string, args ...string) (result, error) {
	ctx, cancel := context.WithTimeout(d.t.Context(), patience)
	defer cancel()
	cmd := d.command(ctx, args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	err := cmd.Run()
	r := result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
	if exit := new(exec.ExitError); errors.As(err, &exit) && ctx.Err() == nil {
		return r, fmt.Errorf("docker %s: exit code %d: %s", strings.Join(args, " "), r.code, r.stderr)
	}
	return r, err
}

// docker runs a command and wants it to succeed.
func (d *dockerd) docker(args ...string) string {
	d.t.Helper()
	r, err := d.try("", args...)
	if err != nil {
		d.t.Fatal(err)
	}
	return r.stdout
}

// run runs a container with no network to its end.
func (d *dockerd) run(stdin string, args ...string) result {
	d.t.Helper()
	r, err := d.try(stdin, append([]string{"run", "--rm", "-i", "--runtime", runtime, "--network", "none"}, args...)...)
	if r.code < 0 {
		d.t.Fatal(err)
	}
	return r
}

// start starts a container that is removed with the test.
func (d *dockerd) start(name string, args ...string) {
	d.t.Helper()
	d.docker(append([]string{"run", "-d", "--name", name, "--runtime", runtime}, args...)...)
	d.t.Cleanup(func() {
		d.t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if out, err := d.command(ctx, "rm", "-f", name).CombinedOutput(); err != nil {
			d.t.Errorf("remove %s: %v: %s", name, err, out)
		}
	})
}

func TestContainersRunUnderADockerdThatKnowsNothingOfByre(t *testing.T) {
	d := startDockerd(t)
	for _, tt := range []struct {
		name string
		run  func(*testing.T, *dockerd)
	}{
		{"output, exit code and the root file system", dockerRun},
		{"a bind mount and a volume", dockerMounts},
		{"standard input and 8 MiB of output", dockerStreams},
		{"exec, logs, pause, stop, kill", dockerControl},
		{"the engine plugs nothing into the host's network", dockerNetwork},
		{"an option that no machine has is refused", dockerRefused},
	} {
		t.Run(strings.ReplaceAll(tt.name, " ", "_"), func(t *testing.T) {
			sub := *d
			sub.t = t
			tt.run(t, &sub)
		})
	}
	if left := d.docker("ps", "-aq"); left != "" {
		t.Errorf("containers left: %s", left)
	}
}

func dockerRun(t *testing.T, d *dockerd) {
	r := d.run("", "-h", "box", "-e", "SAID=hello", "busybox", "sh", "-c",
		"uname -r; hostname; echo $SAID; echo made >/new; cat /new; grep -c '^overlay / ' /proc/mounts; df -k /dev/shm | grep -c 65536; echo said >&2; exit 7")
	kernel, rest, _ := strings.Cut(r.stdout, "\n")
	if !strings.HasSuffix(kernel, "-byre") || rest != "box\nhello\nmade\n1\n1\n" || r.stderr != "said\n" || r.code != 7 {
		t.Errorf("got %+v; want a kernel of byre's, an overlay that takes a file, and exit code 7", r)
	}
	if r := d.run("", "busybox", "no-such-command"); r.code != 127 || !strings.Contains(r.stderr, "no-such-command") {
		t.Errorf("a command that is not there: %+v", r)
	}
	if r := d.run("", "--read-only", "-u", "1000:1000", "-w", "/tmp", "busybox", "sh", "-c", "id -u; pwd; touch /tmp/x"); r.stdout != "1000\n/tmp\n" || r.code != 1 {
		t.Errorf("an ordinary user on a read-only root: %+v", r)
	}
}

func dockerMounts(t *testing.T, d *dockerd) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "in"), []byte("from the host\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := d.run("", "-v", dir+":/data", "-v", dir+"/in:/file:ro", "-v", "kept:/vol", "busybox", "sh", "-c",
		"cat /data/in /file; echo from the guest >/data/out; echo kept >/vol/x; echo >/file")
	if r.stdout != "from the host\nfrom the host\n" || r.code != 1 || !strings.Contains(r.stderr, "Read-only") {
		t.Errorf("got %+v; want both files and the last write refused", r)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "out")); string(b) != "from the guest\n" {
		t.Errorf("the host sees %q, %v", b, err)
	}
	if r := d.run("", "-v", "kept:/vol", "busybox", "cat", "/vol/x"); r.stdout != "kept\n" {
		t.Errorf("the volume has %+v", r)
	}
	d.docker("volume", "rm", "kept")
}

func dockerStreams(t *testing.T, d *dockerd) {
	if r := d.run("one\ntwo\n", "busybox", "cat"); r.stdout != "one\ntwo\n" || r.code != 0 {
		t.Errorf("cat gave %+v", r)
	}
	if r := d.run("", "busybox", "dd", "if=/dev/zero", "bs=1M", "count=8"); len(r.stdout) != 8<<20 || r.code != 0 {
		t.Errorf("%d bytes came, want %d; %s", len(r.stdout), 8<<20, r.stderr)
	}
	if s := d.docker("run", "--rm", "-t", "--runtime", runtime, "--network", "none", "busybox", "tty"); s != "/dev/pts/0\r\n" {
		t.Errorf("the terminal is %q", s)
	}
}

func dockerControl(t *testing.T, d *dockerd) {
	d.start("ctl", "--network", "none", "-m", "64m", "busybox", "sh", "-c",
		`trap "echo bye; exit 5" TERM; echo ready; while :; do sleep 0.1; done`)
	d.awaitLog("ctl", "ready\n")
	if r, _ := d.try("", "exec", "ctl", "sh", "-c", "echo out; echo err >&2; exit 3"); r != (result{"out\n", "err\n", 3}) {
		t.Errorf("exec gave %+v", r)
	}
	if r, _ := d.try("through\n", "exec", "-i", "ctl", "cat"); r != (result{stdout: "through\n"}) {
		t.Errorf("exec with input gave %+v", r)
	}
	d.docker("pause", "ctl")
	if s := d.docker("inspect", "-f", "{{.State.Status}}", "ctl"); s != "paused\n" {
		t.Errorf("after pause: %s", s)
	}
	d.docker("unpause", "ctl")
	if s := d.docker("stats", "--no-stream", "--format", "{{.MemUsage}}", "ctl"); !strings.Contains(s, "/ 64MiB") {
		t.Errorf("figures: %s", s)
	}
	// The one process that the host has for the container is the machine.
	if s := d.docker("top", "ctl", "-o", "pid,comm"); strings.Count(s, "\n") != 2 || !strings.Contains(s, "qemu") {
		t.Errorf("top: %s", s)
	}
	d.docker("stop", "-t", "60", "ctl")
	if s := d.docker("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "ctl"); s != "exited 5\n" {
		t.Errorf("after stop: %s", s)
	}
	if s := d.docker("logs", "ctl"); s != "ready\nbye\n" {
		t.Errorf("the log has %q", s)
	}
	d.docker("start", "ctl")
	d.awaitLog("ctl", "ready\nbye\nready\n")
	d.docker("kill", "ctl")
	if s := d.docker("wait", "ctl"); s != "137\n" {
		t.Errorf("after kill: %s", s)
	}
}

func (d *dockerd) awaitLog(name, want string) {
	d.t.Helper()
	deadline := time.Now().Add(patience)
	for d.docker("logs", name) != want {
		if time.Now().After(deadline) {
			d.t.Fatalf("the log of %s has %q, want %q", name, d.docker("logs", name), want)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// dockerNetwork has dockerd plug a link into the namespace of the container's
// process, which must not be the host's.
func dockerNetwork(t *testing.T, d *dockerd) {
	d.docker("network", "create", "--subnet", "198.18.78.0/24", "bridged")
	t.Cleanup(func() {
		if out, err := d.command(context.Background(), "network", "rm", "bridged").CombinedOutput(); err != nil {
			t.Errorf("remove the network: %v: %s", err, out)
		}
	})
	d.start("net", "--network", "bridged", "busybox", "sh", "-c", "ping -c 1 -W 20 192.168.127.1 >/dev/null && echo connected; exec sleep 1000")
	d.awaitLog("net", "connected\n")
	pid := strings.TrimSpace(d.docker("inspect", "-f", "{{.State.Pid}}", "net"))
	ours, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	if theirs, err := os.Readlink("/proc/" + pid + "/ns/net"); err != nil || theirs == ours {
		t.Errorf("the machine's network is %s, %v; the host's is %s", theirs, err, ours)
	}
	if b, err := os.ReadFile("/proc/" + pid + "/net/dev"); !bytes.Contains(b, []byte("eth0:")) {
		t.Errorf("dockerd plugged nothing: %s, %v", b, err)
	}
	if r := d.run("", "busybox", "ping", "-c", "1", "-W", "2", "192.168.127.1"); r.code != 1 || !strings.Contains(r.stdout, "100% packet loss") {
		t.Errorf("--network none reaches the gateway: %+v", r)
	}
	r, err := d.try("", "run", "--rm", "--runtime", runtime, "--network", "container:net", "busybox", "true")
	if err == nil || !strings.Contains(r.stderr, "network namespace") {
		t.Errorf("another's network was joined: %+v", r)
	}
}

func dockerRefused(t *testing.T, d *dockerd) {
	for option, want := range map[string]string{
		"--network=host":      "network namespace of the host",
		"--pid=host":          "pid namespace of the host",
		"--ipc=host":          "ipc namespace of the host",
		"--device=/dev/loop0": "/dev/loop0",
		"-v=/dev/null:/x":     "only directories and regular files",
	} {
		r, err := d.try("", "run", "--rm", "--runtime", runtime, option, "busybox", "true")
		if err == nil || !strings.Contains(r.stderr, want) {
			t.Errorf("%s: got %+v, want an error that says %q", option, r, want)
		}
	}
}
