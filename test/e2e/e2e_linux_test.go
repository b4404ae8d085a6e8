// SPDX-License-Identifier: Apache-2.0

// Package e2e runs the scripts in testdata: each drives the programs in bin/
// (or $BYRE_BIN) as a user does, and boots real virtual machines. Scripts share one
// state directory and daemon; those that kill or break things take a
// home of their own with the command newhome.
package e2e

import (
	"bytes"
	"cmp"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/testenv"
)

// shared is the state directory that most scripts use.
var shared struct {
	bin, root, home, image string
	// tools is a directory of programs for containers, built of test/e2e.
	tools string
}

func TestMain(m *testing.M) {
	os.Exit(mainCode(m))
}

func mainCode(m *testing.M) int {
	code := 1
	if err := setUp(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
	} else {
		code = m.Run()
	}
	if shared.root == "" {
		return code
	}
	defer os.RemoveAll(shared.root)
	if err := stopDaemon(shared.home); err != nil {
		fmt.Fprintln(os.Stderr, "e2e: stop the shared daemon:", err)
		code = 1
	}
	if left := leftovers(shared.root); left != "" {
		fmt.Fprintf(os.Stderr, "e2e: left behind after all scripts:\n%s\n", left)
		code = 1
	}
	return code
}

func setUp() error {
	// Scripts look at what is left of their own; the one about spare machines
	// asks for them.
	if err := os.Setenv("BYRE_SPARES", "0"); err != nil {
		return err
	}
	bin := os.Getenv("BYRE_BIN")
	if bin == "" {
		bin = filepath.Join("..", "..", "bin")
	}
	bin, err := filepath.Abs(bin)
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(bin, "guest", "initrd")); err != nil {
		return fmt.Errorf("%w: run make first", err)
	}
	shared.bin = bin
	// Short: socket paths below it must fit sun_path.
	if shared.root, err = os.MkdirTemp("/tmp", "byre-e2e."); err != nil {
		return err
	}
	shared.home = filepath.Join(shared.root, "home")
	if err := makeTools(); err != nil {
		return err
	}
	shared.image = filepath.Join(shared.root, "busybox.tar")
	mk := exec.Command(filepath.Join("..", "..", "build", "busybox-image"), shared.image)
	if out, err := mk.CombinedOutput(); err != nil {
		return fmt.Errorf("make the busybox image: %w: %s", err, out)
	}
	if err := load(shared.home); err != nil {
		return err
	}
	// The first container makes the template machine that all later ones,
	// also those of other homes, are cloned from.
	return byre(shared.home, "run", "--rm", "busybox", "true")
}

// makeTools builds the programs that scripts run in containers; BYRE_TOOLS names
// a directory that has them, for a user who cannot build.
func makeTools() error {
	if shared.tools = os.Getenv("BYRE_TOOLS"); shared.tools != "" {
		return nil
	}
	shared.tools = filepath.Join(shared.root, "tools")
	for _, args := range [][]string{
		{"build", "-o", shared.tools + string(filepath.Separator), "./..."},
		{"test", "-c", "-o", filepath.Join(shared.tools, "p9suite"), "byre.dev/byre/internal/p9/p9test"},
	} {
		build := exec.Command("go", args...)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build the tools: %w: %s", err, out)
		}
	}
	return nil
}

// byre runs bin/byre over a state directory.
func byre(home string, args ...string) error {
	cmd := exec.Command(filepath.Join(shared.bin, "byre"), args...)
	cmd.Env = append(os.Environ(), "BYRE_HOME="+home)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("byre %s: %w: %s", strings.Join(args, " "), err, out.Bytes())
	}
	return nil
}

func load(home string) error { return byre(home, "load", "-q", "-i", shared.image) }

// rootToo begins the line by which a script says why it runs as root as well as
// for an ordinary user; see testenv.Twice.
const rootToo = "# As root too: "

