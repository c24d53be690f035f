package compare

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"
)

func TestWriteJSON(t *testing.T) {
	few := newComparer(t, Options{})
	for _, rule := range []string{"b", `a "<quoted>"`} {
		p := pair(answer(`{"a":1}`), answer(`{"a":2}`))
		p.Rule = rule
		few.Add(p)
	}
	for name, r := range map[string]*Report{"empty": NewReport(), "two routes": few.Report()} {
		want, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		if err := r.WriteJSON(&got); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes(), append(want, '\n')) {
			t.Errorf("%s: not as encoding/json writes it: %.2000s", name, got.Bytes())
		}
	}
}

// failing takes n writes.
type failing int

var errFull = errors.New("full")

func (f *failing) Write(p []byte) (int, error) {
	if *f--; *f < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestWriteJSONFails(t *testing.T) {
	c := newComparer(t, Options{})
	c.Add(pair(answer(`{"a":1}`), answer(`{"a":2}`)))
	for n := range failing(2) {
		if err := c.Report().WriteJSON(&n); !errors.Is(err, errFull) {
			t.Errorf("after %d writes: %v", n, err)
		}
	}
}
