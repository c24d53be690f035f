package agent

import (
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fill sets every counter below v to n, maps to one entry, times to at.
func fill(v reflect.Value, n uint64, at time.Time) {
	switch v.Kind() {
	case reflect.Uint64:
		v.SetUint(n)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n, at)
	case reflect.Map:
		v.Set(reflect.ValueOf(map[string]uint64{"reason": n}))
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(at))
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i), n, at)
		}
	default:
		panic("an account has a " + v.Type().String())
	}
}

// TestAccountAdd finds every field of an account by itself, so that one that
// Add forgets fails here.
func TestAccountAdd(t *testing.T) {
	var a, b, want Account
	first := time.Unix(1000, 0)
	fill(reflect.ValueOf(&a).Elem(), 1, first.Add(time.Hour))
	fill(reflect.ValueOf(&b).Elem(), 2, first)
	fill(reflect.ValueOf(&want).Elem(), 3, first)
	if diff := cmp.Diff(want, a.Add(b)); diff != "" {
		t.Errorf("a.Add(b) (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, b.Add(a)); diff != "" {
		t.Errorf("b.Add(a) (-want +got):\n%s", diff)
	}
	var unchanged Account
	fill(reflect.ValueOf(&unchanged).Elem(), 1, first.Add(time.Hour))
	if diff := cmp.Diff(unchanged, a); diff != "" {
		t.Errorf("Add changed its operand (-want +got):\n%s", diff)
	}
	if got := (Account{}).Add(a); !got.Since.Equal(a.Since) {
		t.Errorf("an account that was never kept has a beginning: %v", got.Since)
	}
}

func TestLatencyAddAndQuantile(t *testing.T) {
	bounds := []float64{0.1, 1}
	a := MirrorAccount{Latency: Latency{Bounds: bounds, Counts: []uint64{90, 5, 0}, Sum: 5}}
	b := MirrorAccount{Latency: Latency{Bounds: bounds, Counts: []uint64{0, 4, 1}, Sum: 7}}
	m, err := a.Add(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Latency{Bounds: bounds, Counts: []uint64{90, 9, 1}, Sum: 12}, m.Latency); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, tt := range []struct {
		q, want float64
		ok      bool
	}{{0.5, 0.1, true}, {0.9, 0.1, true}, {0.91, 1, true}, {0.99, 1, true}, {0.995, 0, false}} {
		if got, ok := m.Latency.Quantile(tt.q); got != tt.want || ok != tt.ok {
			t.Errorf("Quantile(%v) = %v, %v, want %v, %v", tt.q, got, ok, tt.want, tt.ok)
		}
	}
	if _, ok := (Latency{Bounds: bounds, Counts: make([]uint64, 3)}).Quantile(0.5); ok {
		t.Error("there is a quantile of nothing")
	}
	other := MirrorAccount{Latency: Latency{Bounds: []float64{0.2, 1}, Counts: []uint64{1, 0, 0}}}
	if _, err := m.Add(other); err == nil {
		t.Error("latencies in different buckets were added")
	}
	// What is added came from somewhere else.
	for _, bad := range []Latency{
		{Bounds: bounds}, {Counts: []uint64{1}}, {Bounds: bounds, Counts: []uint64{1, 2}}, {Bounds: bounds, Counts: make([]uint64, 4)},
	} {
		if _, err := (MirrorAccount{}).Add(MirrorAccount{Latency: bad}); err == nil {
			t.Errorf("%+v was added to nothing", bad)
		}
		if _, err := m.Add(MirrorAccount{Latency: bad}); err == nil {
			t.Errorf("%+v was added", bad)
		}
	}
	if same, err := m.Add(MirrorAccount{}); err != nil || !cmp.Equal(m.Latency, same.Latency) {
		t.Errorf("with nothing added: %+v, %v", same.Latency, err)
	}
}

func TestStatus(t *testing.T) {
	a := idleAgent(t, shadowRules("127.0.0.1:9"))
	s, err := a.Status()
	if err != nil {
		t.Fatal(err)
	}
	if s.Name != a.cfg.Name || s.Capturing || s.RulesFailed || len(s.Problems) != 0 || len(s.Mirrors) != 1 {
		t.Errorf("%+v", s)
	}
	for name, m := range s.Mirrors {
		if len(m.Latency.Counts) != len(m.Latency.Bounds)+1 {
			t.Errorf("mirror %s: %d buckets with %d bounds", name, len(m.Latency.Counts), len(m.Latency.Bounds))
		}
	}
}
