package torture

import (
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"strings"
)

// span is a range of bytes, [from, to).
type span struct{ from, to int }

func (s span) len() int { return s.to - s.from }

// message is one request as a client sends it.
type message struct {
	id  int
	raw []byte
	// target is where the request target stands, and line the length of the
	// request line with its CRLF.
	target span
	line   int
	head   int // length of the head, with the empty line
	// counted are the parts of the body whose length was announced before
	// them: all of it, or the data of each chunk.
	counted []span
	pause   bool // the client waits for 100 Continue before it sends the body
}

// Copies are compared by hash: a run is longer than memory is large.
var hashSeed = maphash.MakeSeed()

// Every target begins with servedPrefix, which the rules replace.
const (
	servedPrefix = "/t/"
	shadowPrefix = "/shadow-of-t/"
	agentName    = "torture"
	guardLine    = "x-shadowtap: " + agentName + "\r\n"
	idField      = "x-torture"
)

// hash is of the copy that the shadow must get: another prefix of the target,
// one more field at the end of the head, and every other byte as it is.
func (m *message) hash() uint64 {
	var h maphash.Hash
	h.SetSeed(hashSeed)
	_, _ = h.Write(m.raw[:m.target.from])
	_, _ = h.WriteString(shadowPrefix)
	_, _ = h.Write(m.raw[m.target.from+len(servedPrefix) : m.head-len("\r\n")])
	_, _ = h.WriteString(guardLine + "\r\n")
	_, _ = h.Write(m.raw[m.head:])
	return h.Sum64()
}

// sizes says how large what a case sends may get, in bytes.
type sizes struct{ body, field int }

// generator makes requests. Its zero values are not useful.
type generator struct {
	*rand.Rand
	sizes sizes
	noise []byte // where bodies are cut from
	isn   uint32 // of the connection made last
}

// newGenerator returns a generator whose requests follow from the seed. With
// lures their bodies contain what a parser that lost its place would take for
// requests.
func newGenerator(seed uint64, s sizes, lures bool) *generator {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 0x70726f62)), sizes: s}
	g.noise = make([]byte, 1<<20)
	for i := range g.noise {
		g.noise[i] = byte(g.Uint32())
	}
	for i := 0; lures && i < 4000; i++ {
		lure := []string{
			"\r\n\r\nPOST /t/lure HTTP/1.1\r\nHost: torture.test\r\nContent-Length: 5\r\n\r\n",
			"0\r\n\r\nGET /t/lure HTTP/1.1\r\n\r\n", "\r\n", "HTTP/1.1 200 OK\r\n\r\n", "ffff\r\n",
		}[g.IntN(5)]
		copy(g.noise[g.IntN(len(g.noise)):], lure)
	}
	return g
}

// upTo is mostly small and sometimes anything up to most.
func (g *generator) upTo(most int) int {
	for most > 64 && g.IntN(3) > 0 {
		most /= 4
	}
	return g.IntN(most + 1)
}

func (g *generator) chance(oneIn int) bool { return g.IntN(oneIn) == 0 }

func (g *generator) pick(list ...string) string { return list[g.IntN(len(list))] }

// text is n bytes out of an alphabet, of which some may come a little more
// often than others: a random number is used for eight of them.
func (g *generator) text(n int, alphabet string) string {
	b := make([]byte, n)
	var random uint64
	for i := range b {
		if i%8 == 0 {
			random = g.Uint64()
		}
		b[i] = alphabet[int(random&0xff)*len(alphabet)>>8]
		random >>= 8
	}
	return string(b)
}

const (
	alnum = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	token = alnum + "!#$%&'*+-.^_`|~"
	// query is what may stand in one (RFC 3986 section 3.4), and what
	// browsers send besides.
	query = alnum + "-._~!$&'()*+,;=:@/?%|\"[]{}"
	// visible is field content (RFC 9110 section 5.5), obs-text included.
	visible = token + " \t\",/:;<=>?@[\\]{}()\x80\xc3\xff"
)

// anyCase changes the case of letters at random.
func (g *generator) anyCase(s string) string {
	b := []byte(s)
	for i, c := range b {
		if (c|0x20) >= 'a' && (c|0x20) <= 'z' && g.chance(4) {
			b[i] = c ^ 0x20
		}
	}
	return string(b)
}

func (g *generator) method() string {
	if g.chance(20) {
		return "x-" + g.text(1+g.IntN(10), token)
	}
	return g.pick("GET", "GET", "GET", "POST", "POST", "PUT", "HEAD", "DELETE", "PATCH", "OPTIONS", "PROPFIND", "M-SEARCH", "TRACE")
}

