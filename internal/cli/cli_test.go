// SPDX-License-Identifier: Apache-2.0

//go:build unix

package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/docker/cli/cli/command"

	"byre.dev/byre/internal/daemonapi"
	"byre.dev/byre/internal/home"
	"byre.dev/byre/internal/localsock"
)

// daemonMode tells the test's program, started again as "serve", which daemon to
// be.
const daemonMode = "BYRE_CLI_TEST_DAEMON"

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "serve" {
		os.Exit(daemon(os.Getenv(daemonMode)))
	}
	os.Exit(m.Run())
}

// daemon answers on its door for a moment, or ends in another way.
func daemon(mode string) int {
	dir := home.Dir(os.Getenv(home.Env))
	starts, err := os.OpenFile(dir.Path("starts"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 9
	}
	defer starts.Close()
	fmt.Fprintln(starts, os.Getpid())
	switch mode {
	case "broken":
		fmt.Println("the disk is on fire")
		return 3
	case "taken once":
		if b, _ := os.ReadFile(dir.Path("starts")); strings.Count(string(b), "\n") == 1 {
			return daemonapi.ExitTaken
		}
	case "late":
		time.Sleep(300 * time.Millisecond)
		fmt.Fprintln(starts, "found it taken")
		return daemonapi.ExitTaken
	}
	if err := os.WriteFile(dir.Path("daemon.pid"), fmt.Appendln(nil, os.Getpid()), 0o600); err != nil {
		return 9
	}
	l, err := localsock.Listen(dir.Path("docker.sock"))
	if err != nil {
		return 9
	}
	defer l.Close()
	time.AfterFunc(20*time.Second, func() { os.Exit(8) }) // nobody ended it
	for {
		c, err := l.Accept()
		if err != nil {
			return 0
		}
		b := make([]byte, 3)
		if n, _ := io.ReadFull(c, b); string(b[:n]) == "end" {
			return 0
		}
	}
}

// newHome is short: a socket's path is bounded.
func newHome(t *testing.T) home.Dir {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "byre-cli")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if c, err := localsock.Dial(context.Background(), filepath.Join(dir, "docker.sock")); err == nil {
			io.WriteString(c, "end")
			io.Copy(io.Discard, c)
			c.Close()
		}
		os.RemoveAll(dir)
	})
	return home.Dir(dir)
}

func starts(t *testing.T, dir home.Dir) int {
	t.Helper()
	b, err := os.ReadFile(dir.Path("starts"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return strings.Count(string(b), "\n")
}

func TestTheFirstCommandStartsTheDaemonAndTheOthersFindIt(t *testing.T) {
	t.Setenv(daemonMode, "good")
	dir := newHome(t)
	a := &autostart{home: dir, program: os.Args[0], progress: io.Discard}
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			c, err := a.dial(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			c.Close()
		})
	}
	wg.Wait()
	if n := starts(t, dir); n != 1 {
		t.Errorf("%d daemons were started", n)
	}
	if fi, err := os.Stat(dir.Path("serve.log")); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the daemon's log: %v, %v", fi, err)
	}
}

func TestADaemonThatEndsWhileStartingShowsItsLog(t *testing.T) {
	t.Setenv(daemonMode, "broken")
	dir := newHome(t)
	a := &autostart{home: dir, program: os.Args[0], progress: io.Discard}
	if _, err := a.dial(t.Context()); err == nil {
		t.Error("a daemon that ended was reached")
	}
	_, err := a.dial(t.Context()) // docker's client shows the last of several
	if err == nil || !strings.Contains(err.Error(), "the disk is on fire") || !strings.Contains(err.Error(), "exit status 3") ||
		!strings.Contains(err.Error(), dir.Path("serve.log")) {
		t.Errorf("err = %v", err)
	}
	if n := starts(t, dir); n != 1 {
		t.Errorf("%d daemons were started", n)
	}
}

func TestADaemonThatIsEndingIsWaitedFor(t *testing.T) {
	t.Setenv(daemonMode, "taken once")
	dir := newHome(t)
	var said bytes.Buffer
	c, err := (&autostart{home: dir, program: os.Args[0], progress: &said}).dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if n := starts(t, dir); n != 2 || !strings.Contains(said.String(), "waiting for the daemon") {
		t.Errorf("%d daemons were started; said %q", n, said.String())
	}
}

