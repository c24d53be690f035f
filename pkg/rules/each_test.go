package rules

import (
	"fmt"
	"strings"
	"testing"
)

// namedRule is a VirtualService of a host of its own whose requests arrive at v1.
func namedRule(name, host, route string) string {
	return fmt.Sprintf("---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: %s}\nspec:\n  hosts: [%s]\n  http:\n  - %s\n",
		name, host, strings.ReplaceAll(strings.TrimSpace(route), "\n", "\n    "))
}

const gone = "route: [{destination: {host: httpbin, subset: v1}}]\nmirror: {host: httpbin, subset: v9}\n"

func TestCompileEach(t *testing.T) {
	for _, tt := range []struct {
		name, broken string
		problem      string
		why          map[string]FilterReason // of "host path", for requests that the sound rule does not take
	}{
		{"unknown subset", namedRule("broken", "b.com", gone), `VirtualService default/broken: spec.http[0].mirror.subset: "v9"`,
			map[string]FilterReason{"b.com /": NoMirror}},
		{"keeps its host", namedRule("broken", "a.com", gone), `VirtualService default/broken: spec.http[0].mirror.subset: "v9"`,
			map[string]FilterReason{}},
		{"unknown field", namedRule("broken", "b.com", "nonsense: 1\n"+toV1), `VirtualService default/broken: spec.http[0].nonsense: unknown field`,
			map[string]FilterReason{"b.com /": NoMirror}},
		{"the rest of a condition", namedRule("broken", "b.com", "match: [{uri: {prefix: /x}, nonsense: 1}]\n"+toV1),
			`VirtualService default/broken: spec.http[0].match[0].nonsense: unknown field`,
			map[string]FilterReason{"b.com /": NoMirror, "b.com /x": NoMirror}},
		{"a wrong condition", namedRule("broken", "b.com", "match: [{uri: {regex: '('}}]\n"+toV1),
			`VirtualService default/broken: spec.http[0].match[0].uri.regex: "(": expected an RE2`,
			map[string]FilterReason{"b.com /": NoMirror}},
		{"a right one", namedRule("broken", "b.com", "match: [{uri: {prefix: /x}}]\n"+gone), `spec.http[0].mirror.subset`,
			map[string]FilterReason{"b.com /": NoRoute, "b.com /x": NoMirror}},
		{"wrong host", namedRule("broken", "'b.com/'", toV1), `VirtualService default/broken: spec.hosts[0]`,
			map[string]FilterReason{"b.com /": NoHost}},
		{"a rule that it depends on", "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: z}\n" +
			"spec: {host: httpbin.other.com, subsets: [{name: '???', labels: {a: b}}]}\n",
			"DestinationRule default/z: spec.subsets[0].name", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, decoded := decodeAll(t, services+namedRule("sound", "s.com", toV1)+tt.broken)
			p, problems := CompileEach(s, Options{})
			if p == nil {
				t.Fatalf("nothing compiled: %v", problems)
			}
			all := append(decoded, problems...).Error()
			if !strings.Contains(all, tt.problem) {
				t.Errorf("problems:\n%s\nwant %s", all, tt.problem)
			}
			if strings.Contains(all, "default/sound") {
				t.Errorf("problems of the sound rule:\n%s", all)
			}
			if d := decide(t, p, request(t, "GET /\nHost: s.com"), "10.0.0.1:80"); d.Verdict != Mirrored {
				t.Errorf("the sound rule: %v, %v", d.Verdict, d.Why)
			}
			for r, want := range tt.why {
				host, path, _ := strings.Cut(r, " ")
				if d := decide(t, p, request(t, "GET "+path+"\nHost: "+host), "10.0.0.1:80"); d.Verdict == Mirrored || d.Why != want {
					t.Errorf("%s: %v, %v, want %v", r, d.Verdict, d.Why, want)
				}
			}
		})
	}
}

// TestCompileEachKeepsPrecedence: requests that a broken rule would take do not
// fall to the next one.
func TestCompileEachKeepsPrecedence(t *testing.T) {
	s, _ := decodeAll(t, services+namedRule("a-broken", "s.com", gone)+namedRule("b-sound", "s.com", toV1))
	p, _ := CompileEach(s, Options{})
	if d := decide(t, p, request(t, "GET /\nHost: s.com"), "10.0.0.1:80"); d.Verdict == Mirrored {
		t.Errorf("mirrored by %v", d.Route.Rule())
	}
}

