package rules

import (
	"strings"
	"testing"
)

// TestCatchAllOfSome: on a gateway, where the rules for one host are merged, a
// route for everything ends its rule for the clients it is for, although it is
// tried behind the routes of all rules.
func TestCatchAllOfSome(t *testing.T) {
	rule := func(name string, routes ...string) string {
		text := strings.Replace(strings.TrimPrefix(vs(routes...), services), "name: test", "name: "+name, 1)
		return "---\n" + strings.Replace(text, "  hosts: ['*']", "  gateways: [gw]\n  hosts: [h.example]", 1)
	}
	edge := &Client{Labels: map[string]string{"edge": "yes"}, Gateways: []string{"default/gw"}}
	other := &Client{Gateways: []string{"default/gw"}}
	for _, tt := range []struct {
		name, all string // the match of the route for everything
		path      string
		client    *Client
		port      uint32
		want      string
		told      bool // that foo comes behind the route for everything
	}{
		{"sourceLabels, ended", "{sourceLabels: {edge: 'yes'}}", "/foo", edge, 80, "a all", true},
		{"sourceLabels, of others", "{sourceLabels: {edge: 'yes'}}", "/foo", other, 80, "a foo", false},
		{"sourceLabels, another rule", "{sourceLabels: {edge: 'yes'}}", "/bar", edge, 80, "b bar", false},
		{"gateways, ended", "{gateways: [gw]}", "/foo", edge, 80, "a all", true},
		{"gateways, of others", "{gateways: [other]}", "/foo", edge, 80, "a foo", false},
		{"port, ended", "{port: 80}", "/foo", other, 80, "a all", true},
		{"port, of others", "{port: 80}", "/foo", other, 8080, "a foo", false},
		{"regex", "{uri: {regex: '.*'}, sourceLabels: {edge: 'yes'}}", "/foo", edge, 80, "a all", true},
		{"not everything", "{uri: {regex: '/.*'}, sourceLabels: {edge: 'yes'}}", "/foo", edge, 80, "a all", false},
		{"prefix, not everything", "{uri: {prefix: /f}, sourceLabels: {edge: 'yes'}}", "/bar", edge, 80, "b bar", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, _ := compile(t, services+
				rule("a", "name: all\nmatch: ["+tt.all+"]\n"+toV1, "name: foo\nmatch: [{uri: {prefix: /foo}}]\n"+toV1)+
				rule("b", "name: bar\nmatch: [{uri: {prefix: /bar}}]\n"+toV1), Options{})
			e := p.ExplainFrom(request(t, "GET "+tt.path+"\nHost: h.example"), Origin{Client: tt.client, Port: tt.port})
			if e.Rule == nil || e.Rule.Name+" "+e.Rule.Route != tt.want {
				t.Errorf("%v, want %s", e.Rule, tt.want)
			}
			told := false
			for _, tried := range e.Tried {
				told = told || tried.Rule.Route == "foo" && strings.Contains(tried.Reason, "VirtualService default/a route all (http[0]) takes everything")
			}
			if told != tt.told {
				t.Errorf("tried %v", e.Tried)
			}
		})
	}
}
