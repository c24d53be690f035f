package main

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Load says what to send until /stop, in addition to what is sent already.
type Load struct {
	// Name begins the id of every request.
	Name string `json:"name"`
	// URL is what is asked, with Host in the Host header field.
	URL  string `json:"url"`
	Host string `json:"host"`
	// PerSecond is the rate; Limit ends it after so many.
	PerSecond int `json:"per_second"`
	Limit     int `json:"limit"`
	// Close opens a connection for each request.
	Close bool `json:"close"`
}

// Outcome is one request as the client saw it.
type Outcome struct {
	ID string `json:"id"`
	// At and Done are when it began and ended.
	At     time.Time `json:"at"`
	Done   time.Time `json:"done"`
	Status int       `json:"status"`
	// By is the name of the pod that answered.
	By    string `json:"by"`
	Error string `json:"error,omitempty"`
}

// client runs loads and keeps their outcomes.
type client struct {
	mu       sync.Mutex
	stop     chan struct{}
	running  sync.WaitGroup
	outcomes []Outcome
}

// newClient returns the client's API: POST /start with a Load; POST /stop,
// which ends all loads and answers with the outcomes since the last /stop;
// POST /finish, the same once every load has reached its limit.
func newClient() http.Handler {
	c := &client{stop: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /start", func(w http.ResponseWriter, r *http.Request) {
		var l Load
		if err := json.NewDecoder(r.Body).Decode(&l); err != nil || l.PerSecond < 1 {
			http.Error(w, "expected a Load", http.StatusBadRequest)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		stop := c.stop
		c.running.Go(func() { c.run(l, stop) })
	})
	mux.HandleFunc("POST /stop", func(w http.ResponseWriter, _ *http.Request) {
		c.mu.Lock()
		close(c.stop)
		c.stop = make(chan struct{})
		c.mu.Unlock()
		c.finish(w)
	})
	mux.HandleFunc("POST /finish", func(w http.ResponseWriter, _ *http.Request) { c.finish(w) })
	return mux
}

// finish answers with the outcomes when all loads have ended.
func (c *client) finish(w http.ResponseWriter) {
	c.running.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = json.NewEncoder(w).Encode(c.outcomes)
	c.outcomes = nil
}

// atOnce bounds the requests of one load that are under way.
const atOnce = 64

func (c *client) run(l Load, stop <-chan struct{}) {
	transport := &http.Transport{
		DisableKeepAlives:   l.Close,
		MaxIdleConnsPerHost: atOnce,
		TLSClientConfig:     &tls.Config{InsecureSkipVerify: true},
	}
	defer transport.CloseIdleConnections()
	sender := &http.Client{Transport: transport, Timeout: 30 * time.Second}
	tick := time.NewTicker(time.Second / time.Duration(l.PerSecond))
	defer tick.Stop()
	var underWay sync.WaitGroup
	defer underWay.Wait()
	var busy atomic.Int64
	for n := 0; l.Limit == 0 || n < l.Limit; n++ {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		if busy.Load() >= atOnce {
			n--
			continue
		}
		busy.Add(1)
		underWay.Go(func() {
			defer busy.Add(-1)
			o := send(sender, l, n)
			c.mu.Lock()
			defer c.mu.Unlock()
			c.outcomes = append(c.outcomes, o)
		})
	}
}

// send asks for the n-th time. Every third request has a body.
func send(sender *http.Client, l Load, n int) (o Outcome) {
	o = Outcome{ID: fmt.Sprintf("%s-%d", l.Name, n), At: time.Now()}
	defer func() { o.Done = time.Now() }()
	method, path, body := http.MethodGet, "/get", ""
	if n%3 == 2 {
		method, path, body = http.MethodPost, "/post", strings.Repeat("0123456789abcdef", n%512)
	}
	req, err := http.NewRequest(method, l.URL+path, strings.NewReader(body))
	if err != nil {
		o.Error = err.Error()
		return o
	}
	req.Host = l.Host
	req.Header.Set("X-Request-Id", o.ID)
	resp, err := sender.Do(req)
	if err != nil {
		o.Error = err.Error()
		return o
	}
	defer resp.Body.Close()
	o.Status, o.By = resp.StatusCode, resp.Header.Get("X-Served-By")
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		o.Error = err.Error()
	}
	return o
}
