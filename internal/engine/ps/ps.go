// SPDX-License-Identifier: Apache-2.0

// Package ps shows processes of a guest as ps(1) does. Docker's clients ask for
// the output of ps with arguments of the user's, which dockerd runs on the host;
// the processes of a machine are seen from nowhere but its kernel, whose texts
// are read here. The image needs no ps for it.
package ps

import (
	"fmt"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
)

// Format is how processes are shown.
type Format struct{ columns []column }

// usual are the arguments where there are none, as in dockerd.
const usual = "-ef"

// Parse reads arguments of ps: which processes are shown is given, so those that
// select or sort have no effect or are refused; -f, u and -o choose columns.
func Parse(args string) (Format, error) {
	if strings.TrimSpace(args) == "" {
		args = usual
	}
	p := parser{names: "pid tty time ucmd"}
	words := strings.Fields(args)
	for i := 0; i < len(words); i++ {
		value, took := "", false
		if i+1 < len(words) {
			value = words[i+1]
		}
		took, err := p.word(words[i], value)
		if err != nil {
			return Format{}, err
		}
		if took {
			i++
		}
	}
	if len(p.chosen) > 0 {
		return Format{columns: p.chosen}, nil
	}
	columns, err := columnsOf(p.names)
	return Format{columns: columns}, err
}

// parser gathers what arguments choose.
type parser struct {
	// names are those of a set of columns, chosen the ones that were named.
	names  string
	chosen []column
}

// word reads one argument; took says that value, the next one, belongs to it.
func (p *parser) word(word, value string) (took bool, err error) {
	if format, ok := strings.CutPrefix(word, "--format="); ok {
		return false, p.choose(format)
	}
	switch word {
	case "--format":
		return true, p.choose(value)
	case "--no-headers", "--width", "--cols", "--columns", "--sort", "--forest":
		return false, refuse(word)
	}
	if strings.HasPrefix(word, "--") {
		return false, refuse(word)
	}
	letters := strings.TrimPrefix(word, "-")
	for i, l := range letters {
		if l == 'o' {
			// What follows is the format, in this word or the next.
			if rest := letters[i+1:]; rest != "" {
				return false, p.choose(rest)
			}
			return true, p.choose(value)
		}
		if err := p.letter(word, l, letters != word); err != nil {
			return false, err
		}
	}
	return false, nil
}

// letter reads one option; dashed ones and those of BSD differ.
func (p *parser) letter(word string, l rune, dashed bool) error {
	switch {
	case strings.ContainsRune("eAawx", l), l == 'd' && dashed:
		// All processes are shown, in full width.
	case l == 'f' && dashed:
		p.names = "uid_name pid ppid c stime tty time cmd"
	case l == 'u' && !dashed:
		p.names = "user pid %cpu %mem vsz rss tname stat start bsdtime command"
	default:
		return refuse(word)
	}
	return nil
}

// choose reads names of columns: "pid,ppid" or "pid=NUMBER", where the title
// takes the rest.
func (p *parser) choose(format string) error {
	if format == "" {
		return invalid("ps: -o needs the names of columns, such as pid,cmd")
	}
	names, title, titled := strings.Cut(format, "=")
	columns, err := columnsOf(strings.ReplaceAll(names, ",", " "))
	if err != nil {
		return err
	}
	if titled {
		columns[len(columns)-1].title = title
	}
	p.chosen = append(p.chosen, columns...)
	return nil
}

func refuse(word string) error {
	return invalid("byre does not support the argument %s of ps: there are -e, -A, -a, -x, -w, -f, u and -o with names of columns", word)
}

func invalid(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(format, args...))
}

// Table shows processes at a time, in the host's time zone.
func (f Format) Table(list []Process, now time.Time) container.TopResponse {
	resp := container.TopResponse{Titles: []string{}, Processes: [][]string{}}
	for _, c := range f.columns {
		resp.Titles = append(resp.Titles, c.title)
	}
	for _, p := range list {
		row := make([]string, len(f.columns))
		for i, c := range f.columns {
			row[i] = c.value(p, now)
		}
		resp.Processes = append(resp.Processes, row)
	}
	return resp
}