func TestACommandStaysUntilTheDaemonThatItStartedInVainHasEnded(t *testing.T) {
	t.Setenv(daemonMode, "late")
	dir := newHome(t)
	if err := os.WriteFile(dir.Path("daemon.pid"), []byte("1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := localsock.Listen(dir.Path("docker.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := (&autostart{home: dir, program: os.Args[0], progress: io.Discard}).launch(t.Context()); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(dir.Path("starts")); err != nil || !strings.Contains(string(b), "found it taken") {
		t.Errorf("the command went on with its daemon still starting: %q, %v", b, err)
	}
}

func TestTheDaemonsLogIsSetAsideWhenItIsLong(t *testing.T) {
	path := filepath.Join(t.TempDir(), "serve.log")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, at, err := openLog(path)
	if err != nil || at != 3 {
		t.Fatalf("offset %d, %v", at, err)
	}
	fmt.Fprint(f, strings.Repeat("an early line\n", 1000)+"the last line\n\n")
	f.Close()
	got := string(tail(path, at))
	if !strings.HasSuffix(got, "the last line") || len(got) > logTail || !strings.HasPrefix(got, "an early line\n") {
		t.Errorf("tail of %d bytes: %.40q … ", len(got), got)
	}
	if err := os.Truncate(path, maxLog+1); err != nil {
		t.Fatal(err)
	}
	f, at, err = openLog(path)
	if err != nil || at != 0 {
		t.Fatalf("offset %d, %v", at, err)
	}
	f.Close()
	if fi, err := os.Stat(path + ".1"); err != nil || fi.Size() != maxLog+1 {
		t.Errorf("the log set aside: %v, %v", fi, err)
	}
}

func TestExitCodesSayHowACommandEnded(t *testing.T) {
	dir := newHome(t)
	// Where a process cannot become another program, that one's exit code comes back.
	cfg := Config{Home: dir, Become: func(args ...string) error {
		return exec.Command("sh", "-c", map[string]string{
			daemonapi.Serve: fmt.Sprint("exit ", daemonapi.ExitTaken), daemonapi.Doctor: "exit 1",
		}[args[0]]).Run()
	}}
	for _, c := range []struct {
		args []string
		code int
	}{
		{[]string{"serve"}, daemonapi.ExitTaken},
		{[]string{"serve", "more"}, 1},
		{[]string{"doctor"}, 1},
		{[]string{"no-such-command"}, 1},
		{[]string{"stack", "deploy", "-c", "x", "y"}, 1},
		{[]string{"run", "--no-such-flag"}, 125},
		{[]string{"--version"}, 0},
	} {
		if got := Main(t.Context(), cfg, c.args); got != c.code {
			t.Errorf("%v: exit code %d, want %d", c.args, got, c.code)
		}
	}
	if n := starts(t, dir); n != 0 {
		t.Errorf("%d daemons were started by commands that need none", n)
	}
}

func TestTheDaemonsProgramIsToldWhatServeWasTold(t *testing.T) {
	var told []string
	cfg := Config{Home: newHome(t), Become: func(args ...string) error { told = args; return nil }}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"serve"}, "serve"},
		{[]string{"doctor"}, "doctor"},
		{
			[]string{"serve", "--host", "tcp://:2376", "--tlsverify", "--tlscacert", "a", "--tlscert", "b", "--tlskey", "c"},
			"serve --tcp=:2376 --tlscacert=a --tlscert=b --tlskey=c",
		},
	} {
		if code := Main(t.Context(), cfg, c.args); code != 0 || strings.Join(told, " ") != c.want {
			t.Errorf("%q: exit code %d, told %q", c.args, code, told)
		}
	}
}

