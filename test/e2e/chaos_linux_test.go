// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"byre.dev/byre/internal/testenv"
)

const (
	// chaosSteps is how many steps the test takes when BYRE_CHAOS_STEPS says
	// nothing; `make chaos` takes 200.
	chaosSteps = 8
	// writtenEvery is after how many steps what was written is looked for.
	writtenEvery = 10
	// chaosLimit bounds one command: a machine that starts on a busy host takes
	// a while, and a command that waits for what was killed must not wait for ever.
	chaosLimit = 4 * time.Minute
	// chaosContainers, chaosVolumes and chaosNetworks are how many there are at
	// most.
	chaosContainers, chaosVolumes, chaosNetworks = 4, 3, 2
)

// chaos is a random walk over containers, volumes and networks in which
// something is killed at most of the steps, and what is known of the things by
// what commands have acknowledged.
type chaos struct {
	t    *testing.T
	home string
	rnd  *rand.Rand

	containers map[string]*walker
	volumes    map[string]bool
	networks   map[string]bool
	// made counts the names given.
	made int

	// mu guards what follows.
	mu sync.Mutex
	// written has, by volume, the files whose writing was acknowledged.
	written map[string][]string
	// late counts the starts that were given up for their time.
	late int
	// trace has one line for each command and each kill.
	trace []string
	begun time.Time
}

// walker is a container of the walk.
type walker struct {
	name, kind string
	volume     string
	// disturbed says that something was done to it since it last ended by itself
	// that makes 137 a true exit code: a kill, from outside or by a command.
	disturbed bool
	// unsure says that a command about it was cut off by a kill.
	unsure bool
	// explained is an end that was found true: it stays until the next.
	explained end
	// mayRest says that it need not run whatever its restart policy: it was not
	// told to start, or told to end since, or nobody knows. Without it a policy
	// that restarts has it running.
	mayRest bool
}

// kind is what a container runs, and how it ends by itself.
type kind struct {
	script string
	code   int
	// policy is its restart policy, "" for none.
	policy string
}

// Scripts of kinds.
const (
	polite   = `trap 'echo ended 5; exit 5' TERM; echo begun; while true; do sleep 1000 & wait $!; done`
	brief    = `echo begun; sleep 2; echo ended 3; exit 3`
	stubborn = `trap '' TERM; echo begun; while true; do sleep 1000 & wait $!; done`
)

var kinds = map[string]kind{
	"polite":   {polite, 5, ""},
	"brief":    {brief, 3, ""},
	"stubborn": {stubborn, -1, ""},
	"always":   {polite, 5, "always"},
	"unless":   {stubborn, -1, "unless-stopped"},
	"retried":  {brief, 3, "on-failure:2"},
	"failing":  {polite, 5, "on-failure"},
}

// retries is how often a container of the kind retried is started again.
const retries = 2

// ends says that it ends by itself, at any time.
func (k kind) ends() bool { return k.script == brief }

// stays says that its policy starts it again whatever ended it; what fails is
// started again by "on-failure" too.
func (k kind) stays() bool { return k.policy != "" && !k.ends() }

// TestKilledAtRandom kills -9 the daemon, shims and machines at random points of
// a random script. After every step each container is in a true state; in the
// end everything can be removed and nothing is left.
//
// BYRE_CHAOS_STEPS is how many steps there are, BYRE_CHAOS_SEED repeats a walk
// as far as times allow.
func TestKilledAtRandom(t *testing.T) {
	testenv.Once(t)
	steps := number(t, "BYRE_CHAOS_STEPS", chaosSteps)
	seed := number(t, "BYRE_CHAOS_SEED", int(time.Now().UnixNano()&0xffffff))
	t.Logf("%d steps, BYRE_CHAOS_SEED=%d", steps, seed)
	c := &chaos{
		t: t, home: chaosHome(t), rnd: rand.New(rand.NewPCG(uint64(seed), 1)),
		containers: map[string]*walker{}, volumes: map[string]bool{}, networks: map[string]bool{}, written: map[string][]string{},
		begun: time.Now(),
	}
	defer func() {
		if t.Failed() {
			c.tell()
		}
	}()
	before := c.inventory()
	for i := range steps {
		c.note("step %d", i)
		c.step()
		c.reconcile()
		if i%writtenEvery == writtenEvery-1 || i == steps-1 {
			c.checkWritten()
		}
		if t.Failed() {
			return
		}
	}
	if c.late*lateShare > steps {
		t.Errorf("at %d of %d steps a machine did not start in time", c.late, steps)
	}
	c.removeAll()
	c.nothingLeft(before)
}

// number reads a number from the environment.
func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("%s=%s: no number", name, s)
	}
	return n
}

