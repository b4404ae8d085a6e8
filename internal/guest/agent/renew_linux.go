// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
	"unsafe"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"byre.dev/byre/internal/guestapi"
)

const (
	minSeed   = 32
	maxSeed   = 512
	nonceSize = 32
	maxName   = 64 // the kernel's bound of host and domain names
)

// Renew makes a clone a machine of its own. Everything is checked before
// anything is changed; the secret is taken last.
func (s *session) Renew(_ context.Context, r *guestapi.RenewRequest) (*guestapi.RenewResponse, error) {
	if err := checkRenewal(r); err != nil {
		return nil, err
	}
	if err := reseed(r.Seed); err != nil {
		return nil, fmt.Errorf("renew random seed: %w", err)
	}
	ts := unix.NsecToTimespec(r.WallTimeNs)
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
		return nil, fmt.Errorf("set clock: %w", err)
	}
	if err := unix.Sethostname([]byte(r.Hostname)); err != nil {
		return nil, fmt.Errorf("set host name: %w", err)
	}
	if err := unix.Setdomainname([]byte(r.Domainname)); err != nil {
		return nil, fmt.Errorf("set domain name: %w", err)
	}
	id, err := newMachineID()
	if err != nil {
		return nil, fmt.Errorf("renew machine id: %w", err)
	}
	sample, err := random(32)
	if err != nil {
		return nil, err
	}
	s.adopt(r.Secret)
	mac := hmac.New(sha256.New, r.Secret)
	mac.Write(r.Nonce)
	return &guestapi.RenewResponse{
		Proof: mac.Sum(nil), Sample: sample, WallTimeNs: time.Now().UnixNano(),
		Hostname: r.Hostname, MachineId: id,
	}, nil
}

func checkRenewal(r *guestapi.RenewRequest) error {
	var reason string
	switch {
	case len(r.Seed) < minSeed || len(r.Seed) > maxSeed:
		reason = fmt.Sprintf("seed of %d bytes", len(r.Seed))
	case len(r.Secret) != guestapi.SecretSize:
		reason = fmt.Sprintf("secret of %d bytes", len(r.Secret))
	case !slices.ContainsFunc(r.Secret, func(b byte) bool { return b != 0 }):
		reason = "secret of zeros"
	case len(r.Nonce) != nonceSize:
		reason = fmt.Sprintf("nonce of %d bytes", len(r.Nonce))
	case r.WallTimeNs <= 0:
		reason = "no wall time"
	case r.Hostname == "" || len(r.Hostname) > maxName || len(r.Domainname) > maxName:
		reason = fmt.Sprintf("host name %q", r.Hostname)
	default:
		return nil
	}
	return fmt.Errorf("renewal: %s: %w", reason, errdefs.ErrInvalidArgument)
}

func (a *Agent) adopt(secret []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.secret, a.renewed = slices.Clone(secret), true
}

// Linux's random(4) requests.
const (
	rndAddEntropy = 0x40085203
	rndReseedCRNG = 0x5207
)

// reseed mixes a seed into the kernel's random source, credits it, and has the
// generator take a new key from it at once, so that no byte drawn later depends
// on what other clones share.
func reseed(seed []byte) error {
	f, err := os.OpenFile("/dev/urandom", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info := binary.NativeEndian.AppendUint32(nil, uint32(len(seed)*8))
	info = binary.NativeEndian.AppendUint32(info, uint32(len(seed)))
	info = append(info, seed...)
	// SAFETY: struct rand_pool_info, alive until the call returns.
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), rndAddEntropy, uintptr(unsafe.Pointer(&info[0]))); errno != 0 {
		return fmt.Errorf("add entropy: %w", errno)
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), rndReseedCRNG, 0); errno != 0 {
		return fmt.Errorf("reseed generator: %w", errno)
	}
	return nil
}

// random draws from the kernel's source, past any buffer of this process.
func random(n int) ([]byte, error) {
	b := make([]byte, n)
	got, err := unix.Getrandom(b, 0)
	if err != nil {
		return nil, fmt.Errorf("draw random bytes: %w", err)
	}
	if got != n {
		return nil, errors.New("draw random bytes: too few")
	}
	return b, nil
}

func newMachineID() (string, error) {
	b, err := random(16)
	if err != nil {
		return "", err
	}
	id := hex.EncodeToString(b)
	return id, os.WriteFile("/etc/machine-id", []byte(id+"\n"), 0o444)
}
