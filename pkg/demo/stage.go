package demo

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/mccutchen/go-httpbin/v2/httpbin"

	"github.com/shadowtap/shadowtap/pkg/netlab"
)

// The addresses of the rules in standalone.yaml.
const (
	v1Address = "10.99.0.2:80"
	v2Address = "10.99.1.2:80"
)

// maxBody bounds what a server of the demo reads of one request, in bytes.
const maxBody = 16 << 20

// stage is the network and the servers: a client, v1 and v2, each behind its
// own interface of the node that routes between them, so that a packet to v1
// crosses two interfaces of the node.
type stage struct {
	node   *netlab.Namespace
	all    []*netlab.Namespace
	v1, v2 *server
	client *http.Client
}

// setStage builds the network and starts the servers.
func setStage() (s *stage, err error) {
	s = &stage{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
			s = nil
		}
	}()
	namespace := func(name string) *netlab.Namespace {
		if err != nil {
			return nil
		}
		var n *netlab.Namespace
		if n, err = netlab.New(name); err == nil {
			s.all = append(s.all, n)
		}
		return n
	}
	client, v1, v2 := namespace("client"), namespace("v1"), namespace("v2")
	s.node = namespace("node")
	if err != nil {
		return s, err
	}
	for net3, end := range map[string]*netlab.Namespace{"10.99.2": client, "10.99.0": v1, "10.99.1": v2} {
		if err = plug(s.node, end, net3); err != nil {
			return s, err
		}
	}
	if err = s.node.Forward(); err != nil {
		return s, err
	}
	if s.v1, err = serve(v1, "v1", v1Address); err != nil {
		return s, err
	}
	if s.v2, err = serve(v2, "v2", v2Address); err != nil {
		return s, err
	}
	s.client = &http.Client{Transport: &http.Transport{DialContext: client.Dial, DisableCompression: true}}
	return s, nil
}

// plug connects end (.2) to the node (.1) by the network net3.0/24.
func plug(node, end *netlab.Namespace, net3 string) error {
	prefix := func(host string) netip.Prefix { return netip.MustParsePrefix(net3 + host + "/24") }
	err := netlab.Connect(
		netlab.End{Namespace: node, Name: "to-" + end.Name(), Addresses: []netip.Prefix{prefix(".1")}},
		netlab.End{Namespace: end, Name: "eth0", Addresses: []netip.Prefix{prefix(".2")}})
	if err != nil {
		return err
	}
	return end.Route(netip.MustParsePrefix("0.0.0.0/0"), prefix(".1").Addr())
}

func (s *stage) close() (err error) {
	if s.client != nil {
		s.client.CloseIdleConnections()
	}
	for _, srv := range []*server{s.v1, s.v2} {
		if srv != nil {
			err = errors.Join(err, srv.close())
		}
	}
	for _, n := range s.all {
		err = errors.Join(err, n.Close())
	}
	return err
}

// receipt is one request as a server received it.
type receipt struct {
	method, target, host string
	body                 int64 // bytes of content
	sum                  [sha256.Size]byte
}

// server is one version of httpbin that keeps a receipt of every request.
type server struct {
	http     *http.Server
	receipts *mailbox[receipt]
	ended    chan error
}

func serve(n *netlab.Namespace, name, address string) (*server, error) {
	l, err := n.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	s := &server{receipts: newMailbox[receipt](), ended: make(chan error, 1)}
	s.http = &http.Server{
		Handler:           s.recorded(versionless(httpbin.New(httpbin.WithMaxBodySize(maxBody)))),
		ReadHeaderTimeout: patience,
		ErrorLog:          log.New(io.Discard, "", 0),
	}
	go func() { s.ended <- s.http.Serve(l) }()
	return s, nil
}

// recorded keeps a receipt of each request that carries an id.
func (s *server) recorded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got := receipt{method: r.Method, target: r.RequestURI, host: r.Host}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		got.body, got.sum = int64(len(body)), sha256.Sum256(body)
		s.receipts.put(r.Header.Get(idHeader), got)
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		next.ServeHTTP(w, r)
	})
}

// versionless lets one httpbin answer what v1 is asked, /httpbin/get, and what
// v2 is asked: the rule rewrites the prefix /httpbin to /, which by Envoy's
// and Istio's rules gives //get.
func versionless(bin http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.URL.Path = "/" + strings.TrimLeft(strings.TrimPrefix(r.URL.Path, "/httpbin"), "/")
		bin.ServeHTTP(w, r)
	})
}

func (s *server) forget() { s.receipts.clear() }

func (s *server) close() error {
	err := s.http.Close()
	if served := <-s.ended; !errors.Is(served, http.ErrServerClosed) && !errors.Is(served, net.ErrClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// send sends one request to v1 and reads the whole answer.
func (s *stage) send(ctx context.Context, r request) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, r.method, "http://"+v1Address+r.target, r.reader())
	if err != nil {
		return answer{}, err
	}
	req.Host = r.host
	req.Header.Set(idHeader, r.id)
	req.Header.Set("User-Agent", "shadowtap-demo")
	if r.contentType != "" {
		req.Header.Set("Content-Type", r.contentType)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, fmt.Errorf("%s %s: read the answer: %w", r.method, r.target, err)
	}
	return answer{status: resp.Status, body: body}, nil
}
