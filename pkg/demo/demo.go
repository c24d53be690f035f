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
	limit    = 5 * time.Minute
	patience = 30 * time.Second
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

	patience time.Duration // 0 = patience
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

// play is the demo from the raising of the curtain to the verdict.
func play(ctx context.Context, o Options) (err error) {
	out := narrator{o.Out}
	out.intro()
	dir, err := os.MkdirTemp("", "shadowtap-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s, err := setStage()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()

	// What v1 answers when nothing else is there is what it must answer later.
	plan := traffic()
	expected := make(map[string]answer)
	for _, a := range plan {
		for _, r := range a.requests {
			if expected[r.id], err = s.send(ctx, r); err != nil {
				return fmt.Errorf("before shadowtap was started: %w", err)
			}
		}
	}
	s.v1.forget()

	agent, err := startAgent(ctx, o.Self, dir, s.node)
	if err != nil {
		return err
	}
	defer agent.kill()
	out.started(agent.command)

	var sum tally
	for i, a := range plan {
		out.act(i+1, a)
		for _, r := range a.requests {
			got, err := s.send(ctx, r)
			if err != nil {
				return agent.explain(fmt.Errorf("production failed: %w", err))
			}
			sum.add(r, got.equal(expected[r.id]))
			if !a.burst() {
				out.answered(r, got, got.equal(expected[r.id]))
			}
		}
		if err := watch(ctx, o.patience, out, s, agent, a, &sum); err != nil {
			return agent.explain(err)
		}
	}

	final, err := agent.stop(ctx)
	if err != nil {
		return agent.explain(err)
	}
	out.account(final)
	problems := append(sum.verify(s), final.verify(sum)...)
	out.verdict(sum, problems)
	if len(problems) > 0 {
		return agent.explain(fmt.Errorf("%w: %w", ErrLost, errors.Join(problems...)))
	}
	return nil
}

// watch follows one act to the shadow: which rule took each request, what the
// copy looked like, and what v2 received.
func watch(ctx context.Context, patience time.Duration, out narrator, s *stage, a *agent, act act, sum *tally) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("%w: not seen within %v", ErrLost, patience))
	defer cancel()
	ctx, cancel = a.alive(ctx)
	defer cancel()
	for _, r := range act.requests {
		if !r.matches {
			if err := a.waitFiltered(ctx, sum.filtered); err != nil {
				return fmt.Errorf("%s %s, which no rule takes: %w", r.method, r.target, err)
			}
			out.unmatched()
			continue
		}
		rec, err := a.records.wait(ctx, r.id)
		if err != nil {
			return fmt.Errorf("%s %s in shadowtap's output: %w", r.method, r.target, err)
		}
		got, err := s.v2.receipts.wait(ctx, r.id)
		if err != nil {
			return fmt.Errorf("%s %s at v2: %w", r.method, r.target, err)
		}
		if !act.burst() {
			out.mirrored(rec, got, r)
		}
	}
	if act.burst() {
		out.burst(act, s)
	}
	return nil
}