// scripts are the files of those that run.
func scripts(t *testing.T) (files []string) {
	t.Helper()
	all, err := filepath.Glob(filepath.Join("testdata", "*.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range all {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !testenv.Twice() || bytes.Contains(text, []byte("\n"+rootToo)) {
			files = append(files, file)
		}
	}
	if len(files) == 0 {
		t.Fatal("there are no scripts")
	}
	return files
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Files:               scripts(t),
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("BYRE_HOME", shared.home)
			env.Setenv("BYRE_BIN", shared.bin)
			env.Setenv("BUSYBOX_IMAGE", shared.image)
			env.Setenv("TOOLS", shared.tools)
			env.Setenv("CROWD", cmp.Or(os.Getenv("CROWD"), "12"))
			env.Setenv("BYRE_SPARES", "0")
			env.Setenv("DOCKER_CONFIG", env.WorkDir)
			env.Setenv("PATH", shared.bin+string(os.PathListSeparator)+os.Getenv("PATH"))
			env.Setenv("DOCKER_HOST", "unix://"+filepath.Join(shared.home, "docker.sock"))
			// A prefix for names, because scripts run side by side.
			env.Setenv("N", strings.TrimPrefix(filepath.Base(env.WorkDir), "script-"))
			return nil
		},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "root":
				return os.Getuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"newhome":    newHome,
			"exitcode":   exitCode,
			"retry":      retry,
			"killdaemon": killDaemon,
			"stopdaemon": func(ts *testscript.TestScript, _ bool, _ []string) { ts.Check(stopDaemon(ts.Getenv("BYRE_HOME"))) },
			"killvm":     killVM,
			"killshim":   killShim,
			"pauseshim":  pauseShim,
			"resumeshim": resumeShim,
			"powercut":   powerCut,
			"noleft":     noLeft,
			"within":     within,
			"certificates": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(testenv.Certificates(ts.MkAbs(args[0])))
			},
			"freeport":  freePort,
			"registry":  startRegistry,
			"sshagent":  startAgent,
			"smalldisk": smallDisk,
		},
	})
}

// newHome gives the script a state directory and daemon of its own, with the
// busybox image loaded ("newhome empty" leaves that out).
func newHome(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 1 {
		ts.Fatalf("usage: newhome [empty]")
	}
	home, err := os.MkdirTemp(shared.root, "h.")
	ts.Check(err)
	ts.Check(os.Symlink(filepath.Join(shared.home, "template"), filepath.Join(home, "template")))
	ts.Setenv("BYRE_HOME", home)
	ts.Setenv("DOCKER_HOST", "unix://"+filepath.Join(home, "docker.sock"))
	ts.Defer(func() {
		ts.Check(stopDaemon(home))
		ts.Check(os.RemoveAll(home))
	})
	if len(args) == 0 {
		ts.Check(load(home))
	}
}

// exitCode runs a command and wants its exit code: exitcode 127 byre run …
func exitCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exitcode N command args…")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	if err != nil {
		got = -1
		if s := err.Error(); strings.HasPrefix(s, "exit status ") {
			_, scanErr := fmt.Sscanf(s, "exit status %d", &got)
			ts.Check(scanErr)
		}
	}
	if fmt.Sprint(got) != args[0] {
		ts.Fatalf("exit code %d (%v), want %s", got, err, args[0])
	}
}

// retryFor bounds what retry waits, on a host that does much else.
const retryFor = time.Minute

// retry runs a command until it succeeds, for retryFor at the most.
func retry(ts *testscript.TestScript, neg bool, args []string) {
	deadline := time.Now().Add(retryFor)
	for {
		err := ts.Exec(args[0], args[1:]...)
		if (err == nil) != neg {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("still not after %v: %s: %v", retryFor, strings.Join(args, " "), err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// smallDisk makes a directory that is a file system of so many bytes, for root:
// smalldisk DIR SIZE.
func smallDisk(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: smalldisk DIR SIZE")
	}
	dir := ts.MkAbs(args[0])
	ts.Check(os.Mkdir(dir, 0o755))
	ts.Check(unix.Mount("none", dir, "tmpfs", 0, "size="+args[1]))
	ts.Defer(func() { ts.Check(unix.Unmount(dir, unix.MNT_DETACH)) })
}

// within runs a command and fails when it takes longer: within 10s byre …
func within(ts *testscript.TestScript, neg bool, args []string) {
	limit, err := time.ParseDuration(args[0])
	ts.Check(err)
	start := time.Now()
	err = ts.Exec(args[1], args[2:]...)
	if (err == nil) == neg {
		ts.Fatalf("%s: %v", strings.Join(args[1:], " "), err)
	}
	if took := time.Since(start); took > limit {
		ts.Fatalf("took %v, over %v", took, limit)
	}
}

// freePort sets a variable to a port of loopback that nobody listens on.
func freePort(ts *testscript.TestScript, _ bool, args []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	defer l.Close()
	ts.Setenv(args[0], strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
}

func output(home string, args ...string) (string, error) {
	cmd := exec.Command(filepath.Join(shared.bin, "byre"), args...)
	cmd.Env = append(os.Environ(), "BYRE_HOME="+home)
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("byre %s: %w", strings.Join(args, " "), err)
	}
	return string(out), nil
}
