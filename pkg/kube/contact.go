package kube

import (
	"context"
	"log/slog"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// contact is what is known of the way to the API server.
type contact struct {
	lost     bool
	failures uint64
	refused  map[string]bool // watches whose refusal was logged
}

// noteContact notes how a request ended. That the API server is lost is
// logged once, and that it is back; that something is not permitted once for
// each watch.
func (s *Source) noteContact(ctx context.Context, what string, err error) {
	if ctx.Err() != nil {
		return // given up by us
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &s.contact
	if err != nil {
		c.failures++
	}
	switch {
	case !reached(err) && !c.lost:
		c.lost = true
		s.log.Warn("API server cannot be reached: what is known of rules and endpoints stays in use", "error", err)
	case reached(err) && c.lost:
		c.lost = false
		s.log.Info("API server is reached again")
	}
	refused := apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err)
	if refused && !c.refused[what] {
		if c.refused == nil {
			c.refused = map[string]bool{}
		}
		c.refused[what] = true
		if s.statusesWant(what) {
			s.log.Error("not permitted by the API server, see the role of the agent: no status of the Gateway API is written until it is, mirroring goes on", "what", what, "error", err)
		} else {
			s.log.Error("not permitted by the API server, see the role of the agent, which goes on without", "what", what, "error", err)
		}
	} else if err == nil {
		delete(c.refused, what)
	}
}

// statusesWant reports whether what is not readable keeps nothing but statuses
// from being written. The lock is held.
func (s *Source) statusesWant(what string) bool {
	for key, w := range s.watches {
		if w.what == what {
			return s.desired[key] == forStatus
		}
	}
	return false
}

// quiet lowers everything to debug: client-go says of every retry that it
// failed, on every node, for as long as it fails.
type quiet struct{ slog.Handler }

func (q quiet) Enabled(ctx context.Context, _ slog.Level) bool {
	return q.Handler.Enabled(ctx, slog.LevelDebug)
}

func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	r.Level = slog.LevelDebug
	return q.Handler.Handle(ctx, r)
}

func (q quiet) WithAttrs(attrs []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(attrs)} }
func (q quiet) WithGroup(name string) slog.Handler       { return quiet{q.Handler.WithGroup(name)} }
