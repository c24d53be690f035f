package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/shadowtap/shadowtap/pkg/rules"
	"github.com/shadowtap/shadowtap/pkg/rules/file"
)

// loadState says how the last attempt to load the rules went.
type loadState struct {
	Time     time.Time
	Problems rules.Problems // of the last attempt
	Failed   bool           // the rules in use are older than the last attempt
	Loads    uint64         // successful attempts so far
	Failures uint64
}

// load reads and compiles the rules. The program is nil if that failed.
func (a *Agent) load() (*rules.Program, rules.Problems) {
	if a.cfg.Kube {
		return rules.Compile(&rules.Snapshot{}, a.cfg.Rules) // until the API server has said what there is
	}
	if len(a.cfg.Files) == 0 {
		program, err := rules.PortMirror(a.cfg.Port, a.cfg.To, a.cfg.Percent)
		if err != nil {
			return nil, rules.Problems{{Message: fmt.Sprintf("--to %s: %v", a.cfg.To, err)}}
		}
		return program, nil
	}
	size := file.Size(a.cfg.Files)
	tooLarge := checkRulesSize(size, a.cfg.MemoryLimit)
	if tooLarge.Err() != nil {
		return nil, tooLarge
	}
	snapshot, problems := file.Read(a.cfg.Files)
	problems = append(tooLarge, problems...)
	if problems.Err() != nil {
		// What could be read is compiled all the same: whoever mends the
		// file wants to see every problem at once.
		_, more := rules.Compile(snapshot, a.cfg.Rules)
		return nil, append(problems, more...)
	}
	program, more := rules.Compile(snapshot, a.cfg.Rules)
	problems = append(problems, more...)
	if program == nil {
		return nil, problems
	}
	if more := a.checkTLS(program); more != nil {
		return nil, append(problems, more...)
	}
	a.rulesSize.Store(size)
	return program, problems
}

// apply makes program the current one. Requests decided by the one before run
// on undisturbed; capture never pauses.
func (a *Agent) apply(program *rules.Program, problems rules.Problems) error {
	a.applying.Lock()
	defer a.applying.Unlock()
	mirrors, retire := a.mirrors.adopt(program)
	// Before a request is decided by it.
	a.share(program)
	if last := a.current.Load(); last != nil {
		program.Inherit(last.program)
	}
	g := &generation{agent: a, program: program, mirrors: mirrors}
	a.findSiblings(g)
	a.current.Store(g)
	// A batch that is running may still hold the generation before.
	for _, s := range a.shards {
		s.barrier()
	}
	retire(a.drainCtx)
	a.noteLoad(problems, false)
	if err := a.setTargets(g); err != nil {
		return fmt.Errorf("setting the captured endpoints: %w", err)
	}
	return nil
}

func (a *Agent) noteLoad(problems rules.Problems, failed bool) {
	next := loadState{Time: time.Now(), Problems: problems, Failed: failed}
	if last := a.loaded.Load(); last != nil {
		next.Loads, next.Failures = last.Loads, last.Failures
	}
	if failed {
		next.Failures++
	} else {
		next.Loads++
	}
	a.loaded.Store(&next)
}

// Reload asks for the rules to be read again. It returns at once.
func (a *Agent) Reload() {
	select {
	case a.reload <- struct{}{}:
	default: // one is already waiting
	}
}

// followRules reloads when the files change or Reload asks for it, until ctx
// ends.
func (a *Agent) followRules(ctx context.Context) error {
	if a.cluster != nil {
		return a.followCluster(ctx)
	}
	if len(a.cfg.Files) > 0 {
		go a.watchFiles(ctx)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.reload:
			a.reloadSafely(a.reloadNow)
		}
	}
}

// watchPause is how long nothing is watched after a panic.
const watchPause = time.Second

// watchFiles asks for a reload whenever the files change, until ctx ends.
func (a *Agent) watchFiles(ctx context.Context) {
	var err error
	for a.panics.guard(inWatch, func() { err = file.Watch(ctx, a.cfg.Files, a.Reload) }) != nil {
		select {
		case <-time.After(watchPause):
			a.Reload() // for what has changed meanwhile
		case <-ctx.Done():
			return
		}
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		a.log.Error("rules files are no longer watched; SIGHUP still reloads", "error", err)
	}
}

// reloadSafely reloads; a panic of that is a failure to load.
func (a *Agent) reloadSafely(reload func()) {
	if fault := a.panics.guard(inReload, reload); fault != nil {
		a.noteLoad(rules.Problems{{Message: fault.Error()}}, true)
	}
}

func (a *Agent) reloadNow() {
	program, problems := a.load()
	if problems.Err() != nil {
		a.noteLoad(problems, true)
		for _, p := range problems {
			a.log.Error("rules not reloaded, the old ones stay", "problem", p.Error())
		}
		return
	}
	a.logProblems(problems) // warnings
	if err := a.apply(program, problems); err != nil {
		a.log.Error("rules reloaded in part", "error", err)
		return
	}
	a.log.Info("rules reloaded", "targets", len(program.Targets()), "mirrors", len(program.Mirrors()))
}
