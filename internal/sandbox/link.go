// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"byre.dev/byre/internal/guestapi"
	"byre.dev/byre/internal/vm"
)

// link is the connection to the guest agent, renewed.
type link struct {
	client   *ttrpc.Client
	guest    guestapi.GuestClient
	task     taskapi.TTRPCTaskService
	secret   []byte
	kernel   string
	features []string
}

// greet dials the agent, compares versions and renews the machine.
func greet(ctx context.Context, m vm.Machine, cfg Config) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, agentWait)
	defer cancel()
	l, err := newLink(ctx, m, cfg, make([]byte, guestapi.SecretSize))
	if err != nil {
		return nil, err
	}
	if err := l.renew(ctx, cfg); err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

// newLink dials the agent of a machine that has taken secret, which is zeros
// before its first renewal, and compares versions.
func newLink(ctx context.Context, m vm.Machine, cfg Config, secret []byte) (_ *link, err error) {
	conn, err := dialAgent(ctx, m, secret)
	if err != nil {
		return nil, err
	}
	client := ttrpc.NewClient(conn, ttrpc.WithUnaryClientInterceptor(caller{m}.call))
	defer func() {
		if err != nil {
			err = errors.Join(err, client.Close())
		}
	}()
	l := &link{
		client: client, guest: guestapi.NewGuestClient(client), task: taskapi.NewTTRPCTaskClient(client), secret: secret,
	}
	hello, err := l.hello(ctx, cfg)
	if err != nil {
		return nil, err
	}
	l.kernel, l.features = bounded(hello.GetKernel()), boundedAll(hello.GetFeatures())
	return l, nil
}

func dialAgent(ctx context.Context, m vm.Machine, secret []byte) (net.Conn, error) {
	conn, err := m.Dial(ctx, guestapi.PortAgent)
	if err != nil {
		return nil, fmt.Errorf("dial guest agent: %w", err)
	}
	// A stuck guest must not hold the preface longer than ctx allows.
	unblock := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	err = guestapi.Preface{Port: guestapi.PortAgent}.Open(conn, secret)
	if !unblock() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("greet guest agent: %w", err), conn.Close())
	}
	return conn, nil
}

func (l *link) hello(ctx context.Context, cfg Config) (*guestapi.HelloResponse, error) {
	r, err := l.guest.Hello(ctx, &guestapi.HelloRequest{Version: guestapi.Version, Build: cfg.Build})
	if err != nil {
		return nil, fmt.Errorf("greet guest agent: %w", err)
	}
	if r.GetVersion() != guestapi.Version {
		return nil, fmt.Errorf("guest image (build %q) speaks version %d of the host-guest contract, this shim (build %q) version %d: install programs and guest image of one release",
			bounded(r.GetBuild()), r.GetVersion(), cfg.Build, guestapi.Version)
	}
	return r, nil
}

// renew makes the clone a machine of its own. Without the proof that the guest
// took the new secret the machine is not used.
func (l *link) renew(ctx context.Context, cfg Config) error {
	var random [64 + guestapi.SecretSize + 32]byte
	// crypto/rand.Read never fails; it ends the program instead.
	_, _ = rand.Read(random[:])
	seed, rest := random[:64], random[64:]
	l.secret = bytes.Clone(rest[:guestapi.SecretSize])
	nonce := rest[guestapi.SecretSize:]
	hostname, domainname := names(cfg)
	r, err := l.guest.Renew(ctx, &guestapi.RenewRequest{
		Seed: seed, WallTimeNs: time.Now().UnixNano(), Hostname: hostname, Domainname: domainname,
		Secret: l.secret, Nonce: nonce,
	})
	if err != nil {
		return fmt.Errorf("renew machine: %w", err)
	}
	mac := hmac.New(sha256.New, l.secret)
	mac.Write(nonce)
	if !hmac.Equal(mac.Sum(nil), r.GetProof()) {
		return errors.New("renew machine: the guest did not prove that it was renewed")
	}
	if len(r.GetSample()) != 32 || bytes.Equal(r.GetSample(), make([]byte, 32)) {
		return errors.New("renew machine: the guest shows no fresh random bytes")
	}
	return nil
}

func names(cfg Config) (hostname, domainname string) {
	hostname = cfg.Hostname
	if cfg.Network != nil {
		if cfg.Network.Hostname != "" {
			hostname = cfg.Network.Hostname
		}
		domainname = cfg.Network.Domainname
	}
	if hostname == "" {
		hostname = hostnameOf(cfg.ID)
	}
	return hostname, domainname
}

// maxHostname is Linux's limit less one.
const maxHostname = 63

