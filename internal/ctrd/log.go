// SPDX-License-Identifier: Apache-2.0

package ctrd

import (
	"context"
	"io"
	"log/slog"
	"maps"
	"slices"

	"github.com/containerd/log"
	"github.com/sirupsen/logrus"
)

// withLogger sends containerd's log to l: what is logged with the context, and
// by way of the logger that the context lacks.
func withLogger(ctx context.Context, l *slog.Logger) context.Context {
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	logger.SetFormatter(discard{})
	logger.SetLevel(level(ctx, l))
	logger.AddHook(&bridge{l.With("component", "containerd")})
	// Fatal is a listener that ended unexpectedly; the daemon decides what then.
	logger.ExitFunc = func(int) {}
	log.L.Logger.SetOutput(io.Discard)
	log.L.Logger.SetFormatter(discard{})
	log.L.Logger.SetLevel(logger.Level)
	log.L.Logger.ReplaceHooks(logger.Hooks)
	log.L.Logger.ExitFunc = logger.ExitFunc
	return log.WithLogger(ctx, logrus.NewEntry(logger))
}

// level saves containerd the making of entries that bridge would drop.
func level(ctx context.Context, l *slog.Logger) logrus.Level {
	if l.Enabled(ctx, slog.LevelDebug) {
		return logrus.DebugLevel
	}
	return logrus.WarnLevel
}

// discard formats nothing: the hook has what it needs.
type discard struct{}

func (discard) Format(*logrus.Entry) ([]byte, error) { return nil, nil }

// bridge is a logrus hook that passes entries to slog. What containerd tells at
// Info (each plugin it loads, each call) is detail here.
type bridge struct{ l *slog.Logger }

func (b *bridge) Levels() []logrus.Level { return logrus.AllLevels }

func (b *bridge) Fire(e *logrus.Entry) error {
	ctx := e.Context
	if ctx == nil {
		ctx = context.Background()
	}
	to := slog.LevelDebug
	switch {
	case e.Message == "failed check for fsverity support":
		// The content store could use it and does without.
	case e.Level <= logrus.ErrorLevel:
		to = slog.LevelError
	case e.Level == logrus.WarnLevel:
		to = slog.LevelWarn
	}
	if !b.l.Enabled(ctx, to) {
		return nil
	}
	attrs := make([]slog.Attr, 0, len(e.Data))
	for _, k := range slices.Sorted(maps.Keys(e.Data)) {
		name := k
		if k == logrus.ErrorKey {
			name = "err"
		}
		attrs = append(attrs, slog.Any(name, e.Data[k]))
	}
	b.l.LogAttrs(ctx, to, e.Message, attrs...)
	return nil
}
