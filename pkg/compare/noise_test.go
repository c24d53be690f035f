package compare

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// uuid is a different one for each n.
func uuid(n int) string { return fmt.Sprintf("%08d-aaaa-4bbb-8ccc-dddddddddddd", n) }

func TestNoise(t *testing.T) {
	const requests, repeats = 4, 25
	for _, tt := range []struct {
		name string
		// make returns the answers to the n-th repeat of a request.
		make      func(request, n int) (v1, v2 *Answer)
		want      []string
		different uint64 // pairs beside those that differ in noise only
	}{
		{name: "an id that is another each time",
			make: func(r, n int) (*Answer, *Answer) {
				return answer(`{"id":"` + uuid(n) + `","a":1}`), answer(`{"id":"` + uuid(1000+n) + `","a":1}`)
			}, want: []string{"$.id"}},
		{name: "and in a list, with a header field and a cookie",
			make: func(r, n int) (*Answer, *Answer) {
				return answer(fmt.Sprintf(`[{"t":%d},{"t":%d}]`, n, n+1), fmt.Sprint("X-Took: ", n), "Set-Cookie: s="+uuid(n)),
					answer(fmt.Sprintf(`[{"t":%d},{"t":%d}]`, n+1000, n+1001), fmt.Sprint("X-Took: ", 1000+n), "Set-Cookie: s="+uuid(n+1000))
			}, want: []string{"$[].t", "set-cookie s", "x-took"}},
		{name: "a page with a nonce",
			make: func(r, n int) (*Answer, *Answer) {
				return answer(fmt.Sprintf("<i nonce=a%d>", n), "Content-Type: text/html"), answer(fmt.Sprintf("<i nonce=b%d>", n), "Content-Type: text/html")
			}, want: []string{"text"}},
		{name: "a defect beside noise, now and then",
			make: func(r, n int) (*Answer, *Answer) {
				wrong := ""
				if n == 7 {
					wrong = `,"b":2`
				}
				return answer(`{"id":"` + uuid(n) + `","a":1}`), answer(`{"id":"` + uuid(1000+n) + `","a":1` + wrong + `}`)
			}, want: []string{"$.id"}, different: requests},
		{name: "always wrong, while production repeats itself",
			make: func(r, n int) (*Answer, *Answer) {
				return answer(fmt.Sprintf(`{"price":%d}`, r)), answer(fmt.Sprintf(`{"price":%d}`, n+100))
			}, different: requests * repeats},
		{name: "wrong elsewhere in a list each time, while production repeats itself",
			make: func(r, n int) (*Answer, *Answer) {
				v2 := []int{1, 2, 3, 4, 5, 6}
				v2[n%6] = 0
				return answer(`[1,2,3,4,5,6]`), answer(fmt.Sprint(`[`, v2[0], `,`, v2[1], `,`, v2[2], `,`, v2[3], `,`, v2[4], `,`, v2[5], `]`))
			}, different: requests * repeats},
		{name: "production's state moves on, the shadow is wrong now and then",
			make: func(r, n int) (*Answer, *Answer) {
				v2 := n
				if n%5 == 0 {
					v2 = 1000
				}
				return answer(fmt.Sprintf(`{"stock":%d}`, n)), answer(fmt.Sprintf(`{"stock":%d}`, v2))
			}, different: requests * repeats / 5},
		{name: "production changed its answer once",
			make: func(r, n int) (*Answer, *Answer) {
				return answer(fmt.Sprintf(`{"v":%d}`, n/20)), answer(`{"v":9}`)
			}, different: requests * repeats},
		{name: "a flag",
			make: func(r, n int) (*Answer, *Answer) {
				return answer(fmt.Sprintf(`{"v":%v}`, n%2 == 0)), answer(fmt.Sprintf(`{"v":%v}`, n%2 == 1))
			}, different: requests * repeats},
		{name: "an id that the shadow leaves empty",
			make: func(r, n int) (*Answer, *Answer) {
				return answer(`{"id":"` + uuid(n) + `"}`), answer(`{"id":""}`)
			}, different: requests * repeats},
		{name: "an id that the shadow has not",
			make: func(r, n int) (*Answer, *Answer) {
				return answer(`{"id":"` + uuid(n) + `"}`), answer(`{}`)
			}, different: requests * repeats},
		{name: "a status that varies",
			make: func(r, n int) (*Answer, *Answer) {
				return withStatus(200+n%5, answer(``)), withStatus(210, answer(``))
			}, different: requests * repeats},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newComparer(t, Options{})
			for n := range repeats {
				for r := range requests {
					p := pair(tt.make(r, n))
					p.Target, p.Request = fmt.Sprint("/", r), 1
					c.Add(p)
				}
			}
			j := c.Report().Judge(DefaultLimits())
			var got []string
			for _, n := range j.Noise {
				got = append(got, n.Path)
			}
			slices.Sort(got)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("noise (-want +got):\n%s", diff)
			}
			want := Counts{Pairs: requests * repeats, Different: tt.different}
			if tt.want != nil {
				want.Noise = want.Pairs - want.Different
			} else {
				want.Same = want.Pairs - want.Different
			}
			if diff := cmp.Diff(want, j.Mirrors[0].Counts); diff != "" {
				t.Errorf("pairs (-want +got):\n%s", diff)
			}
		})
	}
}