// chaosHome is a state directory of the test's own, with busybox loaded.
func chaosHome(t *testing.T) string {
	t.Helper()
	home, err := os.MkdirTemp(shared.root, "k.")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(shared.home, "template"), filepath.Join(home, "template")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stopDaemon(home); err != nil {
			t.Error(err)
		}
		if err := os.RemoveAll(home); err != nil {
			t.Error(err)
		}
	})
	if err := load(home); err != nil {
		t.Fatal(err)
	}
	// The first container of a home starts its network.
	if err := byre(home, "run", "--rm", "busybox", "true"); err != nil {
		t.Fatal(err)
	}
	return home
}

func (c *chaos) note(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	line := fmt.Sprintf("%7.2f ", time.Since(c.begun).Seconds()) + fmt.Sprintf(format, args...)
	c.trace = append(c.trace, line)
	if os.Getenv("BYRE_CHAOS_STEPS") != "" && testing.Verbose() {
		fmt.Fprintln(os.Stderr, line)
	}
}

// tell shows what was done, and the end of the daemon's log.
func (c *chaos) tell() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t.Logf("what was done:\n%s", strings.Join(c.trace, "\n"))
	b, err := os.ReadFile(filepath.Join(c.home, "serve.log"))
	if err != nil {
		c.t.Log(err)
		return
	}
	c.t.Logf("the daemon's log ends:\n%s", b[max(0, len(b)-16<<10):])
}

// run runs byre and returns its output; a command that does not return is a
// fault.
func (c *chaos) run(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), chaosLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(shared.bin, "byre"), args...)
	cmd.Env = append(os.Environ(), "BYRE_HOME="+c.home)
	// A daemon that the command starts must not hold up the end of its output.
	cmd.WaitDelay = 5 * time.Second
	var out, diag bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &diag
	begun := time.Now()
	err := cmd.Run()
	c.note("byre %s: %.1f s, %v %s%s", strings.Join(args, " "), time.Since(begun).Seconds(), err, tailOf(out.String()), tailOf(diag.String()))
	if ctx.Err() != nil && c.t.Context().Err() == nil {
		c.t.Errorf("byre %s does not return within %v", strings.Join(args, " "), chaosLimit)
	}
	if err != nil {
		err = fmt.Errorf("byre %s: %w: %s", strings.Join(args, " "), err, diag.String())
	}
	return out.String(), err
}

func tailOf(s string) string {
	s = strings.TrimSpace(s)
	return s[max(0, len(s)-400):]
}

// step does one to three things side by side while something may be killed.
func (c *chaos) step() {
	var works []func(*bool)
	taken := map[string]bool{}
	for range 1 + c.rnd.IntN(3) {
		if work := c.choose(taken); work != nil {
			works = append(works, work)
		}
	}
	kill := c.chooseKill()
	var done sync.WaitGroup
	killed := new(bool)
	done.Go(func() { kill(killed) })
	var results sync.WaitGroup
	disturbed := make([]bool, len(works))
	for i, work := range works {
		results.Go(func() { work(&disturbed[i]) })
	}
	results.Wait()
	done.Wait()
	if slices.Contains(disturbed, true) && !*killed {
		c.t.Errorf("a command failed at a step at which nothing was killed")
	}
}

// chooseKill decides what is killed in this step, and when.
func (c *chaos) chooseKill() func(killed *bool) {
	after := time.Duration(c.rnd.IntN(4000)) * time.Millisecond
	if c.rnd.IntN(3) == 0 {
		after /= 10
	}
	what := []string{"", "", "daemon", "daemon", "qemu-system", "containerd-shim"}[c.rnd.IntN(6)]
	pick := c.rnd.Uint32()
	return func(killed *bool) {
		if what == "" {
			return
		}
		time.Sleep(after)
		var victims []process
		for _, p := range processesOf(c.home) {
			if what == "daemon" && strings.Contains(p.cmd, "byred serve") || what != "daemon" && strings.Contains(p.cmd, what) {
				victims = append(victims, p)
			}
		}
		if len(victims) == 0 {
			return
		}
		victim := victims[int(pick)%len(victims)]
		*killed = true
		c.note("kill -9 %d after %v: %.300s", victim.pid, after, victim.cmd)
		_ = syscall.Kill(victim.pid, syscall.SIGKILL)
		awaitEnd(victim)
		if what == "daemon" {
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, w := range c.containers {
			w.disturbed = true
		}
	}
}

// awaitEnd waits until a process that was killed is none any more, or a zombie: a
// large one takes a moment, in which it looks alive.
func awaitEnd(p process) {
	for range 500 {
		if cmd, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.pid), "cmdline")); len(cmd) == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}
