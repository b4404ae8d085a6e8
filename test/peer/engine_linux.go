// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// engine is a daemon with a state directory of its own below /tmp.
type engine struct {
	l         *lab
	name, dir string
	// host is where it listens, bins the directory of programs it is started
	// with, around what a suite is started through.
	host, bins string
	around     []string
	images     []string
	running    []*exec.Cmd
}

// startPatience bounds what an engine needs to answer, and to end.
const startPatience = time.Minute

func (l *lab) newEngine(ctx context.Context, name string, images []string) (_ *engine, err error) {
	dir, err := os.MkdirTemp("/tmp", "peer.")
	if err != nil {
		return nil, err
	}
	e := &engine{l: l, name: name, dir: dir, images: images, host: "unix://" + dir + "/docker.sock", bins: filepath.Join(dir, "bin")}
	if err := e.start(ctx); err != nil {
		return nil, errors.Join(err, e.stop())
	}
	return e, nil
}

func (e *engine) start(ctx context.Context) error {
	var err error
	switch e.name {
	case "byre":
		err = e.startByre()
	case "dockerd":
		err = e.startDockerd(ctx)
	default:
		return errors.New("there is no such engine; byre and dockerd are known")
	}
	if err != nil {
		return err
	}
	if err := e.await(ctx); err != nil {
		return err
	}
	for _, image := range e.images {
		if _, err := e.docker(ctx, "load", "-q", "-i", image); err != nil {
			return err
		}
	}
	return nil
}

func (e *engine) startByre() error {
	return e.spawn(nil, filepath.Join(e.l.root, "bin", "byre"), "serve")
}

// startDockerd starts a dockerd on a containerd, in network and mount namespaces
// of their own: nothing of the host's network is changed, and nothing is left
// mounted.
func (e *engine) startDockerd(ctx context.Context) error {
	dockerd, err := output(ctx, e.l.root, "build/dockerd")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(e.bins, 0o755); err != nil {
		return err
	}
	pins := filepath.Join(e.l.root, "test", "foreign", "containerd")
	for _, p := range []string{"containerd", "containerd-shim-runc-v2"} {
		if _, err := output(ctx, pins, "go", "build", "-trimpath", "-o", filepath.Join(e.bins, p), "github.com/containerd/containerd/v2/cmd/"+p); err != nil {
			return err
		}
	}
	for _, p := range []string{strings.TrimSpace(dockerd), filepath.Join(e.l.root, "bin", "obj", "runc")} {
		if err := os.Symlink(p, filepath.Join(e.bins, filepath.Base(p))); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	config := filepath.Join(e.dir, "daemon.json")
	if err := os.WriteFile(config, []byte("{}"), 0o600); err != nil {
		return err
	}
	// dockerd starts and ends the containerd that is on its PATH.
	const script = `ip link set lo up; exec "$0" "$@"`
	err = e.spawn([]string{"unshare", "--net", "--mount", "sh", "-c", script}, filepath.Join(e.bins, "dockerd"),
		"--config-file", config, "-H", e.host, "--data-root", e.dir+"/data", "--exec-root", e.dir+"/exec", "-p", e.dir+"/d.pid",
		"--iptables=false", "--ip6tables=false", "--userland-proxy=false")
	if err != nil {
		return err
	}
	pid := e.running[len(e.running)-1].Process.Pid
	e.around = []string{"nsenter", "--target", strconv.Itoa(pid), "--net", "--"}
	return nil
}

// spawn starts a program of the engine's, its log beside its files.
func (e *engine) spawn(around []string, program string, args ...string) error {
	log, err := os.OpenFile(filepath.Join(e.dir, e.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	all := append(append(around, program), args...)
	cmd := exec.Command(all[0], all[1:]...)
	cmd.Env = append(os.Environ(), "BYRE_HOME="+e.dir, "PATH="+e.bins+":"+filepath.Join(e.l.root, "bin")+":"+os.Getenv("PATH"))
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return err
	}
	e.running = append(e.running, cmd)
	return nil
}

// docker is the system's: the one in byre speaks to byre alone.
func (e *engine) docker(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	return output(ctx, e.dir, append([]string{"docker", "-H", e.host}, args...)...)
}

func (e *engine) await(ctx context.Context) error {
	deadline := time.Now().Add(startPatience)
	for {
		_, err := e.docker(ctx, "version")
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			log, _ := os.ReadFile(filepath.Join(e.dir, e.name+".log"))
			return fmt.Errorf("%w: not ready: %s", err, log[max(0, len(log)-2<<10):])
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// recover removes the containers that a test has left, because the next one
// would take them for part of the place. An engine that does not answer is
// started anew.
func (e *engine) recover(ctx context.Context) error {
	left, err := e.docker(ctx, "ps", "-aq")
	if err == nil && left != "" {
		_, err = e.docker(ctx, append([]string{"rm", "-f", "-v"}, strings.Fields(left)...)...)
	}
	if err == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	fmt.Printf("%s: started anew, because: %v\n", e.name, err)
	return errors.Join(e.end(), e.start(ctx))
}

// end ends the programs, in order if they do so in time.
func (e *engine) end() error {
	var errs []error
	for _, cmd := range e.running {
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }() // ends with the program, which is killed at the latest
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-done:
		case <-time.After(startPatience):
			errs = append(errs, fmt.Errorf("%s did not end in %v", e.name, startPatience))
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			<-done
		}
	}
	e.running = nil
	return errors.Join(errs...)
}

// stop removes all containers, ends the engine and removes its files.
func (e *engine) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*startPatience)
	defer cancel()
	if left, err := e.docker(ctx, "ps", "-aq"); err == nil && left != "" {
		_, _ = e.docker(ctx, append([]string{"rm", "-f", "-v"}, strings.Fields(left)...)...)
	}
	err := e.end()
	e.endRest()
	return errors.Join(err, os.RemoveAll(e.dir))
}

// endRest ends what outlives a daemon for the sake of containers, of which there
// are none: the processes that were started with a path of this engine's.
func (e *engine) endRest() {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		b, err := os.ReadFile(file)
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err == nil && pid != os.Getpid() && strings.Contains(string(b), e.dir+"/") {
			_ = syscall.Kill(pid, syscall.SIGTERM)
		}
	}
}