// hostnameOf makes a host name of a sandbox's ID, which may hold more than a
// name may.
func hostnameOf(id string) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '-'
	}, id)
	name = strings.Trim(name[:min(len(name), maxHostname)], "-")
	if name == "" {
		return "byre"
	}
	return name
}

func (l *link) close() error { return l.client.Close() }

// bounded cuts what the guest says of itself to what a person reads.
func bounded(s string) string { return s[:min(len(s), 128)] }

func boundedAll(all []string) []string {
	all = all[:min(len(all), 32)]
	for i := range all {
		all[i] = bounded(all[i])
	}
	return all
}

// consoleShown is how much of the console goes into an error.
const consoleShown = 2 << 10

// withConsole adds to an error why the machine ended, if it did, and the last
// of its console, escaped.
func withConsole(err error, m vm.Machine) error {
	select {
	case <-m.Done():
		if m.Err() != nil {
			err = fmt.Errorf("%w (machine ended: %w)", err, m.Err())
		} else {
			err = fmt.Errorf("%w (machine powered off)", err)
		}
	default:
	}
	tail := m.Console()
	if len(tail) > consoleShown {
		tail = tail[len(tail)-consoleShown:]
		if i := bytes.IndexByte(tail, '\n'); i >= 0 {
			tail = tail[i+1:]
		}
	}
	if len(tail) == 0 {
		return err
	}
	return fmt.Errorf("%w; end of the machine's console:\n%s", err, escape(tail))
}

// escape makes a guest's bytes harmless to a terminal, line by line.
func escape(b []byte) string {
	var sb strings.Builder
	for line := range bytes.SplitSeq(bytes.TrimRight(b, "\r\n"), []byte("\n")) {
		sb.WriteString("\t| ")
		q := fmt.Sprintf("%q", bytes.TrimRight(line, "\r"))
		sb.WriteString(strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`))
		sb.WriteByte('\n')
	}
	return strings.TrimRight(sb.String(), "\n")
}

// guestError is an error that the guest answered: its class, and its text made
// harmless.
type guestError struct {
	text  string
	class error
}

func (e *guestError) Error() string { return e.text }
func (e *guestError) Unwrap() error { return e.class }

// maxGuestError bounds the text of an error from the guest.
const maxGuestError = 4 << 10

// fromGuest turns what a call to the guest returned into an error of ours.
func fromGuest(err error) error {
	if err == nil {
		return nil
	}
	st, ok := status.FromError(err)
	if !ok {
		if errors.Is(err, ttrpc.ErrClosed) {
			return fmt.Errorf("guest agent: connection lost: %w", errdefs.ErrUnavailable)
		}
		return err
	}
	text := st.Message()
	text = strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || (r >= ' ' && r != 0x7f && !(r >= 0x80 && r < 0xa0)) {
			return r
		}
		return '?'
	}, text[:min(len(text), maxGuestError)])
	return &guestError{text: text, class: errdefs.Resolve(errgrpc.ToNative(err))}
}

// answerWait is how long the guest may take to answer a call: much longer than
// a busy host without virtualization needs, so that only an agent that is stuck
// is given up.
const answerWait = 2 * time.Minute

// patient tells which calls last as long as what they wait for or carry.
func patient(method string) bool {
	return slices.Contains([]string{
		"Wait", "Delete", "ReadArchive", "WriteArchive", "Trim", "Unmount", "PowerOff",
	}, method)
}

// caller makes the calls to a machine's agent.
type caller struct{ machine vm.Machine }

// call is the interceptor of every call: it bounds the wait and makes errors
// ours. ttrpc keeps the guest's own errors in the response.
func (c caller) call(ctx context.Context, req *ttrpc.Request, resp *ttrpc.Response, _ *ttrpc.UnaryClientInfo, invoke ttrpc.Invoker) error {
	bounded := ctx
	if !patient(req.GetMethod()) {
		var cancel context.CancelFunc
		bounded, cancel = context.WithTimeout(ctx, answerWait)
		defer cancel()
	}
	if err := invoke(bounded, req, resp); err != nil {
		if ctx.Err() == nil && errors.Is(bounded.Err(), context.DeadlineExceeded) {
			err = fmt.Errorf("guest agent did not answer %s within %v: %w", req.GetMethod(), answerWait, errdefs.ErrUnavailable)
			return withConsole(err, c.machine)
		}
		return fromGuest(err)
	}
	if resp.GetStatus().GetCode() == int32(codes.OK) {
		return nil
	}
	err := fromGuest(status.ErrorProto(resp.GetStatus()))
	resp.Status = nil
	return err
}
