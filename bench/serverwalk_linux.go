// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"byre.dev/byre/internal/p9"
)

// A million files, in as many directories as each has files.
const walkSide = 1000

// benchWalk measures what fids cost the server, and what walking to a million
// files leaves behind. The client's share is in it.
func benchWalk(ctx context.Context, l *lab) error {
	dir := filepath.Join(l.dir, "million")
	if err := makeMillion(dir); err != nil {
		return err
	}
	s, err := newServed(ctx, dir, serveHost)
	if err != nil {
		return err
	}
	defer s.close()
	before := heap()
	var held int64
	for d := range walkSide {
		if err := s.walkDir(d); err != nil {
			return err
		}
		if d == 0 {
			held = (heap() - before) / (walkSide + 1)
		}
		if err := s.clunkDir(); err != nil {
			return err
		}
	}
	table("File server's memory", []string{"what", "bytes"}, [][]string{
		{"a fid that is held", fmt.Sprint(held)},
		{"the server's process after 1,000,000 files were walked to and clunked", megabytes(heap())},
	})
	return nil
}

// firstFID is that of the directory; its files have those that follow.
const firstFID = 1

func (s *served) walkDir(d int) error {
	s.Add(1, &p9.Twalk{NewFID: firstFID, Names: []string{fmt.Sprint(d)}})
	if err := s.Exchange(1); err != nil {
		return err
	}
	return s.each(walkSide, func(i int) p9.Message {
		return &p9.Twalk{FID: firstFID, NewFID: firstFID + 1 + uint32(i), Names: []string{fmt.Sprint(i)}}
	})
}

func (s *served) clunkDir() error {
	return s.each(walkSide+1, func(i int) p9.Message { return &p9.Tclunk{FID: firstFID + uint32(i)} })
}

// each makes n requests, some at a time.
func (s *served) each(n int, request func(int) p9.Message) error {
	const step = 100
	for at := 0; at < n; at += step {
		end := min(at+step, n)
		for i := at; i < end; i++ {
			s.Add(uint16(i-at), request(i))
		}
		if err := s.Exchange(end - at); err != nil {
			return err
		}
	}
	return nil
}

func makeMillion(dir string) error {
	for d := range walkSide {
		sub := filepath.Join(dir, fmt.Sprint(d))
		if err := os.MkdirAll(sub, 0o755); err != nil {
			return err
		}
		for f := range walkSide {
			if err := os.WriteFile(filepath.Join(sub, fmt.Sprint(f)), nil, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// heap is what the Go runtime has in use after a collection.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}
