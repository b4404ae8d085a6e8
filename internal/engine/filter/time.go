// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
)

// ParseTime reads a point in time as Docker's requests give it: seconds since
// 1970 with or without a fraction, a date, or a duration before now.
func ParseTime(s string, now time.Time) (time.Time, error) {
	if t, err := ParseUnix(s); err == nil {
		return t, nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02Z07:00", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, s, now.Location()); err == nil {
			return t, nil
		}
	}
	return time.Time{}, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid time %q: give seconds since 1970, a date or a duration", s))
}

// ParseUnix reads seconds since 1970, with up to nine digits behind the point.
func ParseUnix(s string) (time.Time, error) {
	invalid := errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid timestamp %q", s))
	whole, fraction, _ := strings.Cut(s, ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || sec > math.MaxInt64/int64(time.Second) || sec < math.MinInt64/int64(time.Second) {
		return time.Time{}, invalid
	}
	if fraction == "" {
		return time.Unix(sec, 0), nil
	}
	if len(fraction) > 9 || strings.Trim(fraction, "0123456789") != "" {
		return time.Time{}, invalid
	}
	nanos, err := strconv.ParseInt(fraction+strings.Repeat("0", 9-len(fraction)), 10, 64)
	if err != nil {
		return time.Time{}, invalid
	}
	return time.Unix(sec, nanos), nil
}
