// SPDX-License-Identifier: Apache-2.0

package initd

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What boots and stops a machine is tested in one (test/guest): here it would
// stop the machine that runs the tests.

func connection(t *testing.T) (*linkConn, *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c := &linkConn{File: r, first: []byte("first"), opened: make(chan struct{})}
	t.Cleanup(func() {
		c.Close()
		w.Close()
	})
	return c, w
}

func TestALinkGivesNothingBeforeThereIsAListener(t *testing.T) {
	c, w := connection(t)
	io.WriteString(w, " then")
	w.Close()
	got := make(chan string, 1)
	go func() { // received below
		b, _ := io.ReadAll(c)
		got <- string(b)
	}()
	select {
	case s := <-got:
		t.Fatalf("read %q before the link was opened", s)
	case <-time.After(50 * time.Millisecond):
	}
	c.open()
	c.open()
	if s := <-got; s != "first then" {
		t.Errorf("read %q", s)
	}
}

func TestClosingALinkEndsAReadThatWaits(t *testing.T) {
	c, _ := connection(t)
	c.first = nil
	ended := make(chan error, 1)
	go func() { // received below
		_, err := c.Read(make([]byte, 1))
		ended <- err
	}()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	select {
	case err := <-ended:
		if err == nil {
			t.Error("a read of a closed link succeeds")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the read still waits")
	}
}

func TestAStepOfTheStopThatHangsIsLeft(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	err := bounded("unmount", 20*time.Millisecond, func(context.Context) error {
		<-release // a share whose server is gone heeds nothing
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "unmount: no end after 20ms") {
		t.Errorf("err = %v", err)
	}
	broken := errors.New("broken")
	if err := bounded("flush", time.Minute, func(context.Context) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("err = %v", err)
	}
	if err := bounded("flush", time.Minute, func(context.Context) error { return nil }); err != nil {
		t.Error(err)
	}
}

func TestSettingsOfFeaturesThatAreNotThereArePassedOver(t *testing.T) {
	dir := t.TempDir()
	if err := (setting{filepath.Join(dir, "missing"), "1"}).do(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "missing")); err == nil {
		t.Error("the file was made")
	}
	path := filepath.Join(dir, "there")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (setting{path, "value"}).do(); err != nil {
		t.Error(err)
	}
	if b, _ := os.ReadFile(path); string(b) != "value" {
		t.Errorf("the file holds %q", b)
	}
	if err := (setting{dir, "1"}).do(); err == nil {
		t.Error("a setting that is refused is no error")
	}
}
