package rules

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/shadowtap/shadowtap/pkg/httpstream"
)

// Annotation is the annotation of a VirtualService, HTTPRoute or GRPCRoute that
// says what is done to and with copies besides what those can say. To others
// the object stays what it is. The value is a list in YAML or JSON; of its
// entries the first that names a mirror counts for it.
//
//	shadowtap.dev/mirrors: |
//	  - route: checkout            # these three: which mirrors; each may be left out
//	    host: reviews
//	    subset: v2
//	    headers:                   # of the copy alone
//	      set: {x-shadow: "true"}
//	      add: {x-client: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"}
//	      remove: [cookie]
//	    rewrite:                   # of the copy alone
//	      authority: v2.example
//	      prefix: /v2              # put before the path
//	      uriRegexRewrite: {match: "/old/", rewrite: "/new/"}
//	    sampling: {by: cookie, name: session}
//	    safeMethods: true          # only GET, HEAD, OPTIONS and TRACE
//	    maxRequestsPerSecond: 50
//	    maxBody: 65536             # bytes of content
//
// Sampling decides which requests make up the percentage. "request", the
// default, is Envoy's: mirrors with equal percentages take the same requests.
// "independent" draws for each mirror. "header", "cookie" and "query" with a
// name, and "client" for the client's address, take all or none of the
// requests with the same value; those without the value are drawn as with
// "request".
const Annotation = "shadowtap.dev/mirrors"

// extraForm is an entry of the annotation.
type extraForm struct {
	Route, Host, Subset *string
	Headers             struct {
		Set, Add map[string]string
		Remove   []string
	}
	Rewrite struct {
		Authority, Prefix string
		URIRegexRewrite   *struct{ Match, Rewrite string } `yaml:"uriRegexRewrite"`
	}
	Sampling             struct{ By, Name string }
	SafeMethods          bool     `yaml:"safeMethods"`
	MaxRequestsPerSecond *float64 `yaml:"maxRequestsPerSecond"`
	MaxBody              *int64   `yaml:"maxBody"`
}

// mirrors says which mirrors of its object the entry is for.
func (f *extraForm) mirrors() string {
	var b strings.Builder
	for _, s := range []*string{f.Route, f.Host, f.Subset} {
		if s == nil {
			b.WriteString("any ")
		} else {
			fmt.Fprintf(&b, "%q ", *s)
		}
	}
	return b.String()
}

// mirrorExtra is a compiled entry. nil is none.
type mirrorExtra struct {
	form    *extraForm
	at      *field
	used    bool // while compiling
	edit    *edit
	path    *pathEdit
	by      sampling
	name    string // of what by says
	safe    bool
	maxBody int64 // -1: any
	limit   *rateLimit
}

// sampling is what decides whether a request is in the sample.
type sampling uint8

const (
	byRequest sampling = iota
	independent
	byHeader
	byCookie
	byQuery
	byClient
)

var samplings = [...]string{"request", "independent", "header", "cookie", "query", "client"}

func (x *mirrorExtra) edits() *edit {
	if x == nil {
		return nil
	}
	return x.edit
}

func (x *mirrorExtra) paths() *pathEdit {
	if x == nil {
		return nil
	}
	return x.path
}

// admits reports whether the mirror is for r at all.
func (x *mirrorExtra) admits(r *httpstream.Request) bool {
	if x == nil {
		return true
	}
	return (!x.safe || isSafe(r.Method())) && (x.maxBody < 0 || r.ContentLen() <= x.maxBody)
}

// within reports whether the mirror may take one more request now.
func (x *mirrorExtra) within(r *httpstream.Request) bool { return x == nil || x.limit.take(r.End) }

// isSafe reports whether a method is safe (RFC 9110 section 9.2.1).
func isSafe(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "OPTIONS", "TRACE":
		return true
	}
	return false
}

// sample is the number that decides whether the request is in the sample. salt
// is the mirror's own.
func (x *mirrorExtra) sample(v *view, random, salt uint64) uint64 {
	if x == nil {
		return random
	}
	var value []byte
	ok := false
	switch x.by {
	case byRequest:
		return random
	case independent:
		return mix(random ^ salt)
	case byHeader:
		value, ok = v.header(x.name)
	case byCookie:
		value, ok = v.cookie(x.name)
	case byQuery:
		value, ok = v.param(x.name)
	case byClient:
		if a := v.r.Source.Addr().Unmap(); a.IsValid() {
			b := a.As16()
			return mix(hash(b[:]))
		}
	}
	if !ok {
		return random
	}
	return mix(hash(value))
}

