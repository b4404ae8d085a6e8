// SPDX-License-Identifier: Apache-2.0

// Package guestapi is the contract between host and guest: the generated ttrpc
// Guest service (api/guest/v1/guest.proto), the ports of the guest link, the
// preface that starts every stream, and the version of all of it. Both sides
// import it and nothing else of each other. docs/protocol.md tells the same in
// prose.
package guestapi

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Version is the version of the host–guest contract. Host and guest of
// different versions refuse to work together.
const Version = 9

// Vsock ports of the guest link.
const (
	// PortAgent carries ttrpc: the Guest service and containerd's Task v3. The
	// guest listens.
	PortAgent = 1024
	// PortStdio carries standard streams and archives, one stream each, named
	// in the preface. The guest listens.
	PortStdio = 1025
	// PortShare carries 9P for shares that have no port of their own, named
	// in the preface. The host listens.
	PortShare = 1026
	// PortSocket carries connections to Unix sockets of the guest that the host
	// serves, one stream each, named in the preface after the socket. The host
	// listens once a container was given such a socket.
	PortSocket = 1027
	// PortVolume carries 9P of volumes' disks that the guest has mounted and
	// lends to other machines, named in the preface after the disk's number. The
	// guest listens.
	PortVolume = 1028
)

const (
	// RuntimeDir is where everything that the host asks the guest to make
	// lives in the guest.
	RuntimeDir = "/run/byre"
	// InitPath is the guest's init.
	InitPath = "/init"
	// InitName is the name under which it serves as a container's init.
	InitName = "docker-init"
	// LinkPortName is the virtio-serial port that carries the guest link on
	// machines without AF_VSOCK.
	LinkPortName = "byre.link"
	// SharePortPrefix starts the names of virtio-serial ports that carry one
	// share each.
	SharePortPrefix = "byre.share."
	// SecretSize is the length of the link secret in bytes.
	SecretSize = 32
	// FeaturePort9P is the Hello feature of a guest whose kernel gives a
	// virtio-serial port to v9fs without a relay (kernel/patches).
	FeaturePort9P = "virtio-port-9p"
)

// ContainerDir returns the directory in the guest that belongs to a container:
// its rootfs is mounted at "rootfs" below it.
func ContainerDir(id string) string { return RuntimeDir + "/containers/" + id }

// DiskDir returns where the guest mounts the disk of that number.
func DiskDir(number int) string { return RuntimeDir + "/disks/" + strconv.Itoa(number) }

// VolumeDir returns the directory that containers see of a volume that is the
// disk of that number. What is beside it, the guest alone sees.
func VolumeDir(number int) string { return DiskDir(number) + "/data" }

// Namespace stands in a specification for a namespace, pid or ipc, of another
// container of the machine. There is no such file: the guest knows the process.
func Namespace(id, kind string) string { return ContainerDir(id) + namespaceDir + kind }

const namespaceDir = "/namespaces/"

// OfNamespace returns the container that a path of Namespace's names.
func OfNamespace(path, kind string) (id string, ok bool) {
	id, ok = strings.CutSuffix(path, namespaceDir+kind)
	if !ok {
		return "", false
	}
	id, ok = strings.CutPrefix(id, ContainerDir(""))
	return id, ok && id != "" && !strings.Contains(id, "/")
}

// MaxStreamName bounds a stream's name in bytes.
const MaxStreamName = 128

const (
	// ReplayUID is the user of the host's changes: what has to be told of a
	// change is told on the attach of this user (docs/protocol.md).
	ReplayUID = 0x7ffffff0
	// MaxChanges bounds the changes of one call of Replay.
	MaxChanges = 512
)

const prefaceMagic = "byr1"

// Preface starts every stream of the guest link: what the stream is for and
// proof that its opener knows the link secret.
//
//	"byr1" | name length (1) | name | proof (32)
//
// The answer is one byte: 0 for accepted; else the length of an error text
// that follows. Proof is HMAC-SHA256(secret, port (4, big-endian) | name). Before Renew the
// secret is all zeros, and only PortAgent is served.
type Preface struct {
	// Port is the vsock port that the stream was opened to.
	Port uint32
	// Name names the stream; it may be empty for PortAgent.
	Name string
}

// ErrRefused is wrapped by errors that carry the other side's refusal.
var ErrRefused = errors.New("stream refused")

func (p Preface) proof(secret []byte) []byte {
	mac := hmac.New(sha256.New, secret)
	var port [4]byte
	binary.BigEndian.PutUint32(port[:], p.Port)
	mac.Write(port[:])
	io.WriteString(mac, p.Name)
	return mac.Sum(nil)
}

// Open sends the preface and waits for the answer. Deadlines are the caller's,
// set on rw.
func (p Preface) Open(rw io.ReadWriter, secret []byte) error {
	if len(p.Name) > MaxStreamName {
		return fmt.Errorf("stream name of %d bytes is over %d", len(p.Name), MaxStreamName)
	}
	b := append([]byte(prefaceMagic), byte(len(p.Name)))
	b = append(b, p.Name...)
	b = append(b, p.proof(secret)...)
	if _, err := rw.Write(b); err != nil {
		return fmt.Errorf("send preface for port %d: %w", p.Port, err)
	}
	var n [1]byte
	if _, err := io.ReadFull(rw, n[:]); err != nil {
		return fmt.Errorf("await answer to preface for port %d: %w", p.Port, err)
	}
	if n[0] == 0 {
		return nil
	}
	text := make([]byte, n[0])
	if _, err := io.ReadFull(rw, text); err != nil {
		return fmt.Errorf("read refusal for port %d: %w", p.Port, err)
	}
	return fmt.Errorf("%w: port %d, stream %q: %q", ErrRefused, p.Port, p.Name, text)
}

// ReadPreface reads a preface that arrived on a port and checks its proof. It
// reads no byte beyond the preface and allocates no more than its fixed bounds.
// The caller answers with Accept or Refuse.
func ReadPreface(r io.Reader, port uint32, secret []byte) (Preface, error) {
	var head [len(prefaceMagic) + 1]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return Preface{}, fmt.Errorf("read preface: %w", err)
	}
	if string(head[:len(prefaceMagic)]) != prefaceMagic {
		return Preface{}, errors.New("stream does not start with a preface")
	}
	n := int(head[len(prefaceMagic)])
	if n > MaxStreamName {
		return Preface{}, fmt.Errorf("stream name of %d bytes is over %d", n, MaxStreamName)
	}
	rest := make([]byte, n+sha256.Size)
	if _, err := io.ReadFull(r, rest); err != nil {
		return Preface{}, fmt.Errorf("read preface: %w", err)
	}
	p := Preface{Port: port, Name: string(rest[:n])}
	if !hmac.Equal(rest[n:], p.proof(secret)) {
		return Preface{}, errors.New("wrong link secret")
	}
	return p, nil
}

// Accept answers a preface: the stream is the opener's from here on.
func Accept(w io.Writer) error {
	_, err := w.Write([]byte{0})
	return err
}

// Refuse answers a preface with a reason, cut to 255 bytes.
func Refuse(w io.Writer, reason string) error {
	if reason == "" {
		reason = "refused"
	}
	if len(reason) > 255 {
		reason = reason[:255]
	}
	_, err := w.Write(append([]byte{byte(len(reason))}, reason...))
	return err
}
