// SPDX-License-Identifier: Apache-2.0

//go:build linux

package hostfs_test

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"byre.dev/byre/internal/hostfs"
	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/p9/p9test"
)

// victimDir makes this test binary, run again, the server that is killed: it
// works through a script and says after each step, once it is synced, that it
// is done.
const victimDir = "HOSTFS_VICTIM_DIR"

const victimSteps = 1000

func victimConfig(dir string, only bool) hostfs.Config {
	return hostfs.Config{
		Path: filepath.Join(dir, "share"), Mapped: true, SidecarOnly: only, UID: 1, GID: 1, Sidecar: filepath.Join(dir, "side"),
	}
}

func TestAKilledServerLosesNothingThatWasSynced(t *testing.T) {
	if dir := os.Getenv(victimDir); dir != "" {
		runVictim(t, victimConfig(dir, os.Getenv("HOSTFS_VICTIM_ONLY") != ""))
		return
	}
	runs := 6
	if testing.Short() {
		runs = 4
	}
	for run := range runs {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "share"), 0o755); err != nil {
			t.Fatal(err)
		}
		only := run%2 == 1
		// One in each part of the script.
		done := killVictim(t, dir, only, run*victimSteps/runs+rand.IntN(victimSteps/runs-10))
		m := p9test.Client(export(t, victimConfig(dir, only)), 0)
		for i := range done {
			if err := checkStep(m, i); err != nil {
				t.Errorf("killed after step %d: step %d: %v", done, i, err)
			}
		}
		if err := step(m, victimSteps); err != nil { // and works on
			t.Errorf("killed after step %d: %v", done, err)
		}
		t.Logf("killed after step %d", done)
	}
}

// killVictim runs the server, kills it at any moment after a step and tells how
// many it said to be done.
func killVictim(t *testing.T, dir string, only bool, at int) int {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestAKilledServerLosesNothingThatWasSynced$")
	cmd.Env = append(os.Environ(), victimDir+"="+dir)
	if only {
		cmd.Env = append(cmd.Env, "HOSTFS_VICTIM_ONLY=1")
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	in := bufio.NewScanner(out)
	last := 0
	for in.Scan() {
		if n, ok := strings.CutPrefix(in.Text(), "done "); ok {
			fmt.Sscan(n, &last)
			last++
		}
		if last == at+1 {
			// Anywhere in the steps that follow.
			time.AfterFunc(time.Duration(rand.IntN(3000))*time.Microsecond, func() { cmd.Process.Kill() })
		}
	}
	if last <= at {
		t.Fatalf("the server ended by itself after %d steps", last)
	}
	return last
}

func runVictim(t *testing.T, cfg hostfs.Config) {
	m := p9test.Client(export(t, cfg), 0)
	for i := range victimSteps {
		if err := step(m, i); err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString(fmt.Sprintf("done %d\n", i))
	}
}

// step makes a file, a link or a device with metadata of its own, and syncs.
func step(m p9test.Mount, i int) error {
	name := fmt.Sprint("n", i)
	var err error
	switch i % 4 {
	case 0:
		var f p9test.File
		if f, err = m.Open(name, linux.OCreate|linux.ORdwr, 0o640); err != nil {
			return err
		}
		defer f.Close()
		if _, err = f.WriteAt([]byte(name), 0); err == nil {
			err = f.Sync(false)
		}
	case 1:
		err = m.Symlink(name, name)
	case 2:
		err = m.Mknod(name, linux.TypeChar|0o620, uint32(i), 7)
	case 3:
		if err = m.Mkdir(name+".tmp", 0o2750); err == nil {
			err = m.Rename(name+".tmp", name)
		}
	}
	if err == nil {
		err = m.Setattr(name, owned(uint32(1000+i)))
	}
	if err == nil {
		err = m.Setxattr(name, "trusted.step", []byte(name), 0)
	}
	if err != nil {
		return err
	}
	d, err := m.Open("", linux.ORdonly|linux.ODirectory, 0)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync(false)
}

func checkStep(m p9test.Mount, i int) error {
	name := fmt.Sprint("n", i)
	a, err := m.Stat(name)
	if err != nil {
		return err
	}
	want := []linux.Mode{linux.TypeRegular | 0o640, linux.TypeSymlink | 0o777, linux.TypeChar | 0o620, linux.TypeDir | 0o2750}[i%4]
	if a.Mode != want || a.UID != uint32(1000+i) || i%4 == 2 && a.Rdev == 0 {
		return fmt.Errorf("mode %o, uid %d, device %x", a.Mode, a.UID, a.Rdev)
	}
	if v, err := m.Getxattr(name, "trusted.step"); err != nil || string(v) != name {
		return fmt.Errorf("attribute %q: %w", v, err)
	}
	return nil
}
