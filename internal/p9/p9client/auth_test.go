// SPDX-License-Identifier: Apache-2.0

package p9client_test

import (
	"bytes"
	"errors"
	"net"
	"sync"
	"testing"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/memfs"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9client"
	"byre.dev/byre/internal/p9/p9srv"
)

// secretShare is a session with a tree that asks for a secret.
func secretShare(t *testing.T, secret string) *p9client.Client {
	t.Helper()
	ours, theirs := net.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() {
		(&p9srv.Server{Root: memfs.New().Root(), Secret: []byte(secret)}).Serve(t.Context(), theirs)
	})
	c, err := p9client.New(ours, p9.MinMsize)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		wg.Wait()
	})
	return c
}

// denied checks that an attach was refused for want of the secret.
func denied(t *testing.T, what string, f *p9client.FID, err error) {
	t.Helper()
	if f != nil || !errors.Is(err, linux.EACCES) {
		t.Errorf("%s: %v, want EACCES", what, err)
	}
}

func TestASecretAttaches(t *testing.T) {
	c := secretShare(t, "open sesame")
	root, err := c.AttachSecret([]byte("open sesame"), "tree", 1000)
	if err != nil {
		t.Fatal(err)
	}
	if a, err := root.Getattr(p9.AttrAll); err != nil || !a.Mode.IsDir() {
		t.Errorf("root is %o, %v", a.Mode, err)
	}
	again, err := c.AttachSecret([]byte("open sesame"), "", 0)
	if err != nil {
		t.Fatal(err)
	}
	if again.Num() > root.Num()+1 {
		t.Errorf("fid %d after %d: those of authentication are kept", again.Num(), root.Num())
	}
}

func TestAttachesWithoutTheSecretAreRefused(t *testing.T) {
	c := secretShare(t, "open sesame")
	f, err := c.Attach("", 0)
	denied(t, "none", f, err)
	for _, s := range []string{"", "open", "open sesame!", "open sesamf", "\x00pen sesame"} {
		f, err = c.AttachSecret([]byte(s), "", 0)
		denied(t, s, f, err)
	}
	// More than a server keeps.
	if f, err = c.AttachSecret(bytes.Repeat([]byte("x"), 4096), "", 0); f != nil || err == nil {
		t.Error("a secret of 4 KiB attaches")
	}
	root, err := c.AttachSecret([]byte("open sesame"), "", 0)
	if err != nil {
		t.Fatal("after all that, with the secret:", err)
	}
	f, err = c.AttachAs(root, "", 0)
	denied(t, "a file for an afid", f, err)
}

// A conversation is about one tree and user, and of one session.
func TestAConversationOpensNothingElse(t *testing.T) {
	one, other := secretShare(t, "one"), secretShare(t, "other")
	afid, err := one.Auth("tree", 7)
	if err != nil {
		t.Fatal(err)
	}
	if afid.QID.Type&p9.QTAuth == 0 {
		t.Errorf("an afid of type %#x", afid.QID.Type)
	}
	if _, err := afid.WriteAt([]byte("one"), 0); err != nil {
		t.Fatal(err)
	}
	f, err := one.AttachAs(afid, "another tree", 7)
	denied(t, "another tree", f, err)
	f, err = one.AttachAs(afid, "tree", 8)
	denied(t, "another user", f, err)
	f, err = other.AttachAs(afid, "tree", 7)
	denied(t, "an afid of another share", f, err)
	f, err = other.AttachSecret([]byte("one"), "tree", 7)
	denied(t, "the secret of another share", f, err)
	for range 2 {
		if _, err := one.AttachAs(afid, "tree", 7); err != nil {
			t.Error("what it is about:", err)
		}
	}
	if err := afid.Clunk(); err != nil {
		t.Fatal(err)
	}
	f, err = one.AttachAs(afid, "tree", 7)
	denied(t, "after its end", f, err)
}

func TestWhereNoSecretIsAskedForThereIsNoConversation(t *testing.T) {
	c := attached(t, p9.MaxMsize).Client()
	if _, err := c.Auth("", 0); !errors.Is(err, linux.ENOENT) {
		t.Errorf("Auth: %v", err)
	}
	if f, err := c.AttachSecret([]byte("x"), "", 0); f != nil || !errors.Is(err, linux.ENOENT) {
		t.Errorf("AttachSecret: %v", err)
	}
}
