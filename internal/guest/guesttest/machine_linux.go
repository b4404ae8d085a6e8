// SPDX-License-Identifier: Apache-2.0

package guesttest

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/guestapi"
	"byre.dev/byre/internal/mux"
	"byre.dev/byre/internal/testenv"
)

// Disk is a disk of a machine; its LUN is its position.
type Disk struct {
	Path     string
	ReadOnly bool
}

// Config is what a test's machine differs in.
type Config struct {
	Disks []Disk
	// Shares are virtio ports named by guestapi.SharePortPrefix; the test
	// connects to Machine.SharePort.
	Shares []string
	// MemoryMiB defaults to 512.
	MemoryMiB int
}

// Machine is a booted guest.
type Machine struct {
	tb      testing.TB
	dir     string
	cmd     *exec.Cmd
	exited  chan struct{}
	Secret  []byte
	Session *mux.Session
	Guest   guestapi.GuestClient
	Task    taskapi.TTRPCTaskService

	// disks is true once LUN 0 and 1 are mounted.
	disks bool

	mu sync.Mutex
	// console is what the guest wrote. Guarded by mu.
	console bytes.Buffer
}

// ImageDir returns where the guest image is: $BYRE_GUEST, else bin/guest of the
// repository. The test is skipped when there is none.
func ImageDir(tb testing.TB) string {
	tb.Helper()
	dir := os.Getenv("BYRE_GUEST")
	if dir == "" {
		dir = filepath.Join(repository(tb), "bin", "guest")
	}
	for _, f := range []string{"vmlinux", "initrd"} {
		if _, err := os.Stat(filepath.Join(dir, f)); err != nil {
			testenv.Skip(tb, testenv.GuestImage, "%s has none: make guest", dir)
		}
	}
	return dir
}

// repository returns the directory of go.mod at or above the test's own.
func repository(tb testing.TB) string {
	tb.Helper()
	dir, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			tb.Fatal("the test runs outside of the repository: BYRE_GUEST names no guest image")
		}
	}
}

// Boot starts a machine whose agent waits for the host; nothing is connected.
func Boot(tb testing.TB, cfg Config) *Machine {
	tb.Helper()
	image := ImageDir(tb)
	qemu := testenv.NeedTool(tb, "qemu-system-x86_64")
	dir, err := os.MkdirTemp("", "guest") // a socket's path is bounded, TempDir's is not
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	m := &Machine{tb: tb, dir: dir, exited: make(chan struct{})}
	m.cmd = exec.Command(qemu, qemuArgs(image, dir, cfg)...)
	m.cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	m.cmd.Stdout, m.cmd.Stderr = m, m
	if err := m.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	go func() { // the cleanup waits for exited
		m.cmd.Wait()
		close(m.exited)
	}()
	tb.Cleanup(m.kill)
	m.AwaitConsole("guest agent waiting", 1)
	return m
}

func qemuArgs(image, dir string, cfg Config) []string {
	mem := cfg.MemoryMiB
	if mem == 0 {
		mem = 512
	}
	args := []string{
		"-machine", "q35,sata=off,smbus=off,usb=off,vmport=off,graphics=off", "-accel", "tcg,thread=multi",
		"-cpu", "max,-erms,-fsrm", "-m", strconv.Itoa(mem), "-smp", "2", "-nodefaults", "-no-user-config", "-no-reboot",
		"-display", "none", "-serial", "stdio",
		"-kernel", filepath.Join(image, "vmlinux"), "-initrd", filepath.Join(image, "initrd"),
		"-append", "console=ttyS0 quiet panic=-1 tsc=reliable no_timer_check swiotlb=noforce rcupdate.rcu_expedited=1",
		"-device", "vmgenid,guid=auto",
		"-device", "virtio-serial-pci,max_ports=31",
		"-chardev", "socket,id=link,path=" + dir + "/link,server=on,wait=off",
		"-device", "virtserialport,chardev=link,name=" + guestapi.LinkPortName,
		"-device", "virtio-scsi-pci,id=scsi0",
		"-netdev", "user,id=net0", "-device", "virtio-net-pci,netdev=net0,romfile=",
	}
	for i, d := range cfg.Disks {
		ro := "off"
		if d.ReadOnly {
			ro = "on"
		}
		args = append(args, "-drive", fmt.Sprintf("if=none,id=d%d,format=raw,discard=unmap,readonly=%s,file=%s", i, ro, d.Path),
			"-device", fmt.Sprintf("scsi-hd,drive=d%d,bus=scsi0.0,channel=0,scsi-id=0,lun=%d", i, i))
	}
	for i, s := range cfg.Shares {
		args = append(args, "-chardev", fmt.Sprintf("socket,id=s%d,path=%s/share.%s,server=on,wait=off", i, dir, s),
			"-device", fmt.Sprintf("virtserialport,chardev=s%d,name=%s%s", i, guestapi.SharePortPrefix, s))
	}
	return args
}