// TestCompileEachTellsGatewaysApart: an error of Istio's Gateway leaves one of
// the same name of the Gateway API as it is, and the other way round.
func TestCompileEachTellsGatewaysApart(t *testing.T) {
	const istio = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: gw}\n" +
		"spec: {selector: {a: b}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [a.example]}]}\n---\n"
	const api = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: gw}\n" +
		"spec: {gatewayClassName: x, listeners: [{name: l, port: 80, protocol: HTTP, hostname: a.example}]}\n---\n"
	for _, tt := range []struct{ name, sound, broken, route, at, group string }{
		{"Istio's is wrong", api, strings.Replace(istio, "spec: {", "spec: {nonsense: 1, ", 1), httpRoutes(toShadow), "10.1.0.1:8080", "networking.istio.io"},
		{"the other is wrong", istio, strings.Replace(api, "spec: {", "spec: {nonsense: 1, ", 1),
			strings.Replace(vs(toV1), "  hosts: ['*']", "  gateways: [gw]\n  hosts: ['*']", 1), "10.0.0.1:80", "gateway.networking.k8s.io"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, decoded := decodeAll(t, tt.sound+tt.broken+tt.route)
			p, problems := CompileEach(s, Options{})
			problems = append(decoded, problems...)
			if p == nil || problems.Err() == nil {
				t.Fatalf("%v", problems)
			}
			for _, e := range problems {
				if e.Object == "Gateway default/gw" && e.Group != tt.group {
					t.Errorf("a problem of the sound one: %+v", e)
				}
			}
			for host, want := range map[string]Verdict{"a.example": Mirrored, "b.example": Filtered} {
				if d := decide(t, p, request(t, "GET /\nHost: "+host), tt.at); d.Verdict != want {
					t.Errorf("%s: %v, %v", host, d.Verdict, d.Why)
				}
			}
		})
	}
}

// TestCompileEachAgrees: without errors it is Compile.
func TestCompileEachAgrees(t *testing.T) {
	s, _ := decodeAll(t, vs(toV1, gone))
	if _, problems := CompileEach(s, Options{}); problems.Err() == nil {
		t.Error("no error for a subset that nobody defines")
	}
	s, _ = decodeAll(t, vs("match: [{uri: {prefix: /a}}]\n"+toV1, "mirrorPercent: 3\n"+toV1))
	want, warnings := Compile(s, Options{})
	got, problems := CompileEach(s, Options{})
	if fmt.Sprint(warnings) != fmt.Sprint(problems) || fmt.Sprint(want.Rules()) != fmt.Sprint(got.Rules()) {
		t.Errorf("%v\n%v", warnings, problems)
	}
}

func TestNeeds(t *testing.T) {
	const objects = `
apiVersion: v1
kind: Service
metadata: {name: a, namespace: one}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: b, namespace: two}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: c, namespace: three}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: plain, namespace: three}
spec: {hosts: [c], http: [{route: [{destination: {host: c}}]}]}
`
	p, _ := compile(t, objects, Options{})
	if n := p.Needs(); !n.Equal(Needs{}) {
		t.Errorf("without a mirror: %+v", n)
	}
	p, _ = compile(t, objects+`
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: mirrored, namespace: one}
spec:
  hosts: [a]
  http:
  - match: [{sourceLabels: {app: x}}, {sourceNamespace: four}]
    route: [{destination: {host: a}}]
    mirror: {host: b.two.svc.cluster.local}
`, Options{})
	want := Needs{
		Services: []ServiceName{{"one", "a"}, {"two", "b"}},
		Clients:  []PodSelector{{"", map[string]string{"app": "x"}}, {"four", nil}},
	}
	if n := p.Needs(); !n.Equal(want) {
		t.Errorf("got %+v, want %+v", n, want)
	}
}

func TestDecodeObject(t *testing.T) {
	s, problems := DecodeObject([]byte(`{"apiVersion":"networking.istio.io/v1beta1","kind":"VirtualService",` +
		`"metadata":{"name":"a","namespace":"n","uid":"1","managedFields":[{}]},"spec":{"hosts":["h"],"nonsense":1},"status":{"x":1}}`))
	if got, want := problems.Error(), "VirtualService n/a: spec.nonsense: unknown field, expected one of hosts, gateways, http, tls, tcp, exportTo"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if len(s.VirtualServices) != 1 || s.VirtualServices[0].node != nil || s.VirtualServices[0].Namespace != "n" {
		t.Errorf("%+v", s.VirtualServices)
	}
}

// TestDecodeObjectText: JSON may have characters in a text that YAML does not
// allow there, or takes for something else.
func TestDecodeObjectText(t *testing.T) {
	for _, want := range []string{"a", "\u007f", "a\u0080b", "a \u0085 b", "a\u2028b\u2029", "\ufeffa", "\ufffe\uffff", "\u00e9\u00a0\U0001f600"} {
		s, problems := DecodeObject([]byte(`{"apiVersion":"networking.istio.io/v1","kind":"WorkloadEntry",` +
			`"metadata":{"name":"a","namespace":"n"},"spec":{"address":"` + want + `"}}`))
		if len(s.WorkloadEntries) != 1 || s.WorkloadEntries[0].Spec.Address != want || len(problems) > 0 {
			t.Errorf("%q: %+v %v", want, s.WorkloadEntries, problems)
		}
	}
}
