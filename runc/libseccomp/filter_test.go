// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// recipe makes a filter with one thing in it that may be different.
type recipe struct {
	action ScmpAction
	arch   ScmpArch
	names  []string
	value  uint64
	log    bool
}

var usual = recipe{action: ActErrno.SetReturnCode(1), arch: ArchX86, names: []string{"read", "write", "openat"}, value: 8}

func (r recipe) make(t *testing.T) *ScmpFilter {
	t.Helper()
	f, err := NewFilter(r.action)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(f.AddArch(r.arch), f.SetNoNewPrivsBit(false), f.SetOptimize(2))
	if r.log {
		err = errors.Join(err, f.SetLogBit(true))
	}
	for _, name := range r.names {
		n, nerr := GetSyscallFromName(name)
		err = errors.Join(err, nerr, f.AddRule(n, ActAllow))
	}
	n, nerr := GetSyscallFromName("personality")
	c, cerr := MakeCondition(0, CompareEqual, r.value)
	err = errors.Join(err, nerr, cerr, f.AddRuleConditional(n, ActAllow, []ScmpCondition{c}))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// export returns a filter's program and whether it was a known one.
func export(t *testing.T, f *ScmpFilter) (program []byte, wasKnown bool) {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "program"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	rules := len(f.rules)
	if err := f.ExportBPF(file); err != nil {
		t.Fatal(err)
	}
	program, err = io.ReadAll(io.NewSectionReader(file, 0, 1<<20))
	if err != nil || len(program) == 0 {
		t.Fatalf("program of %d bytes: %v", len(program), err)
	}
	return program, len(f.rules) == rules
}

// knowing has the test's filters looked up in a table with the usual one, and
// no other, in it.
func knowing(t *testing.T) {
	t.Helper()
	table, err := usual.make(t).Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	before := known
	t.Cleanup(func() { known = before })
	known = string(table)
}

func TestAKnownFilterIsThatOfTheLibraryAndNotCompiled(t *testing.T) {
	compiled, wasKnown := export(t, usual.make(t))
	if wasKnown {
		t.Fatal("a filter is known before any is")
	}
	knowing(t)
	program, wasKnown := export(t, usual.make(t))
	if !wasKnown {
		t.Error("the filter was compiled again")
	}
	if !bytes.Equal(program, compiled) {
		t.Error("the known program is not the library's")
	}
}

func TestAFilterThatDiffersIsCompiled(t *testing.T) {
	for name, change := range map[string]func(*recipe){
		"default action":       func(r *recipe) { r.action = ActErrno.SetReturnCode(2) },
		"architecture":         func(r *recipe) { r.arch = ArchX32 },
		"a rule more":          func(r *recipe) { r.names = append(r.names[:3:3], "mount") },
		"a rule less":          func(r *recipe) { r.names = r.names[:2] },
		"another rule":         func(r *recipe) { r.names = []string{"read", "write", "open"} },
		"a condition's value":  func(r *recipe) { r.value = 9 },
		"a flag of the kernel": func(r *recipe) { r.log = true },
	} {
		t.Run(name, func(t *testing.T) {
			r := usual
			change(&r)
			want, _ := export(t, r.make(t))
			knowing(t)
			got, wasKnown := export(t, r.make(t))
			if wasKnown || !bytes.Equal(got, want) {
				t.Errorf("known: %v; the library's program: %v", wasKnown, bytes.Equal(got, want))
			}
		})
	}
}

func TestADamagedTableIsAnErrorAndNoFilter(t *testing.T) {
	knowing(t)
	known = known[:len(known)-1]
	if _, err := lookUp(known, nil); !errors.Is(err, errKnown) {
		t.Errorf("look up in a table that is cut off: %v", err)
	}
	if err := usual.make(t).ExportBPF(os.Stdout); !errors.Is(err, errKnown) {
		t.Errorf("export: %v", err)
	}
}

func TestARuleThatTheLibraryRefusesIsToldWithItsName(t *testing.T) {
	f := usual.make(t)
	n, err := GetSyscallFromName("mkdir")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.AddRule(n, usual.action); err != nil { // as the default: refused
		t.Fatal(err)
	}
	if err := f.ExportBPF(os.Stdout); err == nil || !bytes.Contains([]byte(err.Error()), []byte("mkdir")) {
		t.Errorf("export: %v", err)
	}
}

func TestAFilterThatIsNoneSaysSo(t *testing.T) {
	f := &ScmpFilter{}
	for _, err := range []error{f.AddArch(ArchX86), f.SetNoNewPrivsBit(true), f.ExportBPF(os.Stdout)} {
		if err == nil {
			t.Error("a filter that was never made takes calls")
		}
	}
}
