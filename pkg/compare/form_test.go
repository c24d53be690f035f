package compare

import "testing"

func TestSameForm(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"123e4567-e89b-12d3-a456-426614174000", "00000000-0000-4000-8000-000000000000", true},
		{"123e4567-e89b-12d3-a456-426614174000", "", false},
		{"123e4567-e89b-12d3-a456-426614174000", "unknown", false},
		{"2026-11-23T11:00:00Z", "2026-11-23T11:00:01.5+01:00", true},
		{"Mon, 23 Nov 2026 11:00:00 GMT", "Tue, 24 Nov 2026 11:00:00 GMT", true},
		{"2026-11-23T11:00:00Z", "never", false},
		{"12", "-13.5", true},
		{"12", "12 ms", false},
		{"took 12ms", "took 8ms", true},
		{"took 12ms", "failed in 8ms", false},
		{"Zm9vYmFyYmF6MTIz", "cXV1eHF1dXgxMjM0", true},
		{"Zm9vYmFyYmF6MTIz", "e5f6a7b8", false},
		{"https://a/b1", "https://c/b1", false},
		{"Jane", "John", false},
	} {
		for _, p := range [][2]string{{tt.a, tt.b}, {tt.b, tt.a}} {
			if got := sameForm([]byte(p[0]), []byte(p[1])); got != tt.want {
				t.Errorf("%q and %q: %v", p[0], p[1], got)
			}
		}
	}
}
