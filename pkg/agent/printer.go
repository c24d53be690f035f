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
	records chan *rules.Record
	done    sync.WaitGroup
	refused atomic.Uint64
	err     atomic.Pointer[error]
}

// printerQueue is how many records may wait for the output.
const printerQueue = 1024

// newPrinter starts a printer; wait makes print wait for room.
func newPrinter(out io.Writer, format Format, wait bool) *printer {
	p := &printer{format: format, out: out, wait: wait, records: make(chan *rules.Record, printerQueue)}
	p.done.Go(p.run)
	return p
}

// print queues a record and reports whether it will be written.
func (p *printer) print(r *rules.Record) bool {
	if p.err.Load() != nil {
		p.refused.Add(1)
		return false
	}
	if p.wait {
		p.records <- r
		return true
	}
	select {
	case p.records <- r:
		return true
	default:
		p.refused.Add(1)
		return false
	}
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
	for r := range p.records {
		err := p.write(w, r)
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
