package referee

import (
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/shadowtap/shadowtap/test/referee/envoy"
)

// request is a request to host that mostly does what a match entry of vs asks
// for, and often nearly.
func (g *generator) request(vs *networking.VirtualService, host string) *envoy.Request {
	m := &networking.HTTPMatchRequest{}
	if h := pick(g, vs.Http...); len(h.Match) > 0 {
		m = pick(g, h.Match...)
	}
	method, path := pick(g, "GET", "GET", "POST", "PUT", "HEAD"), g.path()
	if m.Uri != nil && g.chance(.8) {
		path = g.meet(m.Uri, path)
	}
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	if m.Method != nil && g.chance(.8) {
		method = strings.TrimRight(g.meet(m.Method, method), "/bar")
	}
	if m.Authority != nil && g.chance(.7) {
		host = strings.TrimRight(g.meet(m.Authority, host), "/")
	}
	switch n := g.IntN(40); {
	case n == 0 && m.IgnoreUriCase:
		path = strings.ToUpper(path)
	case n < 3 && m.IgnoreUriCase:
		path = strings.ToLower(path)
	case n == 3:
		path = pick(g, "/x/..", "/.", "//..", "/%2e", "/x/%2E%2e") + path
	case n == 4:
		path += pick(g, "/..", "/.", "/../bar", "/./", "/...", "%2e", "/x/..%2fy")
	case n == 5:
		path = "/" + strings.Replace(path[1:], "/", `\`, 1)
	case n == 6:
		path += pick(g, "%00", "%", "%zz", "%2f", "%41", "~", ";x=1", ":", "@")
	case n == 7:
		path = strings.Replace(path, "o", "%6F", 1)
	}
	r := &envoy.Request{Method: method, Target: path + g.query(m), Source: clientAddress, Choice: g.IntN(4)}
	if g.chance(.02) {
		r.Target += pick(g, "#", "#x", "#?a=v")
	}
	sent := host
	if g.chance(.08) {
		r.Target = pick(g, "http", "HTTP") + "://" + host + r.Target
		sent = pick(g, host, "elsewhere.example.com")
		if g.chance(.2) {
			r.Target = pick(g, "http://"+host, "http://"+host+"?a=v")
		}
	}
	if g.chance(.01) {
		r.Method, r.Target = "OPTIONS", "*"
	}
	r.Fields = g.fields(m, sent)
	return r
}

// meet is a text that meets a condition, now and then nearly; otherwise is
// what may stand where anything does.
func (g *generator) meet(m *networking.StringMatch, otherwise string) string {
	switch m := m.MatchType.(type) {
	case *networking.StringMatch_Exact:
		return m.Exact + pick(g, "", "", "", "", "x", "/")
	case *networking.StringMatch_Prefix:
		return m.Prefix + pick(g, "", "", "x", "/", "/bar", "w")
	case *networking.StringMatch_Regex:
		if texts := expressions()[m.Regex]; texts != nil {
			return pick(g, texts...)
		}
	}
	return otherwise
}

// query is a query string that mostly meets the conditions of m.
func (g *generator) query(m *networking.HTTPMatchRequest) string {
	var pairs []string
	for _, name := range sorted(m.QueryParams) {
		if g.chance(.85) {
			value := g.meet(m.QueryParams[name], g.value())
			value = strings.ReplaceAll(value, " ", "+")
			if value == "" && g.chance(.5) {
				pairs = append(pairs, name)
			} else {
				pairs = append(pairs, name+"="+value)
			}
		}
	}
	for g.chance(.25) {
		pair := pick(g, "a", "a=", "a=v", "A=v", "b=w", "a=v=w", "", "=", "=v", "a%3Dv", "a%20=v", "b=%76", "b=?a=v")
		if g.chance(.5) {
			pairs = append(pairs, pair)
		} else {
			pairs = append([]string{pair}, pairs...)
		}
	}
	if pairs == nil {
		return pick(g, "", "", "", "", "?", "?&")
	}
	return "?" + strings.Join(pairs, "&")
}

// fields are header fields that mostly meet the conditions of m.
func (g *generator) fields(m *networking.HTTPMatchRequest, host string) [][2]string {
	fields := [][2]string{{pick(g, "Host", "host"), host}}
	for _, name := range sorted(m.Headers) {
		if strings.EqualFold(name, "host") || g.chance(.15) {
			continue
		}
		value := g.meet(m.Headers[name], g.value())
		if first, rest, repeated := strings.Cut(value, ","); repeated && g.chance(.5) {
			fields = append(fields, [2]string{name, first}, [2]string{g.inCase(name), rest})
		} else {
			fields = append(fields, [2]string{g.inCase(name), value})
		}
	}
	for _, name := range sorted(m.WithoutHeaders) {
		if g.chance(.4) {
			fields = append(fields, [2]string{name, g.meet(m.WithoutHeaders[name], g.value())})
		}
	}
	for g.chance(.25) {
		fields = append(fields, [2]string{g.headerName(), g.value()})
	}
	for i := range fields {
		fields[i][1] = strings.Trim(fields[i][1], " ")
	}
	return fields
}

func (g *generator) inCase(name string) string {
	return pick(g, name, strings.ToUpper(name), strings.ToLower(name))
}
