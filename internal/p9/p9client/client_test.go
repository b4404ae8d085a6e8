// SPDX-License-Identifier: Apache-2.0

package p9client_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"byre.dev/byre/internal/linux"
	"byre.dev/byre/internal/memfs"
	"byre.dev/byre/internal/p9"
	"byre.dev/byre/internal/p9/p9client"
	"byre.dev/byre/internal/p9/p9srv"
)

// server serves an empty tree and returns the client's end.
func server(t *testing.T) net.Conn {
	t.Helper()
	ours, theirs := net.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() { (&p9srv.Server{Root: memfs.New().Root()}).Serve(t.Context(), theirs) })
	t.Cleanup(func() {
		ours.Close()
		wg.Wait()
	})
	return ours
}

func attached(t *testing.T, msize uint32) *p9client.FID {
	t.Helper()
	c, err := p9client.New(server(t), msize)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	root, err := c.Attach("", 0)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// scripted is a server that answers each request by what reply makes of its tag.
func scripted(t *testing.T, reply func(typ p9.Type, tag uint16) []byte) net.Conn {
	t.Helper()
	ours, theirs := net.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() {
		defer theirs.Close()
		for {
			header := make([]byte, p9.HeaderSize)
			if _, err := io.ReadFull(theirs, header); err != nil {
				return
			}
			size, typ, tag := p9.Header(header)
			if _, err := io.CopyN(io.Discard, theirs, int64(size)-p9.HeaderSize); err != nil {
				return
			}
			b := reply(typ, tag)
			if b == nil {
				return
			}
			if _, err := theirs.Write(b); err != nil {
				return
			}
		}
	})
	t.Cleanup(func() {
		ours.Close()
		wg.Wait()
	})
	return ours
}

func version(msize uint32, v string) []byte {
	return p9.AppendFrame(nil, p9.NoTag, &p9.Rversion{Msize: msize, Version: v})
}

func TestFilesAreWrittenAndReadInPieces(t *testing.T) {
	root := attached(t, p9.MinMsize)
	f, err := root.Walk()
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Create("file", linux.ORdwr, 0o644, 0); err != nil {
		t.Fatal(err)
	}
	text := bytes.Repeat([]byte("0123456789"), 5000)
	for n := 0; n < len(text); {
		m, err := f.WriteAt(text[n:], int64(n))
		if err != nil || m == 0 || m > p9.MinMsize {
			t.Fatalf("write at %d: %d, %v", n, m, err)
		}
		n += m
	}
	got := make([]byte, 0, len(text))
	for {
		b := make([]byte, len(text))
		m, err := f.ReadAt(b, int64(len(got)))
		if err != nil || m == 0 {
			break
		}
		got = append(got, b[:m]...)
	}
	if !bytes.Equal(got, text) {
		t.Errorf("%d bytes read of %d", len(got), len(text))
	}
	if err := f.Clunk(); err != nil {
		t.Error(err)
	}
}

func TestLongWalksGoInSteps(t *testing.T) {
	root := attached(t, p9.MaxMsize)
	at, names := root, []string{}
	for range p9.MaxWalk + 3 {
		if _, err := at.Mkdir("d", 0o755, 0); err != nil {
			t.Fatal(err)
		}
		names = append(names, "d")
		next, err := at.Walk("d")
		if err != nil {
			t.Fatal(err)
		}
		at = next
	}
	deep, err := root.Walk(names...)
	if err != nil || deep.QID != at.QID {
		t.Errorf("walk of %d names: %v, %v, want %v", len(names), deep, err, at.QID)
	}
	if _, err := root.Walk(append(names, "e")...); !errors.Is(err, linux.ENOENT) {
		t.Errorf("walk to what is not there: %v", err)
	}
	if _, err := root.Walk("x"); !errors.Is(err, linux.ENOENT) {
		t.Errorf("walk to what is not there: %v", err)
	}
}

