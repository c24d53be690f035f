package rules

import (
	"fmt"
	"strings"
	"testing"
)

// listenerServices are a service of one port and two of several; their
// endpoints serve a port as one that is higher by 1000.
func listenerServices() string {
	var b strings.Builder
	for i, s := range []struct{ name, ports string }{
		{"one", "{name: a, number: 8000, protocol: HTTP, targetPort: 9000}"},
		{"two", "{name: a, number: 80, protocol: HTTP, targetPort: 1080}, {name: b, number: 8080, protocol: HTTP, targetPort: 9080}"},
		{"shadow", "{name: a, number: 80, protocol: HTTP}, {name: b, number: 8000, protocol: HTTP}, {name: c, number: 8080, protocol: HTTP}"},
	} {
		fmt.Fprintf(&b, "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: %[1]s}\nspec:\n  hosts: [%[1]s.example]\n"+
			"  resolution: STATIC\n  ports: [%[2]s]\n  endpoints: [{address: 10.0.0.%[3]d}]\n---\n", s.name, s.ports, i+1)
	}
	return b.String()
}

func listenerRule(hosts, destinations string) string {
	return listenerServices() + "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: test}\nspec:\n  hosts: [" + hosts + "]\n" +
		"  http:\n  - route: [" + destinations + "]\n    mirror: {host: shadow.example}\n"
}

// TestDestinationPort: the port that a request was addressed to, which a mirror
// without a port goes to, by the destination, the host and the authority.
func TestDestinationPort(t *testing.T) {
	const (
		one      = "{destination: {host: one.example}}"
		two      = "{destination: {host: two.example}}"
		twoNamed = "{destination: {host: two.example, port: {number: 8080}}}"
		both     = "{destination: {host: two.example}, weight: 1}, {destination: {host: two.example, port: {number: 8080}}, weight: 1}"
		atTwo    = "10.0.0.2:9080"
	)
	for _, tt := range []struct {
		name, hosts, destination, authority, dst string
		want                                     uint32
	}{
		{"a destination keeps the port", "two.example", two, "two.example", atTwo, 8080},
		{"whatever Host says", "two.example", two, "two.example:80", atTwo, 8080},
		{"also of another host", "h.example", two, "h.example", atTwo, 8080},
		{"the only port of the host", "one.example", twoNamed, "one.example", atTwo, 8000},
		{"the only port of the host, whatever Host says", "one.example", twoNamed, "one.example:8080", atTwo, 8000},
		{"several ports of the host, one in Host", "two.example", twoNamed, "two.example:8080", atTwo, 8080},
		{"several ports of the host, that of http", "two.example", twoNamed, "two.example", atTwo, 80},
		{"the only port of the destination is not that of the host", "two.example", one, "two.example:8080", "10.0.0.1:9000", 8080},
		{"a host without a service", "h.example", twoNamed, "h.example", atTwo, 80},
		{"a host without a service, whatever Host says", "h.example", twoNamed, "h.example:8080", atTwo, 80},
		{"a host without a service next to one with", "h.example, two.example", twoNamed, "h.example:8080", atTwo, 8080},
		{"destinations with and without a port", "two.example", both, "two.example", atTwo, 80},
		{"every host", "'*'", one, "h.example", "10.0.0.1:9000", 8000},
		{"every host, a destination with a port", "'*'", twoNamed, "h.example", atTwo, 8080},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text := listenerRule(tt.hosts, tt.destination)
			p, _ := compile(t, text, Options{})
			d := decide(t, p, request(t, "GET /\nHost: "+tt.authority), tt.dst)
			if len(d.Selected) != 1 || d.Selected[0].Mirror.Port != tt.want {
				t.Fatalf("%v (%v), want %d", d.Selected, d.Why, tt.want)
			}
			// match.port asks for the same.
			for port, want := range map[uint32]bool{tt.want: true, tt.want + 1: false} {
				text := strings.Replace(text, "  - route:", fmt.Sprintf("  - match: [{port: %d}]\n    route:", port), 1)
				p, _ := compile(t, text, Options{})
				if d := decide(t, p, request(t, "GET /\nHost: "+tt.authority), tt.dst); (d.Route != nil) != want {
					t.Errorf("match.port %d: %v", port, d.Route)
				}
			}
		})
	}
}

