package compare

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// traffic is n pairs of all kinds, from a seed.
func traffic(seed uint64, n int) []*Pair {
	rnd := rand.New(rand.NewPCG(seed, 1))
	pick := func(n int) int { return int(float64(n) * rnd.Float64() * rnd.Float64()) }
	pairs := make([]*Pair, n)
	for i := range pairs {
		object := func() string {
			var b strings.Builder
			fmt.Fprintf(&b, `{"a":%d`, pick(3))
			for range pick(6) {
				fmt.Fprintf(&b, `,"k%da":{"x":%d}`, pick(40), pick(2))
			}
			return b.String() + "}"
		}
		p := pair(answer(object(), fmt.Sprint("X-A: ", pick(3))), answer(object(), fmt.Sprint("X-A: ", pick(3))))
		p.Time = start.Add(time.Duration(rnd.IntN(1000)) * time.Second)
		p.Production.Latency = time.Duration(pick(1000)) * time.Millisecond
		p.Shadow.Latency = time.Duration(pick(1000)) * time.Millisecond
		p.Mirror, p.Rule = fmt.Sprint("m", pick(100)), fmt.Sprint("r", pick(100))
		p.Target, p.Request = fmt.Sprint("/", pick(50)), uint64(pick(3))
		p.Production.Status = 200 + 100*pick(4) + pick(3)
		if p.Shadow.Status = p.Production.Status; rnd.IntN(5) == 0 {
			p.Shadow.Status = 500 + pick(100)
		}
		switch rnd.IntN(10) {
		case 0:
			p.Shadow, p.Failure = nil, fmt.Sprint("f", pick(100))
		case 1:
			p.Missed = Reason(rnd.IntN(int(NumReasons)))
		}
		pairs[i] = p
	}
	return pairs
}

// sameSeed makes comparers redact alike, which those of different agents do
// not.
func sameSeed(t testing.TB, n int) []*Comparer {
	all := make([]*Comparer, n)
	for i := range all {
		all[i] = newComparer(t, Options{})
		all[i].redact.seed = testSeed
	}
	return all
}

func merged(t testing.TB, reports ...*Report) *Report {
	t.Helper()
	r := NewReport()
	for _, o := range reports {
		if err := r.Merge(o); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// The reports of a stream that was split in any way, merged in any order and
// grouping, over the wire or not, are the report of the whole.
func checkMerge(t *testing.T, seed uint64, n int) *Report {
	t.Helper()
	c := sameSeed(t, 4)
	rnd := rand.New(rand.NewPCG(seed, 2))
	for _, p := range traffic(seed, n) {
		c[0].Add(p)
		c[1+rnd.IntN(3)].Add(p)
	}
	a, b, d := c[1].Report(), c[2].Report(), c[3].Report()
	wire, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	b = nil
	if err := json.Unmarshal(wire, &b); err != nil {
		t.Fatal(err)
	}
	want := c[0].Report()
	for name, got := range map[string]*Report{
		"abd":   merged(t, a, b, d),
		"dba":   merged(t, d, b, a),
		"a(bd)": merged(t, a, merged(t, b, d)),
		"(da)b": merged(t, merged(t, d, a), b),
	} {
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%s is not the report of the whole (-want +got):\n%s", name, diff)
		}
		if diff := cmp.Diff(want.Judge(DefaultLimits()), got.Judge(DefaultLimits())); diff != "" {
			t.Fatalf("%s has another verdict (-want +got):\n%s", name, diff)
		}
	}
	for name, m := range want.Mirrors {
		if !m.Balanced() {
			t.Fatalf("mirror %s does not add up: %+v", name, m)
		}
	}
	return want
}

func TestMerge(t *testing.T) {
	r := checkMerge(t, 1, 1200)
	if r.Mirrors[other] == nil || len(r.Routes) != maxRoutes {
		t.Errorf("no table is full: %d mirrors, %d routes", len(r.Mirrors), len(r.Routes))
	}
}

func FuzzMerge(f *testing.F) {
	f.Add(uint64(1), uint16(10))
	f.Add(uint64(2), uint16(100))
	f.Fuzz(func(t *testing.T, seed uint64, n uint16) { checkMerge(t, seed, int(n%512)) })
}

func TestMergeRefuses(t *testing.T) {
	c := newComparer(t, Options{})
	for _, p := range traffic(3, 50) {
		c.Add(p)
	}
	good, err := json.Marshal(c.Report())
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ old, new, want string }{
		{`"format":1`, `"format":2`, "the report has format 2, want 1: the agent is of another version"},
		{`"scale":"us`, `"scale":"ms`, "latencies are counted in other buckets"},
		{`"production":{"scale":"us, 8 per doubling","counts":{`, `"production":{"scale":"us, 8 per doubling","counts":{"4000":1,`, "in a bucket 4000"},
		{`"mirrors":{`, `"mirrors":{"x":null,`, `mirror "x": no counts`},
		{`"routes":{`, `"routes":{"x":null,`, `route "x": malformed`},
		{`"change":"`, `"change":"x`, "malformed"},
	} {
		text := strings.Replace(string(good), tt.old, tt.new, 1)
		if text == string(good) {
			t.Fatalf("no %s in the report", tt.old)
		}
		var bad *Report
		if err := json.Unmarshal([]byte(text), &bad); err != nil {
			t.Fatal(err)
		}
		r := c.Report()
		if err := r.Merge(bad); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", tt.new, err, tt.want)
		}
		if diff := cmp.Diff(c.Report(), r); diff != "" {
			t.Errorf("%s changed the report:\n%s", tt.new, diff)
		}
	}
	// What newer agents add is not ours to know.
	var newer *Report
	text := strings.Replace(string(good), `"format":1`, `"format":1,"new":{"x":1}`, 1)
	if err := json.Unmarshal([]byte(text), &newer); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(c.Report(), merged(t, newer)); diff != "" {
		t.Errorf("unknown fields make a difference:\n%s", diff)
	}
}