// Write collects the console.
func (m *Machine) Write(b []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.console.Write(b)
}

// Console returns what the guest has written.
func (m *Machine) Console() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.console.String()
}

// AwaitConsole waits until the console shows text n times.
func (m *Machine) AwaitConsole(text string, n int) {
	m.tb.Helper()
	for end := time.Now().Add(60 * time.Second); strings.Count(m.Console(), text) < n; {
		select {
		case <-m.exited:
			m.tb.Fatalf("the machine ended; console:\n%s", m.Console())
		case <-time.After(2 * time.Millisecond):
		}
		if time.Now().After(end) {
			m.tb.Fatalf("no %q on the console:\n%s", text, m.Console())
		}
	}
}

// Done is closed when QEMU has ended.
func (m *Machine) Done() <-chan struct{} { return m.exited }

func (m *Machine) kill() {
	if m.Session != nil {
		m.Session.Close()
	}
	m.cmd.Process.Kill()
	<-m.exited
	if m.tb.Failed() {
		m.tb.Logf("console:\n%s", m.Console())
	}
}

// SharePort connects to a share's port.
func (m *Machine) SharePort(name string) net.Conn {
	m.tb.Helper()
	c, err := net.Dial("unix", filepath.Join(m.dir, "share."+name))
	if err != nil {
		m.tb.Fatal(err)
	}
	return c
}

// Connect opens the link; nothing is said on it.
func (m *Machine) Connect() *mux.Session {
	m.tb.Helper()
	c, err := net.Dial("unix", filepath.Join(m.dir, "link"))
	if err != nil {
		m.tb.Fatal(err)
	}
	s, err := mux.Client(c)
	if err != nil {
		m.tb.Fatal(err)
	}
	m.Session = s
	return s
}

// Stream opens a stream of the link and says its preface.
func (m *Machine) Stream(port uint32, name string) (net.Conn, error) {
	c, err := m.Session.Dial(m.tb.Context(), port)
	if err != nil {
		return nil, err
	}
	secret := m.Secret
	if secret == nil {
		secret = make([]byte, guestapi.SecretSize)
	}
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if err := (guestapi.Preface{Port: port, Name: name}).Open(c, secret); err != nil {
		c.Close()
		return nil, err
	}
	c.SetDeadline(time.Time{})
	return c, nil
}

// Greet opens the agent's connection and says Hello.
func (m *Machine) Greet() *guestapi.HelloResponse {
	m.tb.Helper()
	c, err := m.Stream(guestapi.PortAgent, "")
	if err != nil {
		m.tb.Fatalf("open agent connection: %v", err)
	}
	client := ttrpc.NewClient(c)
	m.tb.Cleanup(func() { client.Close() })
	m.Guest, m.Task = guestapi.NewGuestClient(client), taskapi.NewTTRPCTaskClient(client)
	hello, err := m.Guest.Hello(m.Context(), &guestapi.HelloRequest{Version: guestapi.Version, Build: "test"})
	if err != nil {
		m.tb.Fatalf("Hello: %v", err)
	}
	return hello
}

// Renew renews the machine with a secret of its own.
func (m *Machine) Renew() *guestapi.RenewResponse {
	m.tb.Helper()
	secret := make([]byte, guestapi.SecretSize)
	rand.Read(secret)
	seed := make([]byte, 64)
	rand.Read(seed)
	resp, err := m.Guest.Renew(m.Context(), &guestapi.RenewRequest{
		Seed: seed, WallTimeNs: time.Now().UnixNano(), Hostname: "tested",
		Secret: secret, Nonce: make([]byte, 32),
	})
	if err != nil {
		m.tb.Fatalf("Renew: %v", err)
	}
	m.Secret = secret
	return resp
}

// Start boots, connects, greets and renews.
func Start(tb testing.TB, cfg Config) *Machine {
	tb.Helper()
	m := Boot(tb, cfg)
	m.Connect()
	m.Greet()
	m.Renew()
	return m
}

// Context bounds one call.
func (m *Machine) Context() context.Context {
	ctx, cancel := context.WithTimeout(m.tb.Context(), 60*time.Second)
	m.tb.Cleanup(cancel)
	return ctx
}

// CPU returns the processor time that the machine's QEMU has used: on a busy
// host the one measure of work that repeats.
func (m *Machine) CPU() time.Duration {
	m.tb.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", m.cmd.Process.Pid))
	if err != nil {
		m.tb.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest) // from state on: utime and stime are the 12th and 13th
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100
}
