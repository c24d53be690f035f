package main

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
)

// Echo is what an echo server was asked, and its answer. The field names are
// those of the echo server of the Gateway API's conformance tests
// (conformance/echo-basic).
type Echo struct {
	// Path is the request-target.
	Path    string              `json:"path"`
	Host    string              `json:"host"`
	Method  string              `json:"method"`
	Headers map[string][]string `json:"headers"`
	Pod     string              `json:"pod"`
}

// echo answers with what it was asked at one address, and with all that it was
// asked since it started at another.
func echo(ctx context.Context, address, recordsAddress string) error {
	name, err := podName()
	if err != nil {
		return err
	}
	var mu sync.Mutex
	all := []Echo{}
	server := &http.Server{Addr: address, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e := Echo{Path: r.RequestURI, Host: r.Host, Method: r.Method, Headers: r.Header, Pod: name}
		mu.Lock()
		all = append(all, e)
		mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(e)
	})}
	go func() {
		_ = http.ListenAndServe(recordsAddress, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			_ = json.NewEncoder(w).Encode(all)
		}))
	}()
	return serveUntil(ctx, server)
}