// hash is FNV-1a.
func hash(b []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range b {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return h
}

// mix spreads the bits of x (the finalizer of SplitMix64).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// extras compiles the annotation of an object.
func (c *compiler) extras(meta *Meta) (out []*mirrorExtra) {
	if meta.Extras == "" {
		return nil
	}
	at := (*field)(nil).dot("metadata").dot("annotations").entry(Annotation)
	d := yaml.NewDecoder(strings.NewReader(meta.Extras))
	d.KnownFields(true)
	var forms []extraForm
	if err := d.Decode(&forms); err != nil && !errors.Is(err, io.EOF) {
		msg := strings.TrimPrefix(err.Error(), "yaml: ")
		if wrong, ok := errors.AsType[*yaml.TypeError](err); ok {
			msg = strings.ReplaceAll(strings.Join(wrong.Errors, "; "), " in type rules.extraForm", "")
		}
		c.errorf(meta, at, "", "expected a list of what to do for mirrors: %s", msg)
		return nil
	}
	for i := range forms {
		out = append(out, c.extra(meta, &forms[i], at.at(i)))
	}
	return out
}

func (c *compiler) extra(meta *Meta, in *extraForm, at *field) *mirrorExtra {
	x := &mirrorExtra{form: in, at: at, safe: in.SafeMethods, maxBody: -1}
	e := &edit{}
	if h := &in.Headers; len(h.Set)+len(h.Add)+len(h.Remove) > maxHeaderOps {
		c.errorf(meta, at.dot("headers"), "", "expected at most %d entries", maxHeaderOps)
		return x
	}
	_, e.lines = c.lines(meta, in.Headers.Set, at.dot("headers").dot("set"), true)
	host, add := c.lines(meta, in.Headers.Add, at.dot("headers").dot("add"), false)
	e.lines = append(e.lines, add...)
	if _, ok := in.Headers.Set["host"]; ok || host != "" {
		c.errorf(meta, at.dot("headers"), "", "cannot change the host: use rewrite.authority")
	}
	for i, name := range in.Headers.Remove {
		if c.headerName(meta, name, at.dot("headers").dot("remove").at(i)) {
			e.remove = append(e.remove, strings.ToLower(name))
		}
	}
	rewrite := at.dot("rewrite")
	c.hostValue(meta, rewrite.dot("authority"), in.Rewrite.Authority)
	e.host = in.Rewrite.Authority
	x.edit = e.some()
	x.path = c.pathEdit(meta, in, rewrite)
	if in.MaxBody != nil {
		if x.maxBody = *in.MaxBody; x.maxBody < 0 {
			c.errorf(meta, at.dot("maxBody"), fmt.Sprint(x.maxBody), "expected 0 or more bytes")
		}
	}
	if rate := in.MaxRequestsPerSecond; rate != nil {
		if !(*rate > 0 && *rate <= 1e9) {
			c.errorf(meta, at.dot("maxRequestsPerSecond"), fmt.Sprint(*rate), "expected a number above 0")
		} else {
			x.limit = newRateLimit(limitKey{meta.named(), in.mirrors(), *rate})
		}
	}
	c.sampling(meta, in, x, at.dot("sampling"))
	return x
}

func (c *compiler) sampling(meta *Meta, in *extraForm, x *mirrorExtra, at *field) {
	by := in.Sampling.By
	if by == "" && in.Sampling.Name == "" {
		return
	}
	i := slices.Index(samplings[:], by)
	if i < 0 {
		c.errorf(meta, at.dot("by"), by, "expected one of %s", strings.Join(samplings[:], ", "))
		return
	}
	x.by, x.name = sampling(i), in.Sampling.Name
	named := x.by == byHeader || x.by == byCookie || x.by == byQuery
	switch {
	case named && x.name == "":
		c.errorf(meta, at.dot("name"), "", "is required for %s", by)
	case !named && x.name != "":
		c.errorf(meta, at.dot("name"), x.name, "has no meaning for %s", by)
	case x.by == byHeader:
		x.name = strings.ToLower(x.name)
	}
}

// give finds the entry for a mirror, nil if there is none.
func give(extras []*mirrorExtra, route string, m *Mirror, namespace string) *mirrorExtra {
	for _, x := range extras {
		f := x.form
		if (f.Route == nil || *f.Route == route) && (f.Host == nil || fullName(*f.Host, namespace) == m.Host) &&
			(f.Subset == nil || *f.Subset == m.Subset) {
			x.used = true
			return x
		}
	}
	return nil
}

// misplacedExtras reports annotations on objects that have no mirrors.
func (c *compiler) misplacedExtras(s *Snapshot) {
	at := (*field)(nil).dot("metadata").dot("annotations").entry(Annotation)
	s.metas(func(m *Meta) {
		mirrors := m.Kind == "HTTPRoute" || m.Kind == "GRPCRoute" ||
			m.Kind == "VirtualService" && c.delegates[m.Namespace+"/"+m.Name] == nil
		if m.Extras != "" && !mirrors {
			c.warnf(m, at, "", "has no effect: expected on a VirtualService with hosts, an HTTPRoute or a GRPCRoute")
		}
	})
}

// strayExtras reports entries for which there is no mirror.
func (c *compiler) strayExtras(meta *Meta, extras []*mirrorExtra) {
	for _, x := range extras {
		if !x.used {
			c.errorf(meta, x.at, "", "is for no mirror of this object")
		}
	}
}

// pathEdit changes the path of a copy, after what the rule makes of it.
type pathEdit struct {
	prefix string
	regex  *regexRewrite
}

// apply changes the path at dst[at:].
func (p *pathEdit) apply(dst []byte, at int) []byte {
	if p.regex != nil {
		dst = p.regex.apply(dst, at)
	}
	if n := len(p.prefix); n > 0 {
		length := len(dst) - at
		dst = append(dst, p.prefix...)
		copy(dst[at+n:], dst[at:at+length])
		copy(dst[at:], p.prefix)
	}
	return dst
}

func (c *compiler) pathEdit(meta *Meta, in *extraForm, at *field) *pathEdit {
	p := &pathEdit{prefix: strings.TrimSuffix(in.Rewrite.Prefix, "/")}
	if s := in.Rewrite.Prefix; s != "" && (s[0] != '/' || badPath(s) || strings.ContainsAny(s, "?#")) {
		c.errorf(meta, at.dot("prefix"), s, `expected a path that begins with "/", without query, spaces and control characters`)
	}
	if x := in.Rewrite.URIRegexRewrite; x != nil {
		p.regex = c.regexRewrite(meta, &networking.RegexRewrite{Match: x.Match, Rewrite: x.Rewrite}, at.dot("uriRegexRewrite"))
	}
	if p.prefix == "" && p.regex == nil {
		return nil
	}
	return p
}
