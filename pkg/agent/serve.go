package agent

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// serveAdmin serves the admin API until ctx ends.
func (a *Agent) serveAdmin(ctx context.Context) error {
	a.log.Info("admin API", "address", a.admin.Addr().String())
	return a.serve(ctx, a.admin, guard(a.adminHandler(), a.cfg.AdminTokenFile, a.log))
}

// serveMetrics serves what anybody may read until ctx ends.
func (a *Agent) serveMetrics(ctx context.Context) error {
	a.log.Info("metrics and probes", "address", a.metrics.Addr().String())
	return a.serve(ctx, a.metrics, guard(a.publicHandler(), "", a.log))
}

// serve serves until ctx ends. When it returns, no handler is running.
func (a *Agent) serve(ctx context.Context, l net.Listener, handler http.Handler) error {
	// Server.Close ends connections and does not wait for their handlers, but
	// what handlers read is released after this.
	var serving sync.RWMutex
	ended, handler := false, a.panics.handler(handler)
	defer func() {
		serving.Lock()
		ended = true
		serving.Unlock()
	}()
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			serving.RLock()
			defer serving.RUnlock()
			if !ended {
				handler.ServeHTTP(w, r)
			}
		}),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    maxAdminHead,
		ErrorLog:          slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	// Where a successor was given the address only the listener is closed. What
	// connections there are must not be answered with nothing.
	defer func() { _ = server.Close() }()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) && !a.given.Load() {
		return err
	}
	return nil
}
