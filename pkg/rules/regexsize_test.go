package rules

import (
	"fmt"
	"regexp/syntax"
	"strings"
	"testing"
)

// TestProgramSize: it is never much less than what the expression really
// compiles to, which is the oracle.
func TestProgramSize(t *testing.T) {
	for _, expr := range []string{
		"", "a", "abc", "(?i)abc", ".*", "[a-z]+", "(a|b|cd)?", "a{3}", "a{2,}", "a{0,5}", "(ab{2}c){10}", "(a{10}b){10}",
		"((a{10}){10}){10}", `\pL`, `[^/]{1,63}`, `(?:(?:a?){30}b){30}`, "^$", `\b\d+\b`, "(?:a*)*", "(a|b*){1000}", "(|a){50}",
	} {
		re, err := syntax.Parse(expr, syntax.Perl)
		if err != nil {
			t.Fatal(err)
		}
		prog, err := syntax.Compile(re.Simplify())
		if err != nil {
			t.Fatal(err)
		}
		if got, is := programSize(re), len(prog.Inst); 2*got+4 < is {
			t.Errorf("%q: %d, has %d instructions", expr, got, is)
		}
	}
}

// TestHugeExpressions: what unfolds to more than Envoy takes, or than an object
// may, is refused before there is memory for it.
func TestHugeExpressions(t *testing.T) {
	match := func(expr string) string { return "{uri: {regex: '" + expr + "'}}" }
	host := `([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\.){1,8}com/v[0-9]{1,3}/[A-Za-z0-9._~-]{1,128}`
	for name, tt := range map[string]struct{ matches, refused string }{
		"usual":        {match("^/v[0-9]+/([a-f0-9]{8}-([a-f0-9]{4}-){3}[a-f0-9]{12})/.*"), ""},
		"large":        {match(host), ""},
		"many":         {strings.Repeat(match(`/item/[0-9]{1,19}/[A-Za-z0-9_-]{1,64}`)+", ", 1000), ""},
		"repeated":     {match(strings.Repeat("[a-z]{1000}", 40)), "more than 32768 instructions"},
		"classes":      {match(strings.Repeat(`\pL`, 340)), "more than 32768 instructions"},
		"many large":   {strings.Repeat(match("[a-z]{1000}[0-9]{1000}[a-z]{1000}")+", ", 1000), "unfolds to too much"},
		"long":         {match(strings.Repeat("(a{1000})", 200)), "expected an expression of 1 to 1024 bytes"},
		"of a rewrite": {"{uri: {prefix: /}}], rewrite: {uriRegexRewrite: {match: '" + strings.Repeat("[a-z]{1000}", 40) + "', rewrite: /}}, x-: [", "more than 32768 instructions"},
	} {
		t.Run(name, func(t *testing.T) {
			route := strings.Replace("{match: ["+tt.matches+"], "+toV1Flow+"}", ", x-: []", "", 1)
			ps := problemsOf(t, services+fmt.Sprintf("apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: x}\nspec: {hosts: [x.com], http: [%s]}\n", route))
			if refused := ps.Err() != nil; refused != (tt.refused != "") || !strings.Contains(ps.Error(), tt.refused) {
				t.Errorf("%.1000v", ps)
			}
		})
	}
}
