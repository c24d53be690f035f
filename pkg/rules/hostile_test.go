package rules

import (
	"fmt"
	"strings"
	"testing"
)

// TestListOfItself: an alias can make a List an item of itself, and a few nested
// Lists more objects than there is memory for.
func TestListOfItself(t *testing.T) {
	itself := "apiVersion: v1\nkind: List\nitems: &items\n- {apiVersion: v1, kind: List, items: *items}\n"
	nested := "apiVersion: v1\nkind: List\nitems:\n- &l0 {apiVersion: v1, kind: Namespace, metadata: {name: a}}\n"
	for i := range 12 {
		items := strings.Repeat(fmt.Sprintf("*l%d, ", i), 10)
		nested += fmt.Sprintf("- &l%d {apiVersion: v1, kind: List, items: [%s]}\n", i+1, items)
	}
	for name, text := range map[string]string{"itself": itself, "nested": nested} {
		t.Run(name, func(t *testing.T) {
			_, ps := decodeAll(t, text)
			if ps.Err() == nil || !strings.Contains(ps.Error(), "too deep or too large") {
				t.Errorf("%.300v", ps)
			}
		})
	}
}

// TestManyProblems: of an object with thousands of them enough are
// listed for a person, what is wrong with others too, and nothing of it is used.
func TestManyProblems(t *testing.T) {
	const n = 1000
	many := func(entry string) string { return strings.Repeat(entry+", ", n) }
	long := strings.Repeat("x", 1<<20)
	for name, routes := range map[string]string{
		"fields":   "{" + toV1Flow + ", match: [" + many("{nonsense: {exact: /}}") + "]}",
		"values":   "{" + toV1Flow + ", match: [" + many("{uri: {regex: '('}}") + "]}",
		"warnings": "{" + toV1Flow + "}, " + many("{match: [{uri: {prefix: /}}], "+toV1Flow+"}"),
		"long":     "{" + toV1Flow + ", match: [{uri: {regex: '(" + long + "'}}, {" + long + ": 1}]}",
	} {
		t.Run(name, func(t *testing.T) {
			s, decoded := decodeAll(t, services+namedRule("z", "z.com", gone)+
				"---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: many}\nspec: {hosts: [m.com], http: ["+routes+"]}\n")
			p, problems := CompileEach(s, Options{})
			if p == nil {
				t.Fatal("nothing compiled")
			}
			problems = append(decoded, problems...)
			if len(problems) > 2*maxProblems+10 || len(problems.Error()) > 100<<10 {
				t.Errorf("%d problems, %d bytes", len(problems), len(problems.Error()))
			}
			if !strings.Contains(problems.Error(), `VirtualService default/z: spec.http[0].mirror.subset: "v9"`) {
				t.Error("what is wrong with another object is not among them")
			}
			if name != "long" && !strings.Contains(problems.Error(), "VirtualService default/many: "+moreProblems) {
				t.Errorf("it is not said that there are more:\n%.2000s", problems.Error())
			}
			want := Filtered
			if name == "warnings" {
				want = Mirrored
			}
			if d := decide(t, p, request(t, "GET /\nHost: m.com"), "10.0.0.1:80"); d.Verdict != want {
				t.Errorf("%v, want %v", d.Verdict, want)
			}
		})
	}
}

const toV1Flow = "route: [{destination: {host: httpbin, subset: v1}}], mirror: {host: httpbin, subset: v2}"

// TestProducts: what an object multiplies to is refused before it is made.
func TestProducts(t *testing.T) {
	list := func(n int, format string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format+", ", i)
		}
		return "[" + b.String() + "]"
	}
	const head = "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: %s}\n"
	for name, tt := range map[string]struct{ object, refused string }{
		"matches": {
			fmt.Sprintf(head, "hostile") + "spec: {hosts: [h.com], http: [{match: " + list(3000, "{name: r%d}") + ", delegate: {name: leaf}}]}\n" +
				fmt.Sprintf(head, "leaf") + "spec: {http: [{match: " + list(3000, "{name: l%d}") + ", " + toV1Flow + "}]}\n",
			"the delegations of namespace default come to more than 32 MiB",
		},
		"delegations": {
			fmt.Sprintf(head, "hostile") + "spec: {hosts: [h.com], http: " + list(1000, "{match: [{name: r%d}], delegate: {name: leaf}}") + "}\n" +
				fmt.Sprintf(head, "leaf") + "spec: {http: [{match: [{uri: {prefix: /" + strings.Repeat("x", 100000) + "}}], " + toV1Flow + "}]}\n",
			"the delegations of namespace default come to more than 32 MiB",
		},
		"hosts": {
			fmt.Sprintf(head, "hostile") + "spec: {hosts: " + list(2000, "h%d.com") + ", gateways: " + list(200, "g%d") + ", http: [{" + toV1Flow + "}]}\n",
			"2000 hosts at 200 gateways are too many",
		},
		"gateways": {
			fmt.Sprintf(head, "hostile") + "spec: {hosts: [h.com], gateways: " + list(1000, "g%d") + ", http: [{" + toV1Flow + "}]}\n",
			"1 hosts at 1000 gateways are too many",
		},
		"header fields": {
			fmt.Sprintf(head, "hostile") + "spec: {hosts: [h.com], http: [{" + toV1Flow + ", headers: {request: {add: {" +
				strings.NewReplacer("[", "", "]", "").Replace(list(2000, "x-%d: y")) + "}}}}]}\n",
			`spec.http[0].headers.request: "2000": expected at most 1000 entries`,
		},
		"none": {
			fmt.Sprintf(head, "large") + "spec: {hosts: " + list(5000, "h%d.com") + ", http: [{match: " + list(5, "{name: r%d}") + ", delegate: {name: leaf}}]}\n" +
				fmt.Sprintf(head, "leaf") + "spec: {http: [" + strings.Repeat("{match: "+list(20, "{uri: {prefix: /l%d}}")+", "+toV1Flow+"}, ", 100) + "]}\n", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := decodeAll(t, services+tt.object+namedRule("sound", "s.com", toV1))
			p, problems := CompileEach(s, Options{})
			if p == nil || (problems.Err() != nil) != (tt.refused != "") || !strings.Contains(problems.Error(), tt.refused) {
				t.Fatalf("%.1000v", problems)
			}
			if d := decide(t, p, request(t, "GET /\nHost: s.com"), "10.0.0.1:80"); d.Verdict != Mirrored {
				t.Errorf("the sound rule: %v, %v", d.Verdict, d.Why)
			}
		})
	}
}