func TestFIDsOfFailedWalksAreUsedAgain(t *testing.T) {
	root := attached(t, p9.MaxMsize)
	high := uint32(0)
	for range 50 {
		if _, err := root.Walk("x"); err == nil {
			t.Fatal("found")
		}
		f, err := root.Walk()
		if err != nil {
			t.Fatal(err)
		}
		high = max(high, f.Num())
		if err := f.Clunk(); err != nil {
			t.Fatal(err)
		}
	}
	if high > root.Num()+2 {
		t.Errorf("fids up to %d for two at a time", high)
	}
}

func TestConcurrentCallsGetTheirOwnReplies(t *testing.T) {
	root := attached(t, p9.MaxMsize)
	for _, name := range []string{"a", "b", "c", "d"} {
		if _, err := root.Symlink(name, "to "+name, 0); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			name := string(rune('a' + i%4))
			f, err := root.Walk(name)
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Clunk()
			if got, err := f.Readlink(); err != nil || got != "to "+name {
				t.Errorf("%s leads %q, %v", name, got, err)
			}
		})
	}
	wg.Wait()
}

func TestServersThatAnswerWrongEndTheSession(t *testing.T) {
	huge := p9.AppendFrame(nil, 0, &p9.Rclunk{})
	binary.LittleEndian.PutUint32(huge, 1<<30)
	for name, answer := range map[string]func(tag uint16) []byte{
		"another tag":   func(tag uint16) []byte { return p9.AppendFrame(nil, tag+1, &p9.Rattach{}) },
		"a huge frame":  func(uint16) []byte { return huge },
		"a short frame": func(uint16) []byte { return []byte{3, 0, 0, 0, 0, 0, 0} },
		"another type":  func(tag uint16) []byte { return p9.AppendFrame(nil, tag, &p9.Rclunk{}) },
		"nothing more":  func(uint16) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			c, err := p9client.New(scripted(t, func(typ p9.Type, tag uint16) []byte {
				if typ == p9.TypeTversion {
					return version(p9.MaxMsize, p9.Version)
				}
				return answer(tag)
			}), p9.MaxMsize)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Attach("", 0); err == nil {
				t.Error("the attach succeeded")
			}
			c.Close()
			if _, err := c.Attach("", 0); !errors.Is(err, p9client.ErrClosed) {
				t.Errorf("after the end: %v", err)
			}
		})
	}
}

func TestSessionsThatCannotBeginSayWhy(t *testing.T) {
	if _, err := p9client.New(scripted(t, func(p9.Type, uint16) []byte { return version(8192, "9P2000.u") }), 8192); err == nil {
		t.Error("a server of another dialect is taken")
	}
	if _, err := p9client.New(scripted(t, func(p9.Type, uint16) []byte { return nil }), 8192); !errors.Is(err, p9client.ErrClosed) {
		t.Errorf("a server that hangs up: %v", err)
	}
	for range 5000 { // the reader is at times the first to see it
		ours, theirs := net.Pipe()
		theirs.Close()
		ended := make(chan error, 1)
		go func() { // received below
			_, err := p9client.New(ours, 8192)
			ended <- err
		}()
		select {
		case err := <-ended:
			if err == nil {
				t.Error("a session on a dead connection")
			}
		case <-time.After(10 * time.Second):
			t.Fatal("New hangs on a dead connection")
		}
	}
}

func TestABatchTakesAsManyRepliesAsWereAsked(t *testing.T) {
	b, err := p9client.NewBatch(server(t), "", 0)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		b.Add(uint16(i), &p9.Tgetattr{FID: 0, Mask: p9.AttrBasic})
	}
	ended := make(chan error, 1)
	go func() { ended <- b.Exchange(100) }() // received below
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the replies do not come")
	}
	b.Add(1, &p9.Twalk{FID: 0, NewFID: 1, Names: []string{"x"}})
	if err := b.Exchange(1); !errors.Is(err, linux.ENOENT) {
		t.Errorf("a refusal: %v", err)
	}
}
