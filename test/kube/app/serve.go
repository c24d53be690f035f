package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mccutchen/go-httpbin/v2/httpbin"
)

// Record is one request as the server saw it.
type Record struct {
	ID     string `json:"id"`
	Method string `json:"method"`
	Host   string `json:"host"`
	Target string `json:"target"`
	// Copy: it came from an agent.
	Copy bool `json:"copy"`
}

// records are kept in memory: a test sends some thousands.
type records struct {
	mu  sync.Mutex
	all []Record
}

// lameDuck is how long a server goes on after it was told to stop: the time
// that the nodes have to learn that it is no longer an endpoint.
const lameDuck = 15 * time.Second

// podName is the name of the pod: the host's, unless POD_NAME says otherwise,
// as it must where the pod uses the network of its node.
func podName() (string, error) {
	if name := os.Getenv("POD_NAME"); name != "" {
		return name, nil
	}
	return os.Hostname()
}

// serve is httpbin at one address, and what it was asked at another.
func serve(ctx context.Context, address, recordsAddress string) error {
	name, err := podName()
	if err != nil {
		return err
	}
	var r records
	var stopping atomic.Bool
	bin := httpbin.New()
	server := &http.Server{Addr: address, Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		// A probe is no request of a client's.
		if id := req.Header.Get("X-Request-Id"); id != "" {
			r.add(Record{id, req.Method, req.Host, req.RequestURI, req.Header.Get("X-Shadowtap") != ""})
		}
		w.Header().Set("X-Served-By", name)
		if stopping.Load() {
			w.Header().Set("Connection", "close")
		}
		// Production is asked for /httpbin/get; the rule makes that //get.
		req.URL.Path = "/" + strings.TrimLeft(strings.TrimPrefix(req.URL.Path, "/httpbin"), "/")
		bin.ServeHTTP(w, req)
	})}
	go func() { _ = http.ListenAndServe(recordsAddress, &r) }()
	context.AfterFunc(ctx, func() { stopping.Store(true) })
	return serveUntil(ctx, server)
}

// serveUntil serves until the time to go on after ctx ended is over.
func serveUntil(ctx context.Context, server *http.Server) error {
	context.AfterFunc(ctx, func() {
		time.AfterFunc(lameDuck, func() { _ = server.Shutdown(context.Background()) })
	})
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (r *records) add(record Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, record)
}

// ServeHTTP answers with all records.
func (r *records) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = json.NewEncoder(w).Encode(r.all)
}
