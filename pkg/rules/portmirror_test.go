package rules

import (
	"fmt"
	"net/url"
	"testing"
)

func TestPortMirror(t *testing.T) {
	for _, tt := range []struct {
		to, address, serverName string
		tls                     bool
	}{
		{"http://shadow", "shadow:80", "", false},
		{"http://shadow/", "shadow:80", "", false},
		{"http://10.0.0.1:8080", "10.0.0.1:8080", "", false},
		{"https://shadow.example", "shadow.example:443", "shadow.example", true},
		{"https://[::1]:8443", "[::1]:8443", "::1", true},
	} {
		u, err := url.Parse(tt.to)
		if err != nil {
			t.Fatal(err)
		}
		p, err := PortMirror(8080, u, 50)
		if err != nil {
			t.Errorf("%s: %v", tt.to, err)
			continue
		}
		if got := p.Mirrors()[0].Endpoints[0]; got != (Endpoint{Address: tt.address, TLS: tt.tls, ServerName: tt.serverName}) {
			t.Errorf("%s: %+v", tt.to, got)
		}
		if got := fmt.Sprint(p.Targets()); got != "[0.0.0.0:8080]" {
			t.Errorf("targets %s", got)
		}
		if rm := p.hosts.any.routes[0].Mirrors()[0]; rm.Percentage() != 50 {
			t.Errorf("%v %%", rm.Percentage())
		}
	}
	a, _ := PortMirror(1, &url.URL{Scheme: "http", Host: "a:443"}, 100)
	b, _ := PortMirror(1, &url.URL{Scheme: "https", Host: "a"}, 100)
	if a.Mirrors()[0].Key() == b.Mirrors()[0].Key() {
		t.Error("http and https to the same port have the same key")
	}
}

// TestPortMirrorVerbatim: whatever arrives at the port is mirrored as it is.
func TestPortMirrorVerbatim(t *testing.T) {
	p, err := PortMirror(8080, &url.URL{Scheme: "http", Host: "shadow"}, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, head := range []string{
		"GET /a/../b?x#f HTTP/1.1\nHost: h", "OPTIONS * HTTP/1.1\nHost: h", "GET http://u/%00 HTTP/1.1\nHost: h",
		"GET / HTTP/1.0",
	} {
		for dst, want := range map[string]FilterReason{
			"": NotFiltered, "10.0.0.1:8080": NotFiltered, "[::1]:8080": NotFiltered, "10.0.0.1:80": OtherDestination,
		} {
			r := request(t, head)
			d := decide(t, p, r, dst)
			if d.Why != want || d.Route.Rule().Kind != "CommandLine" {
				t.Errorf("%s at %q: %v", head, dst, d.Why)
			}
			whole := string(r.Method()) + " " + string(r.Target()) + " " + string(r.Version()) + "\r\n" + string(r.HeaderBlock())
			if got := string(d.Route.AppendHead(nil, r)); got != whole {
				t.Errorf("%q became %q", whole, got)
			}
		}
	}
}

func TestPortMirrorRefuses(t *testing.T) {
	for _, to := range []string{
		"", "shadow:80", "ftp://shadow", "http://", "http://:80", "http://u@shadow", "http://shadow/path",
		"http://shadow?", "http://shadow?q", "http://shadow#f", "http://shadow:0", "http://shadow:65536",
	} {
		u, err := url.Parse(to)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := PortMirror(80, u, 100); err == nil {
			t.Errorf("%q accepted", to)
		}
	}
	u := &url.URL{Scheme: "http", Host: "shadow"}
	if _, err := PortMirror(0, u, 100); err == nil {
		t.Error("port 0 accepted")
	}
	if _, err := PortMirror(80, nil, 100); err == nil {
		t.Error("no URL accepted")
	}
	for _, percent := range []float64{-1, 100.1} {
		if _, err := PortMirror(80, u, percent); err == nil {
			t.Errorf("%v %% accepted", percent)
		}
	}
	p, err := PortMirror(80, u, 0)
	if err != nil || len(p.Targets()) != 0 {
		t.Errorf("0 %%: %v, %v", p.Targets(), err)
	}
}
