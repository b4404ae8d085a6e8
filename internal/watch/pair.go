// SPDX-License-Identifier: Apache-2.0

package watch

// pairer joins the two ends of renames and merges what is repeated. Ends come
// from first, to second, mostly next to each other; a from whose to does not
// come means that the name left what is watched.
type pairer struct {
	// out are the events so far. A from that waits is in it as a Remove.
	out []Event
	// open is where the froms are that wait, by cookie.
	open map[uint32]int
}

// add takes the next half or whole event.
func (p *pairer) add(h half) {
	switch {
	case h.from:
		if p.open == nil {
			p.open = map[uint32]int{}
		}
		p.open[h.cookie] = len(p.out)
	case h.to:
		if at, ok := p.open[h.cookie]; ok {
			delete(p.open, h.cookie)
			p.join(at, h)
			return
		}
	case p.merge(h.Event):
		return
	}
	p.out = append(p.out, h.Event)
}

// join makes the from at index at and its to one event. It takes the place of
// the to: what happened between the two happened before the name was there.
func (p *pairer) join(at int, to half) {
	e := p.out[at]
	e.Op, e.ToDir, e.To, e.IsDir = Rename, to.Dir, to.Name, e.IsDir || to.IsDir
	p.out[at].Op = 0 // dropped by take
	p.out = append(p.out, e)
}

// merge adds an event to the last one if that is of the same name and nothing
// appeared or went in between.
func (p *pairer) merge(e Event) bool {
	if len(p.out) == 0 || e.Op&(Create|Remove|Lost) != 0 {
		return false
	}
	last := &p.out[len(p.out)-1]
	if last.Dir != e.Dir || last.Name != e.Name || last.Op&(Remove|Rename|Lost) != 0 || last.Op == 0 {
		return false
	}
	last.Op |= e.Op
	return true
}

// waiting says whether a rename lacks its second end.
func (p *pairer) waiting() bool { return len(p.open) > 0 }

// take returns the events and begins anew; renames that still wait are what
// their first end says.
func (p *pairer) take() []Event {
	out := p.out[:0]
	for _, e := range p.out {
		if e.Op != 0 {
			out = append(out, e)
		}
	}
	p.out, p.open = nil, nil
	return out
}