func (g *generator) targetRest() string {
	s := g.text(1+g.upTo(200), alnum+"-_~")
	for g.chance(3) {
		s += "/" + g.text(1+g.IntN(20), alnum+"!$&'()*+,;=:@-_~")
	}
	if g.chance(2) {
		s += "?" + g.text(g.upTo(1000), query)
	}
	return s
}

// field is a field line that means nothing to framing.
func (g *generator) field() string {
	name := g.pick("Accept", "User-Agent", "Cookie", "X-Forwarded-For", "traceparent", "If-None-Match",
		"Content-Type", "Referer", "X-"+g.text(1+g.IntN(20), token))
	value := strings.Trim(g.text(g.upTo(g.sizes.field), visible), " \t")
	return g.anyCase(name) + ":" + g.pick("", " ", " ", " ", "  ", "\t") + value + g.pick("", "", "", " ", "\t ") + "\r\n"
}

// message makes the request with the given id. Only the last one of a
// connection may say that it is.
func (g *generator) message(id int, last bool) *message {
	m := &message{id: id}
	body, version := g.body(m), "HTTP/1.1"
	if m.counted == nil && g.chance(15) {
		version = "HTTP/1.0"
	}
	fields := []string{
		g.anyCase("Host") + ":" + g.pick("", " ", "  ") + "torture.test\r\n",
		fmt.Sprintf("%s: %d %d\r\n", g.anyCase(idField), id, len(body)),
	}
	switch {
	case m.counted == nil && len(body) == 0:
		if g.chance(5) {
			fields = append(fields, g.anyCase("Content-Length")+": 0\r\n")
		}
	case m.counted[0] == span{0, len(body)}:
		fields = append(fields, fmt.Sprintf("%s:%s%d\r\n", g.anyCase("Content-Length"), g.pick("", " "), len(body)))
	default:
		fields = append(fields, g.anyCase("Transfer-Encoding")+": "+g.anyCase("chunked")+"\r\n")
	}
	if len(body) > 0 && g.chance(8) {
		m.pause = true
		fields = append(fields, "Expect: 100-continue\r\n")
	}
	switch {
	case last && g.chance(2):
		if version == "HTTP/1.1" {
			fields = append(fields, g.anyCase("Connection")+": "+g.pick("close", "x, Close")+"\r\n")
		}
	case version == "HTTP/1.0", g.chance(10):
		fields = append(fields, g.anyCase("Connection")+": "+g.pick("keep-alive", "Keep-Alive, x")+"\r\n")
	}
	for range g.upTo(30) {
		fields = append(fields, g.field())
	}
	g.Shuffle(len(fields), func(i, j int) { fields[i], fields[j] = fields[j], fields[i] })
	m.compose(g.method(), servedPrefix+g.targetRest(), version, fields, body)
	return m
}

func (m *message) compose(method, target, version string, fields []string, body []byte) {
	head := method + " " + target + " " + version + "\r\n"
	m.line = len(head)
	m.target = span{len(method) + 1, len(method) + 1 + len(target)}
	head += strings.Join(fields, "") + "\r\n"
	m.head = len(head)
	m.raw = append([]byte(head), body...)
	for i := range m.counted {
		m.counted[i].from += m.head
		m.counted[i].to += m.head
	}
}

// content is n bytes that no other place of the stream has.
func (g *generator) content(n int) []byte {
	b := make([]byte, 0, n)
	for len(b) < n {
		from := g.IntN(len(g.noise))
		b = append(b, g.noise[from:min(len(g.noise), from+n-len(b))]...)
	}
	return b
}

// body makes a body and notes in m which parts of it are counted.
func (g *generator) body(m *message) []byte {
	switch g.IntN(5) {
	case 0, 1:
		return nil
	case 2, 3:
		b := g.content(1 + g.upTo(g.sizes.body))
		m.counted = []span{{0, len(b)}}
		return b
	}
	m.counted = []span{}
	var b []byte
	most := g.upTo(g.sizes.body)
	for most > 0 {
		n := 1 + g.upTo(most)
		most -= n
		size := g.anyCase(fmt.Sprintf("%0*x", 1+g.IntN(4), n))
		if g.chance(10) {
			size += g.pick(";ext", ";a=b;c=\"d e\"", ";"+g.text(1+g.IntN(60), token))
		}
		b = append(b, size+"\r\n"...)
		m.counted = append(m.counted, span{len(b), len(b) + n})
		b = append(b, g.content(n)...)
		b = append(b, "\r\n"...)
		if len(m.counted) == 200 {
			break
		}
	}
	b = append(b, g.pick("0", "0", "00000", "0;last")+"\r\n"...)
	if g.chance(3) {
		for range 1 + g.IntN(3) {
			b = append(b, g.field()...)
		}
	}
	b = append(b, "\r\n"...)
	if len(m.counted) == 0 { // an empty chunked body
		m.counted = []span{{len(b), len(b)}}
	}
	return b
}
