// SPDX-License-Identifier: Apache-2.0

package logs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"byre.dev/byre/internal/engine/logs"
)

func open(t *testing.T, opts logs.Options) (*logs.File, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "c-json.log")
	l, err := logs.Open(path, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l, path
}

func write(t *testing.T, l *logs.File, stream, text string) {
	t.Helper()
	if err := l.Write(stream, []byte(text), time.Now()); err != nil {
		t.Fatal(err)
	}
}

func text(t *testing.T, path string, q logs.Query) string {
	t.Helper()
	var b strings.Builder
	err := logs.Read(t.Context(), path, q, func(e logs.Entry) error {
		b.Write(e.Line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestBytesComeBackAsTheyWereWritten(t *testing.T) {
	l, path := open(t, logs.Options{})
	all := make([]byte, 0, 70_000)
	for i := range 70_000 {
		all = append(all, byte(i*7), byte(i>>8))
	}
	all = append(all, "\x00<&>\"\\\r\t\u2028 \xff\xfe end"...)
	for p := all; len(p) > 0; {
		n := min(len(p), 4097)
		write(t, l, logs.Stdout, string(p[:n]))
		p = p[n:]
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got := text(t, path, logs.Query{Tail: -1}); got != string(all) {
		t.Fatalf("read %d bytes that differ from the %d written", len(got), len(all))
	}
}

func TestEntriesAreInDockersFormat(t *testing.T) {
	l, path := open(t, logs.Options{})
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	if err := l.Write(logs.Stderr, []byte("a \"b\"\n"), at); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"log":"a \"b\"\n","stream":"stderr","time":"2026-01-02T03:04:05.000000006Z"}` + "\n"
	if diff := cmp.Diff(want, string(b)); diff != "" {
		t.Error(diff)
	}
}

func TestTailCountsEntriesAcrossRotatedFiles(t *testing.T) {
	l, path := open(t, logs.Options{MaxSize: 300, MaxFiles: 4})
	for i := range 9 {
		write(t, l, logs.Stdout, fmt.Sprintf("line %d\n", i))
	}
	if _, err := os.Stat(path + ".1"); err != nil {
		t.Fatal("the log was not rotated:", err)
	}
	for _, tc := range []struct {
		tail int
		want string
	}{
		{0, ""}, {1, "line 8\n"}, {5, "line 4\nline 5\nline 6\nline 7\nline 8\n"},
	} {
		if got := text(t, path, logs.Query{Tail: tc.tail}); got != tc.want {
			t.Errorf("tail %d: %q, want %q", tc.tail, got, tc.want)
		}
	}
}

func TestRotationKeepsNoMoreFilesThanAsked(t *testing.T) {
	l, path := open(t, logs.Options{MaxSize: 200, MaxFiles: 3})
	for i := range 100 {
		write(t, l, logs.Stdout, fmt.Sprintf("line %d\n", i))
	}
	files, err := filepath.Glob(path + "*")
	if err != nil || len(files) != 3 {
		t.Fatalf("files %v, error %v; want 3", files, err)
	}
	if got := text(t, path, logs.Query{Tail: -1}); !strings.HasSuffix(got, "line 98\nline 99\n") {
		t.Fatalf("the end of the log is %q", got)
	}
}

func TestOutputThatComesAtOnceIsRotatedLineByLine(t *testing.T) {
	l, path := open(t, logs.Options{MaxSize: 300, MaxFiles: 2})
	write(t, l, logs.Stdout, strings.Repeat("line\n", 100)+"end\n")
	for _, name := range []string{path, path + ".1"} {
		if info, err := os.Stat(name); err != nil || info.Size() > 400 {
			t.Errorf("%s: %v, error %v; want at most 300 bytes and a line", name, info, err)
		}
	}
	if got := text(t, path, logs.Query{Tail: -1}); !strings.HasSuffix(got, "line\nend\n") || strings.Count(got, "\n") > 10 {
		t.Errorf("the log is %q", got)
	}
}

func TestSinceAndUntilBoundTheTime(t *testing.T) {
	l, path := open(t, logs.Options{})
	base := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range 5 {
		if err := l.Write(logs.Stdout, fmt.Appendf(nil, "%d\n", i), base.Add(time.Duration(i)*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	got := text(t, path, logs.Query{Tail: -1, Since: base.Add(time.Second), Until: base.Add(3 * time.Second)})
	if got != "1\n2\n3\n" {
		t.Fatalf("got %q", got)
	}
}

func TestFollowersMissNothingAcrossRotation(t *testing.T) {
	l, _ := open(t, logs.Options{MaxSize: 4 << 10, MaxFiles: 100})
	const lines = 3000
	var got bytes.Buffer
	var wg sync.WaitGroup
	var readErr error
	wg.Go(func() {
		readErr = l.Read(t.Context(), logs.Query{Tail: -1, Follow: true}, func(e logs.Entry) error {
			got.Write(e.Line)
			return nil
		})
	})
	var want bytes.Buffer
	for i := range lines {
		line := fmt.Sprintf("line %d\n", i)
		want.WriteString(line)
		write(t, l, logs.Stdout, line)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if readErr != nil {
		t.Fatal(readErr)
	}
	if !bytes.Equal(got.Bytes(), want.Bytes()) {
		t.Fatalf("a follower read %d bytes, %d were written", got.Len(), want.Len())
	}
}

func TestFollowerEndsWithItsContext(t *testing.T) {
	l, _ := open(t, logs.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Read(ctx, logs.Query{Tail: -1, Follow: true}, func(logs.Entry) error { return nil }) }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v, want that of the context", err)
	}
}

func TestUnfinishedLineIsFlushedAsAPart(t *testing.T) {
	l, path := open(t, logs.Options{})
	write(t, l, logs.Stdout, "prompt> ")
	if !l.Pending(logs.Stdout) || text(t, path, logs.Query{Tail: -1}) != "" {
		t.Fatal("an unfinished line did not wait")
	}
	if err := l.Flush(logs.Stdout, time.Now()); err != nil {
		t.Fatal(err)
	}
	write(t, l, logs.Stdout, "answer\n")
	if got := text(t, path, logs.Query{Tail: -1}); got != "prompt> answer\n" {
		t.Fatalf("got %q", got)
	}
}

func TestHalfWrittenEntryOfAKilledDaemonIsCutOff(t *testing.T) {
	l, path := open(t, logs.Options{})
	write(t, l, logs.Stdout, "whole\n")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"log":"ha`); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := logs.Open(path, logs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	write(t, again, logs.Stdout, "next\n")
	if got := text(t, path, logs.Query{Tail: -1}); got != "whole\nnext\n" {
		t.Fatalf("got %q", got)
	}
}

func BenchmarkWrite(b *testing.B) {
	l, err := logs.Open(filepath.Join(b.TempDir(), "log"), logs.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	chunk := bytes.Repeat([]byte("a line of output as programs write it, some eighty bytes long, more or less ..\n"), 800)
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		if err := l.Write(logs.Stdout, chunk, time.Now()); err != nil {
			b.Fatal(err)
		}
	}
}
