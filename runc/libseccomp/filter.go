// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"

	libseccomp "byre.dev/libseccomp-golang"
)

// ScmpFilter is the library's filter with its rules kept back. Its zero value
// is no valid filter, and says so as the library's does.
type ScmpFilter struct {
	real  *libseccomp.ScmpFilter
	rules []rule
	// calls are those that made the filter, each with its arguments.
	calls []byte
}

// rule is a rule that the library has not been given yet.
type rule struct {
	call       ScmpSyscall
	action     ScmpAction
	conditions []ScmpCondition
}

// The first byte of each call in ScmpFilter.calls.
const (
	callNew byte = iota + 1
	callArch
	callNoNewPrivs
	callLog
	callSSB
	callWaitKill
	callOptimize
	callRule
)

// NewFilter returns a filter that does action where no rule says otherwise.
func NewFilter(action ScmpAction) (*ScmpFilter, error) {
	real, err := libseccomp.NewFilter(action)
	if err != nil {
		return nil, err
	}
	f := &ScmpFilter{real: real}
	major, minor, micro := libseccomp.GetLibraryVersion()
	f.note(callNew, uint64(major), uint64(minor), uint64(micro), uint64(action))
	return f, nil
}

// note appends a call and its arguments to the filter's calls.
func (f *ScmpFilter) note(call byte, args ...uint64) {
	f.calls = append(f.calls, call)
	for _, a := range args {
		f.calls = binary.AppendUvarint(f.calls, a)
	}
}

// set notes a call that the library has taken.
func (f *ScmpFilter) set(err error, call byte, arg uint64) error {
	if err == nil {
		f.note(call, arg)
	}
	return err
}

// lib is the library's filter, or one that is not valid.
func (f *ScmpFilter) lib() *libseccomp.ScmpFilter {
	if f.real == nil {
		return &libseccomp.ScmpFilter{}
	}
	return f.real
}

// AddArch has the filter hold for another architecture.
func (f *ScmpFilter) AddArch(arch ScmpArch) error {
	return f.set(f.lib().AddArch(arch), callArch, uint64(arch))
}

// SetNoNewPrivsBit sets whether loading the filter sets no_new_privs.
func (f *ScmpFilter) SetNoNewPrivsBit(state bool) error {
	return f.set(f.lib().SetNoNewPrivsBit(state), callNoNewPrivs, number(state))
}

// SetLogBit sets whether the kernel logs what the filter does.
func (f *ScmpFilter) SetLogBit(state bool) error {
	return f.set(f.lib().SetLogBit(state), callLog, number(state))
}

// SetSSB sets whether the speculative store bypass is left as it is.
func (f *ScmpFilter) SetSSB(state bool) error {
	return f.set(f.lib().SetSSB(state), callSSB, number(state))
}

// SetWaitKill sets whether a process that waits for an answer can only be killed.
func (f *ScmpFilter) SetWaitKill(state bool) error {
	return f.set(f.lib().SetWaitKill(state), callWaitKill, number(state))
}

// SetOptimize sets the form of the program.
func (f *ScmpFilter) SetOptimize(level int) error {
	return f.set(f.lib().SetOptimize(level), callOptimize, uint64(level))
}

func number(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// GetNoNewPrivsBit tells what SetNoNewPrivsBit has set.
func (f *ScmpFilter) GetNoNewPrivsBit() (bool, error) { return f.lib().GetNoNewPrivsBit() }

// GetLogBit tells what SetLogBit has set.
func (f *ScmpFilter) GetLogBit() (bool, error) { return f.lib().GetLogBit() }

// GetSSB tells what SetSSB has set.
func (f *ScmpFilter) GetSSB() (bool, error) { return f.lib().GetSSB() }

// GetWaitKill tells what SetWaitKill has set.
func (f *ScmpFilter) GetWaitKill() (bool, error) { return f.lib().GetWaitKill() }

// AddRule adds a rule for all calls of one number. That the library refuses it
// is told by ExportBPF.
func (f *ScmpFilter) AddRule(call ScmpSyscall, action ScmpAction) error {
	return f.AddRuleConditional(call, action, nil)
}

// AddRuleConditional adds a rule for calls that meet all conditions, as AddRule
// does.
func (f *ScmpFilter) AddRuleConditional(call ScmpSyscall, action ScmpAction, conditions []ScmpCondition) error {
	// Numbers of calls that an architecture lacks are negative.
	f.note(callRule, uint64(uint32(call)), uint64(action), uint64(len(conditions)))
	for _, c := range conditions {
		f.calls = binary.AppendUvarint(f.calls, uint64(c.Argument))
		f.calls = binary.AppendUvarint(f.calls, uint64(c.Op))
		f.calls = binary.AppendUvarint(f.calls, c.Operand1)
		f.calls = binary.AppendUvarint(f.calls, c.Operand2)
	}
	f.rules = append(f.rules, rule{call, action, conditions})
	return nil
}

// ExportBPF writes the filter's program to a file: a known one, or what the
// library makes of the rules.
func (f *ScmpFilter) ExportBPF(file *os.File) error {
	if f.real == nil {
		return f.lib().ExportBPF(file)
	}
	program, err := lookUp(known, f.calls)
	if err != nil {
		return err
	}
	if program != "" {
		_, err := io.WriteString(file, program)
		return err
	}
	if Unknown != nil {
		return Unknown(f)
	}
	return f.compile(file)
}

// Unknown, if it is set, is called for a filter that is not known, which is not
// compiled then. What makes the known ones sets it; runc does not.
var Unknown func(*ScmpFilter) error

// compile has the library make the program and writes it to a file. Once: the
// rules are the library's then.
func (f *ScmpFilter) compile(file *os.File) error {
	rules := f.rules
	f.rules = nil
	for _, r := range rules {
		if err := add(f.real, r); err != nil {
			name, _ := r.call.GetName()
			return fmt.Errorf("add rule for syscall %s (%d): %w", name, r.call, err)
		}
	}
	return f.real.ExportBPF(file)
}

func add(real *libseccomp.ScmpFilter, r rule) error {
	if len(r.conditions) == 0 {
		return real.AddRule(r.call, r.action)
	}
	return real.AddRuleConditional(r.call, r.action, r.conditions)
}
