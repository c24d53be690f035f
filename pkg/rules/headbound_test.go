package rules

import (
	"strings"
	"testing"
)

// TestHeadBound: what a rule makes of a head is known before it is made, and for
// usual rules the bound is not far from it.
func TestHeadBound(t *testing.T) {
	large := "GET /" + strings.Repeat("x", 2000) + "?q\nHost: h\nx-a: " + strings.Repeat("a", 8000)
	for name, tt := range map[string]struct {
		route, request string
		most           int // of the bound, in heads
	}{
		"nothing":          {toV1, large, 3},
		"usual":            {toV1 + "rewrite: {uri: /v2}\nheaders: {request: {set: {x-b: 'of %REQ(x-a)%'}, add: {x-c: d}}}", large, 5},
		"a field repeated": {toV1 + "headers: {request: {set: {x-b: '" + strings.Repeat("%REQ(x-a)%", 1000) + "'}}}", large, 1100},
		"many lines":       {toV1 + "headers: {request: {add: {" + strings.Repeat("x-b", 1) + ": " + strings.Repeat("y", 16000) + "}}}", "GET /\nHost: h", 1000},
		"each character":   {toV1 + "rewrite: {uriRegexRewrite: {match: '.', rewrite: '" + strings.Repeat(`z\0`, 400) + "'}}", large, 1000},
		"between them":     {toV1 + "rewrite: {uriRegexRewrite: {match: 'y*', rewrite: '" + strings.Repeat("$", 400) + "'}}", large, 1000},
	} {
		t.Run(name, func(t *testing.T) {
			p, _ := compile(t, vs(tt.route), Options{EnvoyHeaders: true, HostSuffix: true})
			r := request(t, tt.request)
			d := decide(t, p, r, "") // holds the head against the bound
			if got := d.Selected[0].HeadBound(r); got > tt.most*(r.Size()+1000) {
				t.Errorf("%d bytes for a head of %d", got, r.Size())
			}
		})
	}
}
