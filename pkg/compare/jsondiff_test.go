package compare

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

// decodeNaively reads a document into maps, in which a name has all of its
// values, and slices; numbers become fractions. Members whose names
// are masked are left out.
func decodeNaively(doc []byte, masked func(string) bool) (v any, ok bool) {
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	defer func() { _ = recover() }() // a document that is cut off has no next token
	v = naive(d, masked)
	return v, true
}

func naive(d *json.Decoder, masked func(string) bool) any {
	token, err := d.Token()
	if err != nil {
		panic(err)
	}
	switch t := token.(type) {
	case json.Delim:
		if t == '[' {
			list := []any{}
			for d.More() {
				list = append(list, naive(d, masked))
			}
			_, _ = d.Token()
			return list
		}
		members := map[string][]any{}
		for d.More() {
			name, _ := d.Token()
			v := naive(d, masked)
			if !masked(name.(string)) {
				members[name.(string)] = append(members[name.(string)], v)
			}
		}
		_, _ = d.Token()
		return members
	case json.Number:
		r, ok := rational(string(t))
		if !ok {
			panic("a number beyond the oracle")
		}
		return "number " + r.String()
	case string:
		return "string " + t
	}
	return token
}

func depthOf(doc []byte) (deepest int) {
	depth := 0
	for _, c := range doc {
		switch c {
		case '[', '{':
			depth++
		case ']', '}':
			depth--
		}
		deepest = max(deepest, depth)
	}
	return deepest
}

var jsonSeeds = []string{
	`{"a":1,"b":[1,2,{"c":null}]}`, `{"b":[1.0,2,{"c":null}],"a":1}`, `{"a":1,"a":2}`, `{"a":2,"a":1}`, `[]`, `{}`, `[[],{}]`, `"x"`,
	`"\ud83d\ude00\/\u00e9\"\\"`, "\"\U0001f600/é\\\"\\\\\"", `[1e3,-0,0.10]`, `[1000,0,1e-1]`, `{"m":1,"x":2}`, `{"m":2,"x":2}`, `true`, `null`, ``, `{"a":`, `"\ud800x"`,
	`{"\u0061":1}`, `{"x":{"b":1,"a":{"d":2,"c":3}},"w":0}`, `{"w":0,"x":{"a":{"c":3,"d":2},"b":1}}`,
}

// FuzzJSON holds the comparison against reflect.DeepEqual of decoded documents,
// with a mask and without.
func FuzzJSON(f *testing.F) {
	for i, s := range jsonSeeds {
		f.Add([]byte(s), []byte(jsonSeeds[(i+1)%len(jsonSeeds)]))
		f.Add([]byte(s), []byte(s))
	}
	everyM, err := parseMask("$..m")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		for _, masks := range [][]mask{nil, {everyM}} {
			masked := func(name string) bool { return masks != nil && name == "m" }
			x := &comparison{policy: &policy{masks: masks}}
			okA, okB := x.docs[0].parse(a), x.docs[1].parse(b)
			if okA != json.Valid(a) || okB != json.Valid(b) {
				t.Fatalf("read %v and %v, valid %v and %v", okA, okB, json.Valid(a), json.Valid(b))
			}
			if !okA || !okB || !utf8.Valid(a) || !utf8.Valid(b) || max(depthOf(a), depthOf(b)) > maxDepth {
				return
			}
			v, ok := decodeNaively(a, masked)
			w, ok2 := decodeNaively(b, masked)
			if !ok || !ok2 {
				return
			}
			x.json()
			if same := len(x.found) == 0; same != reflect.DeepEqual(v, w) {
				t.Errorf("%s and %s are the same: %v; found %+v", a, b, same, x.found)
			}
			x.learn() // reads all of the first
		}
	})
}

// What the digest of production's values depends on is nothing of the shadow's.
func TestEvidenceIsOfProductionOnly(t *testing.T) {
	evidence := func(v1, v2 string) map[string]uint64 {
		x := &comparison{policy: &policy{}}
		if !x.docs[0].parse([]byte(v1)) || !x.docs[1].parse([]byte(v2)) {
			t.Fatal("no JSON")
		}
		x.json()
		x.learn()
		all := map[string]uint64{}
		for _, f := range x.found {
			all[f.path] = f.evidence
		}
		return all
	}
	v1 := `{"l":[{"a":1,"b":5},{"a":2,"b":6}]}`
	a := evidence(v1, `{"l":[{"a":9,"b":5},{"a":2,"b":6}]}`)["$.l[].a"]
	b := evidence(v1, `{"l":[{"a":1,"b":5},{"a":9,"b":0}]}`)["$.l[].a"]
	c := evidence(`{"l":[{"a":1,"b":0},{"a":3,"b":0}]}`, `{"l":[{"a":9,"b":5},{"a":3,"b":6}]}`)["$.l[].a"]
	if a != b || a == c || a == 0 {
		t.Errorf("%x, %x and %x", a, b, c)
	}
}

// Objects with many members in another order, and documents with more values
// than are kept.
func TestLargeObjects(t *testing.T) {
	const n = 5_000
	object := func(order func(int) int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"key %d of many":%d`, order(i), order(i))
		}
		return "{" + b.String()[1:] + "}"
	}
	x := &comparison{policy: &policy{}}
	if !x.docs[0].parse([]byte(object(func(i int) int { return i }))) || !x.docs[1].parse([]byte(object(func(i int) int { return n - 1 - i }))) {
		t.Fatal("not read")
	}
	x.json()
	if len(x.found) != 0 {
		t.Errorf("found %+v", x.found)
	}
	if x.docs[0].parse([]byte("[" + strings.Repeat("0,", maxNodes) + "0]")) {
		t.Error("a document with too many values was read")
	}
}
