package agent

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shadowtap/shadowtap/pkg/rules"
)

// printer writes one record for each mirrored request. Its output may stall
// (a pipe nobody reads); then records are refused, not waited for, except
// where the traffic comes from a file.
type printer struct {
	format  Format
	out     io.Writer
	wait    bool
	limit   int64
	panics  *panics
	records chan queuedRecord
	held    atomic.Int64  // bytes of what waits
	written chan struct{} // says to one in print: try again
	done    sync.WaitGroup
	refused atomic.Uint64
	err     atomic.Pointer[error]
}

// printerQueue is how many records may wait for the output.
const printerQueue = 1024

// queuedRecord is a record that waits, and about how many bytes it holds.
type queuedRecord struct {
	*rules.Record
	size int64
}

// newPrinter starts a printer; wait makes print wait for room. Records of more
// than limit bytes in all don't wait for the output, but a single one may.
func newPrinter(out io.Writer, format Format, wait bool, limit int64, panics *panics) *printer {
	p := &printer{
		format: format, out: out, wait: wait, limit: limit, panics: panics,
		records: make(chan queuedRecord, printerQueue), written: make(chan struct{}, 1),
	}
	p.done.Go(p.run)
	return p
}

// print queues the record that is made, of about size bytes, and reports
// whether it will be written. It makes none that there is no room for.
func (p *printer) print(size int64, record func() *rules.Record) bool {
	for !p.room(size) {
		if !p.wait {
			p.refused.Add(1)
			return false
		}
		<-p.written
	}
	if p.err.Load() != nil {
		p.refused.Add(1)
		return false
	}
	p.held.Add(size)
	q := queuedRecord{record(), size}
	if p.wait {
		p.records <- q
		return true
	}
	select {
	case p.records <- q:
		return true
	default: // another shard was faster
		p.held.Add(-size)
		p.refused.Add(1)
		return false
	}
}

// room reports whether there is room for another record.
func (p *printer) room(size int64) bool {
	held := p.held.Load()
	return (held == 0 || held+size <= p.limit) && (p.wait || len(p.records) < cap(p.records))
}

// errOutputStalled says that nobody reads the output any more.
var errOutputStalled = errors.New("the output is stalled, what was queued for it is lost")

// close writes what is queued and returns the first error of writing. It waits
// no longer than limit, unless print waits, too: an output that nobody reads
// must not keep the agent from stopping.
func (p *printer) close(limit time.Duration) error {
	close(p.records)
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.done.Wait()
	}()
	var late <-chan time.Time
	if !p.wait {
		late = time.After(limit)
	}
	select {
	case <-done:
	case <-late:
		return errOutputStalled
	}
	if err := p.err.Load(); err != nil {
		return *err
	}
	return nil
}

func (p *printer) run() {
	w := bufio.NewWriterSize(p.out, 64<<10)
	for q := range p.records {
		var err error
		if p.panics.guard(inOutput, func() { err = p.write(w, q.Record) }) != nil {
			p.refused.Add(1)
		}
		p.held.Add(-q.size)
		select {
		case p.written <- struct{}{}:
		default:
		}
		if err == nil && len(p.records) == 0 {
			err = w.Flush()
		}
		if err != nil && p.err.Load() == nil {
			p.err.Store(&err)
		}
	}
}

func (p *printer) write(w *bufio.Writer, r *rules.Record) error {
	if p.format == TextOutput {
		return r.WriteText(w)
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(r)
}