func TestASignalGives128AndItsNumber(t *testing.T) {
	dir := newHome(t)
	l, err := localsock.Listen(dir.Path("docker.sock"))
	if err != nil {
		t.Fatal(err)
	}
	// A daemon that is asked and does not answer.
	srv := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		<-r.Context().Done()
	})}
	var wg sync.WaitGroup
	wg.Go(func() { srv.Serve(l) })
	defer wg.Wait()
	defer srv.Close()
	if got := Main(t.Context(), Config{Home: dir}, []string{"ps"}); got != 128+int(syscall.SIGTERM) {
		t.Errorf("exit code %d", got)
	}
}

// counting is a daemon that answers pings and counts what it is asked.
func counting(t *testing.T, l net.Listener) *atomic.Int32 {
	t.Helper()
	asked := new(atomic.Int32)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.Header().Set("Api-Version", "1.51")
		io.WriteString(w, "{}")
	})}
	var wg sync.WaitGroup
	wg.Go(func() { srv.Serve(l) })
	t.Cleanup(func() {
		srv.Close()
		wg.Wait()
	})
	return asked
}

func TestByreMeansItsOwnDaemonUnlessAnotherIsNamed(t *testing.T) {
	dir := newHome(t)
	l, err := localsock.Listen(dir.Path("docker.sock"))
	if err != nil {
		t.Fatal(err)
	}
	own := counting(t, l)
	l, err = net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	other, address := counting(t, l), "tcp://127.0.0.1:"+strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	t.Setenv("DOCKER_HOST", address)
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	t.Setenv("DOCKER_TLS_VERIFY", "1")
	Main(t.Context(), Config{Home: dir}, []string{"version"})
	if own.Load() == 0 || other.Load() != 0 {
		t.Errorf("DOCKER_HOST is followed: %d requests to byre, %d to the other", own.Load(), other.Load())
	}
	t.Setenv("DOCKER_TLS_VERIFY", "")
	before := own.Load()
	Main(t.Context(), Config{Home: dir}, []string{"-H", address, "version"})
	if own.Load() != before || other.Load() == 0 {
		t.Errorf("-H is not followed: %d requests to byre, %d to the other", own.Load()-before, other.Load())
	}
}

func TestTheCommandsOfSwarmsAreRefusedByName(t *testing.T) {
	for _, name := range swarmCommands {
		root, _ := rootCommand(newDockerCli(t), Config{})
		root.SetArgs([]string{name, "ls", "--no-such-flag"})
		if err := root.Execute(); err == nil || !strings.Contains(err.Error(), name+": byre has no swarm") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The package of a command that a newer docker adds would be missing without a
// word.
func TestAllOfDockersCommandsAreLinkedButThoseOfSwarms(t *testing.T) {
	const prefix = "github.com/docker/cli/cli/command/"
	imports := func(pkg string) (names []string) {
		out, err := exec.Command("go", "list", "-f", `{{join .Imports "\n"}}`, pkg).Output()
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(out)) {
			if name, ok := strings.CutPrefix(strings.TrimSpace(line), prefix); ok {
				names = append(names, name)
			}
		}
		return names
	}
	got := append(imports("byre.dev/byre/internal/cli"), swarmCommands...)
	slices.Sort(got)
	want := imports(prefix + "commands")
	if slices.Sort(want); len(want) == 0 || !slices.Equal(got, want) {
		t.Errorf("linked or swarm's: %v\ndocker's: %v", got, want)
	}
}

func newDockerCli(t *testing.T) *command.DockerCli {
	t.Helper()
	c, err := command.NewDockerCli()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSwarmIsNotOffered(t *testing.T) {
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout := os.Stdout
	os.Stdout = in
	code := Main(t.Context(), Config{Home: newHome(t)}, []string{"--help"})
	os.Stdout = stdout
	in.Close()
	b, err := io.ReadAll(out)
	out.Close()
	if err != nil || code != 0 {
		t.Fatalf("exit code %d, %v", code, err)
	}
	for _, want := range []string{"byre [OPTIONS] COMMAND", "  serve", "  doctor", "  run"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("help has no %q", want)
		}
	}
	for _, unwanted := range []string{"  swarm", "  stack", "  node", daemonapi.Network} {
		if strings.Contains(string(b), unwanted+" ") {
			t.Errorf("help offers %q", unwanted)
		}
	}
}