// TestHostPort: on which ports there is a host in the mesh, if a client and a
// port are known.
func TestHostPort(t *testing.T) {
	client := &Client{Namespace: "default"}
	for _, tt := range []struct {
		name, hosts, authority string
		origin                 Origin
		want                   bool
	}{
		{"without a service, 80", "h.example", "h.example", Origin{Client: client, Port: 80}, true},
		{"without a service, another", "h.example", "h.example", Origin{Client: client, Port: 8080}, false},
		{"without a service, not known", "h.example", "h.example:8080", Origin{Client: client}, true},
		{"without a service, client not known", "h.example", "h.example", Origin{Port: 8080}, true},
		{"without a service, nothing known of the client", "h.example", "h.example", Origin{Client: &Client{}, Port: 8080}, true},
		{"of a service", "two.example", "two.example", Origin{Client: client, Port: 8080}, true},
		{"of a service, another", "two.example", "two.example", Origin{Client: client, Port: 8000}, false},
		{"of a service, 80", "one.example", "one.example", Origin{Client: client, Port: 80}, true},
		{"of a service, another name, 80", "one.example", "one.example.", Origin{Client: client, Port: 80}, false},
		{"of a service, another name", "one.example", "one.example.", Origin{Client: client, Port: 8000}, true},
		{"next to a service", "h.example, two.example", "h.example", Origin{Client: client, Port: 8080}, true},
		{"under a wildcard", "'*.example'", "two.example", Origin{Client: client, Port: 8080}, true},
		{"under a wildcard, another", "'*.example'", "one.example", Origin{Client: client, Port: 8080}, false},
		{"every host", "'*'", "h.example", Origin{Client: client, Port: 8080}, true},
	} {
		p, _ := compile(t, listenerRule(tt.hosts, "{destination: {host: two.example, port: {number: 8080}}}"), Options{})
		e := p.ExplainFrom(request(t, "GET /\nHost: "+tt.authority), tt.origin)
		if e.Matched != tt.want {
			t.Errorf("%s: %v, %v", tt.name, e.Matched, e.Tried)
		}
		if !tt.want && (len(e.Tried) != 1 || !strings.Contains(e.Tried[0].Reason, "in the mesh, a port of the service") && !strings.Contains(e.Tried[0].Reason, "one.example.")) {
			t.Errorf("%s: tried %v", tt.name, e.Tried)
		}
	}
}

// TestUnreachedMirror: a mirror that takes the port requests are addressed to
// and does not have it is told of, and no other.
func TestUnreachedMirror(t *testing.T) {
	const warning = "spec.http[0].mirror.port: is not given, so copies go to the port of web.example"
	for _, tt := range []struct {
		name, hosts, destination, mirror string
		warns                            bool
	}{
		{"a host without a service is served on 80", "h.example", "{host: one.example}", "{host: web.example}", true},
		{"also if a destination names a port", "h.example", "{host: two.example, port: {number: 8080}}", "{host: web.example}", true},
		{"the mirror names a port", "h.example", "{host: one.example}", "{host: web.example, port: {number: 8081}}", false},
		{"the mirror has the port", "h.example", "{host: one.example}", "{host: shadow.example}", false},
		{"the host's own port", "one.example", "{host: one.example}", "{host: web.example}", false},
		{"the destination keeps the port", "h.example", "{host: wide.example}", "{host: web.example}", false},
		{"every host", "'*'", "{host: one.example}", "{host: web.example}", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text := strings.Replace(listenerRule(tt.hosts, "{destination: "+tt.destination+"}"), "mirror: {host: shadow.example}", "mirror: "+tt.mirror, 1)
			for i, host := range []string{"web", "wide"} {
				text = fmt.Sprintf("apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: %[1]s}\nspec:\n  hosts: [%[1]s.example]\n  resolution: STATIC\n"+
					"  ports: [{name: a, number: 8000, protocol: HTTP}, {name: b, number: 8081, protocol: HTTP}]\n  endpoints: [{address: 10.0.1.%d}]\n---\n", host, i) + text
			}
			_, problems := compile(t, text, Options{})
			if got := strings.Contains(problems.Error(), warning); got != tt.warns {
				t.Errorf("warned: %v, want %v:\n%s", got, tt.warns, problems.Error())
			}
		})
	}
}
