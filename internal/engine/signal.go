// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"strconv"
	"strings"
	"syscall"
)

// signalNames are the guest's signals, whatever the host's are, by number from
// 1 (signal(7), x86 and ARM).
func signalNames() []string {
	return strings.Fields("HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP " +
		"TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS")
}

const (
	sigKill = syscall.Signal(9)
	sigTerm = syscall.Signal(15)
	// rtMin and rtMax bound the real-time signals as the C library numbers them.
	rtMin, rtMax = 34, 64
)

// parseSignal reads a signal by number or name; "" means fallback.
func parseSignal(s string, fallback syscall.Signal) (syscall.Signal, error) {
	if s == "" {
		return fallback, nil
	}
	if n, err := strconv.Atoi(s); err == nil {
		if n < 1 || n > rtMax {
			return 0, invalid("invalid signal: %s", s)
		}
		return syscall.Signal(n), nil
	}
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	for i, known := range signalNames() {
		if known == name {
			return syscall.Signal(i + 1), nil
		}
	}
	aliases := map[string]int{"IOT": 6, "CLD": 17, "POLL": 29, "RTMIN": rtMin, "RTMAX": rtMax}
	if n, ok := aliases[name]; ok {
		return syscall.Signal(n), nil
	}
	for prefix, base := range map[string]int{"RTMIN+": rtMin, "RTMAX-": -rtMax} {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			n, err := strconv.Atoi(rest)
			if n += base; n < 0 {
				n = -n
			}
			if err == nil && n >= rtMin && n <= rtMax {
				return syscall.Signal(n), nil
			}
		}
	}
	return 0, invalid("invalid signal: %s", s)
}
