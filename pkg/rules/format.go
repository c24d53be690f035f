package rules

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/shadowtap/shadowtap/pkg/httpstream"
)

// A format is a header value as Envoy writes it: text with commands between
// percent signs (Envoy: substitution format strings). Of the commands those
// are known whose value can be seen from beside the path.
type format []formatPart

// formatPart is text, or a command if kind says so.
type formatPart struct {
	kind  formatKind
	text  string // or the name of a header field, lower-case
	other string // the field to take if that is missing, lower-case
	max   int    // bytes of the value, 0: all
	form  Normalization
	// after is what changed the header before, and gave the fields that are read
	// values of each request: in Envoy what a destination changes comes before
	// what the route does. nil: nothing that matters.
	after *edit
}

type formatKind uint8

const (
	formatText    formatKind = iota
	formatRequest            // %REQ(X?Y):Z%
	formatProtocol
	formatClient     // with port
	formatClientHost // without
	formatForwarded  // x-forwarded-for with the client's address
	formatPath       // path and query before a rewrite
)

// maxFormat bounds a header value of a rule, in bytes.
const maxFormat = 16 << 10

var formatCommand = regexp.MustCompile(`^%([A-Z0-9_]+)(?:\(([^()]*)\))?(?::([0-9]{1,4}))?%`)

// parseFormat reads a header value.
func parseFormat(s string) (format, error) {
	if len(s) > maxFormat {
		return nil, fmt.Errorf("longer than %d bytes", maxFormat)
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
		return nil, errors.New("expected text without control characters")
	}
	var f format
	for {
		before, _, found := strings.Cut(s, "%")
		f = f.with(before)
		if !found {
			return f, nil
		}
		if s = s[len(before):]; strings.HasPrefix(s, "%%") {
			f = f.with("%")
			s = s[2:]
			continue
		}
		m := formatCommand.FindStringSubmatch(s)
		if m == nil {
			return nil, errors.New(`"%" begins a command here, as %REQ(name)%; for the character itself write %%`)
		}
		s = s[len(m[0]):]
		part, err := newFormatPart(m[0], m[1], m[2], m[3])
		if err != nil {
			return nil, err
		}
		f = append(f, part)
	}
}

// with is f followed by text. It may be in f's memory.
func (f format) with(text string) format {
	if n := len(f); n > 0 && f[n-1].kind == formatText {
		f[n-1].text += text
	} else if text != "" {
		f = append(f, formatPart{text: text})
	}
	return f
}

func newFormatPart(all, name, arg, length string) (formatPart, error) {
	p := formatPart{}
	p.max, _ = strconv.Atoi(length) // of at most four digits
	switch name {
	case "REQ":
		p.kind = formatRequest
		p.text, p.other, _ = strings.Cut(strings.ToLower(arg), "?")
		if p.text == "" {
			return p, fmt.Errorf("%s: expected the name of a header", all)
		}
		return p, nil
	case "PROTOCOL":
		p.kind = formatProtocol
	case "DOWNSTREAM_REMOTE_ADDRESS":
		p.kind = formatClient
	case "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT":
		p.kind = formatClientHost
	default:
		return p, fmt.Errorf("%s is not supported yet: expected %%REQ(name)%%, %%PROTOCOL%%, "+
			"%%DOWNSTREAM_REMOTE_ADDRESS%% or %%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%%", all)
	}
	if arg != "" || length != "" {
		return p, fmt.Errorf("%s: expected no argument and no length", all)
	}
	return p, nil
}

// constant is the value if it is the same for all requests.
func (f format) constant() (string, bool) {
	switch {
	case len(f) == 0:
		return "", true
	case len(f) == 1 && f[0].kind == formatText:
		return f[0].text, true
	}
	return "", false
}

// after is f for a request that e has changed before, so that the value can be
// made of the request as it was.
func (f format) after(e *edit) (out format) {
	var text strings.Builder // joined once: there may be thousands of values of kilobytes
	for _, p := range f {
		switch p.kind {
		case formatText:
			text.WriteString(p.text)
			continue
		case formatRequest:
			if p.after != nil {
				p.after = e.then(p.after).before()
				break
			}
			value, was := e.outcome(p.text)
			if was == fieldGone && p.other != "" {
				p.text, p.other = p.other, ""
				value, was = e.outcome(p.text)
			}
			if was == fieldKept && p.other != "" {
				switch _, other := e.outcome(p.other); other {
				case fieldGone:
					p.other = ""
				case fieldSet, fieldVaries:
					p.after = e.before()
				}
			}
			switch was {
			case fieldGone:
				continue
			case fieldSet:
				if p.max > 0 {
					value = value[:min(p.max, len(value))]
				}
				text.WriteString(value)
				continue
			case fieldVaries:
				p.after = e.before()
			}
		}
		out = append(out.with(text.String()), p)
		text.Reset()
	}
	return out.with(text.String())
}

// empty reports whether the value for r is empty. Envoy adds no field then.
func (f format) empty(r *httpstream.Request) bool {
	for i := range f {
		switch p := &f[i]; p.kind {
		case formatRequest:
			if l, b, name := p.source(r); l != nil || len(b) > 0 || name == ":path" {
				return false
			}
		case formatClient, formatClientHost:
			if r.Source.IsValid() {
				return false
			}
		case formatForwarded:
			if _, ok := r.Get("x-forwarded-for"); ok || r.Source.IsValid() {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// append appends the value for r.
func (f format) append(dst []byte, r *httpstream.Request) []byte {
	for i := range f {
		switch p := &f[i]; p.kind {
		case formatText:
			dst = append(dst, p.text...)
		case formatRequest:
			dst = p.appendField(dst, r)
		case formatProtocol:
			dst = append(dst, r.Version()...)
		case formatClient:
			if r.Source.IsValid() {
				dst = r.Source.AppendTo(dst)
			}
		case formatClientHost:
			if r.Source.IsValid() {
				dst = r.Source.Addr().Unmap().AppendTo(dst)
			}
		case formatForwarded:
			dst = appendForwarded(dst, r)
		case formatPath:
			dst = appendSentPath(dst, r, p.form)
		}
	}
	return dst
}

// source is what a %REQ% takes, see edit.read, and the name of the field.
func (p *formatPart) source(r *httpstream.Request) (l *line, value []byte, name string) {
	l, value, ok := p.after.read(p.text, r)
	if ok || p.other == "" {
		return l, value, p.text
	}
	l, value, _ = p.after.read(p.other, r)
	return l, value, p.other
}

// appendField appends the value of a %REQ%.
func (p *formatPart) appendField(dst []byte, r *httpstream.Request) []byte {
	start := len(dst)
	switch l, value, name := p.source(r); {
	case l != nil:
		dst = l.value.append(dst, r)
	case name == ":path":
		dst = appendPath(dst, r, p.form)
	default:
		dst = append(dst, value...)
	}
	if p.max > 0 {
		dst = dst[:min(start+p.max, len(dst))]
	}
	return dst
}

// requestField is the value of a header field as Envoy sees it, its
// pseudo-fields included; the path is as it was sent, not as appendPath has it.
func requestField(r *httpstream.Request, name string) ([]byte, bool) {
	switch name {
	case ":authority", "host":
		b := r.Host()
		return b, len(b) > 0
	case ":method":
		return r.Method(), true
	case ":path":
		_, _, rest, _ := httpstream.SplitAbsolute(r.Target())
		return rest, true // "/" if it is empty
	}
	return r.Get(name)
}
