package rules

import (
	"strings"
	"testing"
)

// TestAdmission: what Istio's admission refuses is refused, and what it admits
// is admitted. Each row is a route of a rule that is right otherwise.
func TestAdmission(t *testing.T) {
	const redirect = "redirect: {uri: /x}\n"
	const direct = "directResponse: {status: 200}\n"
	for _, tt := range []struct{ name, route, field string }{
		{"uri.prefix, empty", "match: [{uri: {prefix: ''}}]\n" + toV1, ""},
		{"scheme.prefix, empty", "match: [{scheme: {prefix: ''}}]\n" + toV1, "match[0].scheme.prefix"},
		{"method.prefix, empty", "match: [{method: {prefix: ''}}]\n" + toV1, "match[0].method.prefix"},
		{"authority.prefix, empty", "match: [{authority: {prefix: ''}}]\n" + toV1, "match[0].authority.prefix"},
		{"headers.prefix, empty", "match: [{headers: {x-a: {prefix: ''}}}]\n" + toV1, "match[0].headers[x-a].prefix"},
		{"withoutHeaders.prefix, empty", "match: [{withoutHeaders: {x-a: {prefix: ''}}}]\n" + toV1, "match[0].withoutHeaders[x-a].prefix"},
		{"queryParams.prefix, empty", "match: [{queryParams: {a: {prefix: ''}}}]\n" + toV1, "match[0].queryParams[a].prefix"},
		{"match.gateways, empty", "match: [{gateways: ['']}]\n" + toV1, "match[0].gateways[0]"},
		{"headers, name with a dot", "match: [{headers: {x.a: {exact: v}}}]\n" + toV1, ""},
		{"withoutHeaders, name of all that a token has", "match: [{withoutHeaders: {\"x!#$%&'*+-.^_`|~1\": {exact: v}}}]\n" + toV1, ""},
		{"headers, name with a space", "match: [{headers: {x a: {exact: v}}}]\n" + toV1, "match[0].headers[x a]"},
		{"headers, pseudo-header", "match: [{headers: {':method': {exact: GET}}}]\n" + toV1, "match[0].headers[:method]"},
		{"redirect", redirect, ""},
		{"rewrite and redirect", "rewrite: {uri: /y}\n" + redirect, "rewrite"},
		{"directResponse", direct, ""},
		{"rewrite and directResponse", "rewrite: {uri: /y}\n" + direct, "rewrite"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			checkAdmission(t, vs(tt.route), tt.field)
		})
	}
	t.Run("gateways, empty", func(t *testing.T) {
		checkAdmission(t, strings.Replace(vs(toV1), "hosts: ['*']", "hosts: ['*']\n  gateways: ['']", 1), "spec.gateways[0]")
	})
}

// checkAdmission: the one field that is wrong in a text is this, none if it is
// empty.
func checkAdmission(t *testing.T, text, field string) {
	t.Helper()
	var wrong []string
	for _, p := range problemsOf(t, text) {
		if !p.Warning {
			wrong = append(wrong, p.Field)
		}
	}
	if got := strings.Join(wrong, " "); got != field && got != "spec.http[0]."+field {
		t.Errorf("wrong is %q, expected %q", got, field)
	}
}
