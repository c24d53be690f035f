// Package demo shows shadowtap at work on one machine: a client, a node, and
// two versions of httpbin in network namespaces of their own, the real program
// on the node between them, and a comparison of what went in with what came
// out. It needs root and leaves nothing behind.
package demo

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// ErrLost is wrapped by the error of a demo that ran to its end and found that
// something does not add up: a request missing or doubled at v2, an answer of
// v1 changed, an account that does not close.
var ErrLost = errors.New("the demo lost something")

// What takes longer is taken for a failure. A whole demo takes a few seconds,
// and what is shown happens at once, unless the machine is very busy.
const (
	limit    = 5 * time.Minute  // for the whole demo
	patience = 30 * time.Second // for one request, and for what follows from an act
)

// rulesYAML mirrors 100 % of /httpbin from v1 (10.99.0.2:80) to v2
// (10.99.1.2:80), rewritten to /.
//
//go:embed standalone.yaml
var rulesYAML []byte

// Options are what a demo needs from its caller.
type Options struct {
	Self string    // the shadowtap program to run; "" = this one (os.Executable)
	Out  io.Writer // gets the narration; nil = os.Stdout

	patience time.Duration // of tests; 0 = the constant
}

// Run plays the demo. It returns nil if every request was accounted for, an
// error wrapping ErrLost if not, and any other error if it could not run to
// the end. Everything it started is gone when it returns, which it also does
// soon after ctx ends.
func Run(ctx context.Context, o Options) error {
	if os.Geteuid() != 0 {
		return errors.New("demo: needs root: it makes network namespaces and loads an eBPF program")
	}
	if o.Out == nil {
		o.Out = os.Stdout
	}
	if o.Self == "" {
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("demo: find the own program: %w", err)
		}
		o.Self = self
	}
	if o.patience == 0 {
		o.patience = patience
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not done after %v", limit))
	defer cancel()

	err := play(ctx, o)
	if err != nil && ctx.Err() != nil && !errors.Is(err, ErrLost) {
		err = fmt.Errorf("interrupted: %w", context.Cause(ctx)) // the rest is its consequence
	}
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	return nil
}

// play sets up the network, runs shadowtap on it, and takes both down again.
func play(ctx context.Context, o Options) (err error) {
	d := demo{out: narrator{o.Out}, patience: o.patience, acts: traffic()}
	d.out.intro()
	dir, err := os.MkdirTemp("", "shadowtap-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if d.stage, err = setStage(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stage.close()) }()
	if err := d.rehearse(ctx); err != nil {
		return fmt.Errorf("before shadowtap was started: %w", err)
	}
	if d.agent, err = startAgent(ctx, o.Self, dir, d.stage.node); err != nil {
		return err
	}
	defer d.agent.kill()
	d.out.started(d.agent.command)
	for i, a := range d.acts {
		d.out.act(i+1, a)
		if err := d.perform(ctx, a); err != nil {
			return d.agent.explain(err)
		}
	}
	if err := d.settle(ctx); err != nil {
		return d.agent.explain(err)
	}
	return nil
}

// demo is one run of the demo.
type demo struct {
	out      narrator
	patience time.Duration // for what an act leads to
	stage    *stage
	agent    *agent
	acts     []act
	expected map[string]answer // of v1 without shadowtap, by the id of the request
	sum      tally
}

// rehearse sends all requests while nothing but v1 is there, to know what it
// must answer later.
func (d *demo) rehearse(ctx context.Context) (err error) {
	d.expected = make(map[string]answer)
	for _, a := range d.acts {
		for _, r := range a.requests {
			if d.expected[r.id], err = d.stage.send(ctx, r); err != nil {
				return err
			}
		}
	}
	d.stage.v1.forget()
	return nil
}

// perform sends the requests of one act to v1 and follows them to v2.
func (d *demo) perform(ctx context.Context, a act) error {
	for _, r := range a.requests {
		got, err := d.stage.send(ctx, r)
		if err != nil {
			return fmt.Errorf("production failed: %w", err)
		}
		same := got.equal(d.expected[r.id])
		d.sum.add(r, same)
		if !a.burst() {
			d.out.answered(r, got, same)
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, d.patience, fmt.Errorf("%w: not seen within %v", ErrLost, d.patience))
	defer cancel()
	ctx, cancel = d.agent.alive(ctx)
	defer cancel()
	for _, r := range a.requests {
		if err := d.follow(ctx, r, !a.burst()); err != nil {
			return err
		}
	}
	if a.burst() {
		d.out.burst(a, d.stage)
	}
	return nil
}

// follow waits for what shadowtap and v2 make of a request: which rule took it,
// what the copy looked like, and what v2 received.
func (d *demo) follow(ctx context.Context, r request, tell bool) error {
	if !r.matches {
		if err := d.agent.waitFiltered(ctx, d.sum.filtered); err != nil {
			return fmt.Errorf("%s %s, which no rule takes: %w", r.method, r.target, err)
		}
		d.out.unmatched()
		return nil
	}
	rec, err := d.agent.records.wait(ctx, r.id)
	if err != nil {
		return fmt.Errorf("%s %s in shadowtap's output: %w", r.method, r.target, err)
	}
	got, err := d.stage.v2.receipts.wait(ctx, r.id)
	if err != nil {
		return fmt.Errorf("%s %s at v2: %w", r.method, r.target, err)
	}
	if tell {
		d.out.mirrored(rec, got)
	}
	return nil
}

// settle stops the agent and compares its account with what was sent and
// received. The error wraps ErrLost if something does not add up.
func (d *demo) settle(ctx context.Context) error {
	final, err := d.agent.stop(ctx)
	if err != nil {
		return err
	}
	d.out.account(final)
	problems := append(d.sum.verify(d.stage), final.verify(d.sum)...)
	d.out.verdict(d.sum, problems)
	if len(problems) > 0 {
		return fmt.Errorf("%w: %w", ErrLost, errors.Join(problems...))
	}
	return nil
}