// TestControlCharacters: what an object, or a request, is called does nothing to
// a terminal.
func TestControlCharacters(t *testing.T) {
	const name, path = `"a\u001b[2J\nok\u202e"`, `"/\u001b]0;x\u0007"`
	rule := strings.Replace(namedRule("NAME", "s.com", "name: NAME\nmatch: [{uri: {exact: PATH}}, {uri: {prefix: /}, name: NAME}]\n"+toV1), "nonsense", "", 1)
	text := services + strings.NewReplacer("NAME", name, "PATH", path).Replace(rule)
	unsafe := func(s string) bool { return strings.ContainsAny(strings.ReplaceAll(s, "\n", ""), "\x1b\a\u202e") }
	p, _ := compile(t, text, Options{})
	var b strings.Builder
	for _, target := range []string{"/", "/x\u202e"} {
		if err := p.Explain(request(t, "GET "+target+"\nHost: s.com")).WriteText(&b); err != nil {
			t.Fatal(err)
		}
	}
	if unsafe(b.String()) || strings.Contains(b.String(), "\nok") || !strings.Contains(b.String(), "VirtualService default/a\ufffd[2J") {
		t.Errorf("%q", b.String())
	}
	for _, broken := range []string{strings.Replace(text, "subset: v2}\n", "subset: "+name+"}\n", 1), text + "---\n{apiVersion: " + name + ", kind: " + name + "}\n",
		strings.Replace(text, "mirror:", name+": 1\n    mirror:", 1)} {
		if ps := problemsOf(t, broken); ps.Err() == nil || unsafe(ps.Error()) || strings.Contains(ps.Error(), "\nok") {
			t.Errorf("%q", ps.Error())
		}
	}
}

// TestHostileRoot: anybody may delegate to somebody else's object, whose own
// mirroring goes on whatever is wrong with what he adds.
func TestHostileRoot(t *testing.T) {
	const object = "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: %s, namespace: %s}\nspec: {%s}\n"
	leaf := fmt.Sprintf(object, "leaf", "default", "http: [{match: [{uri: {prefix: /}, headers: {x: {exact: y}}}], "+toV1Flow+"}, {route: [{destination: {host: httpbin, subset: v1}}]}]") +
		fmt.Sprintf(object, "root", "default", "hosts: [s.com], http: [{delegate: {name: leaf}}]")
	for name, tt := range map[string]struct {
		route, field string
		options      Options
	}{
		"mirror":     {route: "mirror: {host: nowhere.example}", field: "spec.http[0].mirror.host"},
		"percentage": {route: "mirrorPercentage: {value: 101}", field: "spec.http[0].mirrorPercentage.value"},
		"headers":    {route: "headers: {request: {set: {x: '%NO%'}}}", field: "spec.http[0].headers.request.set[x]"},
		"rewrite":    {route: "rewrite: {uri: '/ /'}", field: "spec.http[0].rewrite.uri"},
		"match":      {route: "match: [{method: {regex: '('}}]", field: "spec.http[0].match[0].method.regex"},
		"timeout":    {route: "timeout: 0.0001s", field: "spec.http[0].timeout"},
		"namespace":  {route: "", field: "spec.http[0].delegate", options: Options{OwnNamespace: true}},
		"memory": { // enough for the expression, but not for each route that inherits it
			route: "match: [{method: {regex: 'a{1000}b{1000}'}}]", options: Options{MaxMemory: 4 << 20},
		},
		"expressions": { // likewise
			route: "match: [" + strings.Repeat("{method: {regex: '[a-z]{1000}[0-9]{1000}[a-z]{1000}'}}, ", 90) + "]", field: "spec.http[0].delegate",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := decodeAll(t, services+leaf+fmt.Sprintf(object, "hostile", "other", "hosts: [h.com], http: [{delegate: {name: leaf, namespace: default}, "+tt.route+"}]"))
			p, problems := CompileEach(s, tt.options)
			if p == nil || problems.Err() == nil {
				t.Fatalf("%v", problems)
			}
			for _, problem := range problems {
				if !problem.Warning && (problem.Object != "VirtualService other/hostile" || problem.Field != tt.field) {
					t.Errorf("%v, want it to be of %s", problem, tt.field)
				}
			}
			if d := decide(t, p, request(t, "GET /\nHost: s.com\nX: y"), "10.0.0.1:80"); d.Verdict != Mirrored {
				t.Errorf("the delegate's own root: %v, %v", d.Verdict, d.Why)
			}
		})
	}
}
