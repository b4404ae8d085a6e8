// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/moby/moby/api/types"

	"byre.dev/byre/internal/engine"
	"byre.dev/byre/internal/engine/filter"
	"byre.dev/byre/internal/engine/logs"
	"byre.dev/byre/internal/engine/stream"
)

// logTime is how "docker logs -t" shows a time: always as many digits.
const logTime = "2006-01-02T15:04:05.000000000Z07:00"

func (a *api) containersLogs(w http.ResponseWriter, r *call) error {
	q, err := parseLogQuery(r)
	if err != nil {
		return err
	}
	log, err := a.engine.Logs(r.name(), q)
	if err != nil {
		return err
	}
	kind := types.MediaTypeRawStream
	if !log.Terminal && !r.before("1.42") {
		kind = types.MediaTypeMultiplexedStream
	}
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(http.StatusOK)
	rc := http.NewResponseController(w)
	if err := rc.Flush(); err != nil {
		return nil
	}
	out := &logWriter{frameWriter: frameWriter{w: w, frames: !log.Terminal}, timestamps: r.flag("timestamps"), details: r.flag("details")}
	if q.Follow {
		out.flush = rc.Flush
	}
	err = log.Read(r.Context(), out.entry)
	if err != nil && r.Context().Err() == nil {
		// The answer has begun: the error goes the way of the output.
		_ = out.write(stream.System, fmt.Appendf(nil, "Error grabbing logs: %v\n", err))
	}
	return nil
}

func parseLogQuery(r *call) (engine.LogQuery, error) {
	q := engine.LogQuery{Stdout: r.flag("stdout"), Stderr: r.flag("stderr")}
	q.Follow, q.Tail = r.flag("follow"), -1
	if s := r.Form.Get("tail"); s != "" && s != "all" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 {
			n = -1
		}
		q.Tail = n
	}
	for name, dst := range map[string]*time.Time{"since": &q.Since, "until": &q.Until} {
		s := r.Form.Get(name)
		if s == "" || s == "0" {
			continue
		}
		t, err := filter.ParseUnix(s)
		if err != nil {
			return q, badRequest("invalid value for %q: %v", name, err)
		}
		*dst = t
	}
	return q, nil
}

// logWriter writes entries of a log.
type logWriter struct {
	frameWriter
	timestamps bool
	// details asks for what the log options env and labels add to a line. They
	// are refused at creation, which leaves the space that dockerd puts there.
	details bool
	flush   func() error
	// open holds the streams whose last entry was no whole line.
	open [4]bool
}

func (l *logWriter) entry(e logs.Entry) error {
	kind := kindOf(e.Stream)
	line := e.Line
	if l.details && !l.open[kind] {
		line = append([]byte(" "), line...)
	}
	if l.timestamps && !l.open[kind] {
		line = append([]byte(e.Time.UTC().Format(logTime)+" "), line...)
	}
	l.open[kind] = len(e.Line) > 0 && e.Line[len(e.Line)-1] != '\n'
	if err := l.write(kind, line); err != nil {
		return err
	}
	if l.flush != nil {
		return l.flush()
	}
	return nil
}
