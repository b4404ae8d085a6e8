// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"fmt"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
)

// Top lists the processes of a container by running its own ps, because nobody
// outside the machine sees them; the numbers are those inside the container.
func (e *Engine) Top(ctx context.Context, ref, args string) (container.TopResponse, error) {
	var resp container.TopResponse
	c, err := e.containers.get(ref)
	if err != nil {
		return resp, err
	}
	if args == "" {
		args = "-ef"
	}
	out, code, err := e.execOutput(ctx, c, append([]string{"ps"}, strings.Fields(args)...))
	if err != nil {
		return resp, fmt.Errorf("list processes of container %s with its own ps: %w", short(c.id), err)
	}
	if code != 0 {
		return resp, invalid("ps %s ended with exit code %d: %s", args, code, strings.TrimSpace(out))
	}
	resp, err = parsePS(out)
	e.publish(c, events.ActionTop, nil)
	return resp, err
}

// parsePS reads the table of ps: as many columns as there are titles, the last
// of which takes the rest of the line. The line of ps itself is left out.
func parsePS(out string) (container.TopResponse, error) {
	lines := strings.Split(strings.TrimRight(out, "\n"), "\n")
	resp := container.TopResponse{Titles: strings.Fields(lines[0]), Processes: [][]string{}}
	n := len(resp.Titles)
	if n == 0 {
		return resp, fmt.Errorf("ps gave no table: %q", out)
	}
	for _, line := range lines[1:] {
		fields := strings.Fields(line)
		if len(fields) < n {
			continue
		}
		row := append(fields[:n-1:n-1], strings.Join(fields[n-1:], " "))
		if cmd := row[n-1]; cmd == "ps" || strings.HasPrefix(cmd, "ps -") {
			continue
		}
		resp.Processes = append(resp.Processes, row)
	}
	return resp, nil
}
