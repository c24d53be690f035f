package torture

// settleLoss is settle where nobody but the tap knows which packets it did not
// get: it counted lost of them. What it mirrored must still be right and arrive
// once, what it dropped have the reason, and nothing be mirrored without being
// counted.
func (l *ledger) settleLoss(acc account, lost uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expected = [numFates]uint64{}
	for _, e := range l.entries {
		if e.arrivals > 0 {
			l.expected[mirrored]++
		}
	}
	if err := acc.closed(); err != nil {
		l.fault("%v", err)
	}
	r, s, x := acc.Requests, acc.Shadow, &l.expected
	x[gap], x[incomplete], x[unfinished] = r.Dropped["gap"], r.Dropped["incomplete"], r.Dropped["expired"]+r.Dropped["shutdown"]
	known := x[mirrored] + x[gap] + x[incomplete] + x[unfinished]
	if known > uint64(len(l.entries)) {
		l.fault("%d requests are accounted for, %d were sent", known, len(l.entries))
	} else {
		x[unseen] = uint64(len(l.entries)) - known
	}
	switch {
	case lost == 0:
		l.fault("nothing was lost: %+v", acc.Packets)
	case x[mirrored] == uint64(len(l.entries)):
		l.fault("the tap lost %d packets and knows all requests", lost)
	case x[mirrored] == 0:
		l.fault("nothing was mirrored: %+v", acc)
	}
	if r.Mirrored != x[mirrored] || r.Seen != known || s.Sent != r.Mirrored || s.Answered["2xx"] != s.Sent || sum(acc.Flows.Ignored)+acc.Flows.Panics != 0 {
		l.fault("want %d mirrored of %d: %+v", x[mirrored], known, acc)
	}
}