// Answers to different requests may differ: that is no evidence.
func TestNoNoiseWithoutRepeats(t *testing.T) {
	for _, tt := range []struct {
		name    string
		request func(n int) (target string, identity uint64)
	}{
		{"other targets", func(n int) (string, uint64) { return fmt.Sprint("/", n), 1 }},
		{"other users", func(n int) (string, uint64) { return "/me", identityOf("Authorization", fmt.Sprint("Bearer ", n)) }},
		{"unknown", func(n int) (string, uint64) { return "/me", 0 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newComparer(t, Options{})
			for n := range 200 {
				p := pair(answer(`{"id":"`+uuid(n)+`"}`), answer(`{"id":"`+uuid(1000)+`"}`))
				p.Target, p.Request = tt.request(n)
				c.Add(p)
			}
			j := c.Report().Judge(DefaultLimits())
			if len(j.Noise) > 0 || j.Mirrors[0].Different != 200 {
				t.Errorf("noise %v, %+v", j.Noise, j.Mirrors[0].Counts)
			}
		})
	}
}

func identityOf(header ...string) uint64 {
	var d Identity
	for i := 0; i < len(header); i += 2 {
		d.Field([]byte(header[i]), []byte(header[i+1]))
	}
	return d.Sum()
}

func TestIdentity(t *testing.T) {
	a := identityOf("Accept", "x", "Authorization", "y")
	for name, b := range map[string]uint64{
		"order and case":                identityOf("authorization", "y", "ACCEPT", "x"),
		"fields that differ every time": identityOf("Accept", "x", "Traceparent", "1", "Authorization", "y", "X-Request-Id", "2", "x-shadowtap", "3", "User-Agent", "4"),
	} {
		if a != b {
			t.Errorf("%s makes another request", name)
		}
	}
	for name, b := range map[string]uint64{
		"another value": identityOf("Accept", "x", "Authorization", "z"),
		"another name":  identityOf("Accept", "x", "X-Authorization", "y"),
		"no field":      identityOf("Accept", "x"),
		"cut elsewhere": identityOf("Accept", "xAuthorization", "", "y"),
		"nothing":       identityOf(),
	} {
		if a == b {
			t.Errorf("%s makes no other request", name)
		}
	}
	var whole, parts, other Identity
	whole.Content([]byte("abc"))
	parts.Content([]byte("a"))
	parts.Content([]byte("bc"))
	other.Content([]byte("abd"))
	if whole.Sum() != parts.Sum() || whole.Sum() == other.Sum() || whole.Sum() == identityOf() {
		t.Error("content is digested wrongly")
	}
}

// Tables are bounded, and what is not in them is held against the shadow.
func TestBounds(t *testing.T) {
	c := newComparer(t, Options{})
	const n = 400
	for i := range n {
		for _, s := range []string{"m", "n"} {
			p := pair(answer(`{}`), answer(fmt.Sprintf(`{"k%da":{"x":1},"id":%d}`, i, i)))
			p.Mirror, p.Rule, p.Target, p.Request = s, fmt.Sprint("rule", i), fmt.Sprint("/", i), 1
			c.Add(p)
			p.Mirror, p.Rule = fmt.Sprint(s, i), "r"
			c.Add(p)
			p.Mirror, p.Method = "many", fmt.Sprint("M", i)
			c.Add(p)
			p.Production.Status, p.Shadow.Status = 200+i%100, 300+i
			c.Add(p)
			p.Shadow, p.Failure = nil, fmt.Sprint("failure", i)
			c.Add(p)
		}
	}
	r := c.Report()
	if len(r.Mirrors) != maxMirrors+1 || len(r.Routes) != maxRoutes {
		t.Errorf("%d mirrors, %d routes", len(r.Mirrors), len(r.Routes))
	}
	pairs := uint64(0)
	for name, m := range r.Mirrors {
		pairs += m.Pairs
		if !m.Balanced() {
			t.Errorf("mirror %s does not add up: %+v", name, m)
		}
		if len(m.Status) > maxCounters+1 || len(m.Failed) > maxCounters+1 {
			t.Errorf("mirror %s: %d pairs of status, %d failures", name, len(m.Status), len(m.Failed))
		}
	}
	if pairs != 10*n {
		t.Errorf("%d pairs, want %d", pairs, 10*n)
	}
	for key, route := range r.Routes {
		if len(route.Places) > maxPlaces || len(route.Combinations) > maxCombinations || len(route.Requests) > maxRequests {
			t.Errorf("route %s: %d places, %d combinations, %d requests", key, len(route.Places), len(route.Combinations), len(route.Requests))
		}
	}
	for _, m := range r.Judge(DefaultLimits()).Mirrors {
		if m.Pairs != m.Same+m.Noise+m.Different+m.Failed+m.Missed {
			t.Errorf("%+v", m)
		}
	}
	for _, route := range r.Routes {
		if route.Method != "GET" && route.Method != other {
			t.Errorf("a route for the method %s", route.Method)
		}
	}
}
