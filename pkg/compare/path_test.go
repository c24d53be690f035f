package compare

import (
	"strings"
	"testing"
)

// at makes a trail of names; "[]" is an element.
func at(names ...string) *trail {
	var t trail
	t.reset()
	for _, n := range names {
		if n == "[]" {
			t.element()
		} else {
			t.member([]byte(n))
		}
	}
	return &t
}

func TestTrailShown(t *testing.T) {
	for _, tt := range []struct {
		names []string
		want  string
	}{
		{nil, "$"},
		{[]string{"items", "[]", "id"}, "$.items[].id"},
		{[]string{"[]", "[]"}, "$[][]"},
		{[]string{"a.b", "", "x-y"}, `$["a.b"][""].x-y`},
		{[]string{"users", "4711", "name"}, "$.users.*.name"},
		{[]string{"users", "123e4567-e89b-12d3-a456-426614174000"}, "$.users.*"},
		{[]string{"by", "someone@example.com"}, "$.by.*"},
		{[]string{"face", "decade"}, "$.face.decade"},
		{[]string{strings.Repeat("x", 300), "y"}, "$.~"},
	} {
		if got := string(at(tt.names...).shown); got != tt.want {
			t.Errorf("%q: %s, want %s", tt.names, got, tt.want)
		}
	}
	tr := at("a", "[]", "b")
	tr.back()
	tr.back()
	tr.member([]byte("c"))
	if got := string(tr.shown); got != "$.a.c" {
		t.Errorf("after going back: %s", got)
	}
}

func TestMask(t *testing.T) {
	for _, tt := range []struct {
		mask  string
		names string
		want  bool
	}{
		{"$.a", "a", true},
		{"$.a", "a b", true},
		{"$.a", "b a", false},
		{"$.a.b", "a", false},
		{"$.items[].id", "items [] id", true},
		{"$.items[].id", "items x id", false},
		{"$.items.*.id", "items [] id", true},
		{"$.items[*].id", "items x id", true},
		{"$.*.id", "id", false},
		{"$..id", "id", true},
		{"$..id", "a [] id", true},
		{"$..id", "a [] idx", false},
		{"$..a.b", "a a b", true},
		{"$..a..b", "x a y y b z", true},
		{"$..a..b", "b a", false},
		{"$..[].x", "a [] x", true},
		{`$["a.b"].c`, "a.b c", true},
		{`$["*"]`, "x", false},
		{"$[].t", "[] t", true},
		{"$.users.4711", "users 4712", false},
	} {
		m, err := parseMask(tt.mask)
		if err != nil {
			t.Errorf("%s: %v", tt.mask, err)
			continue
		}
		if got := m.covers(at(strings.Fields(tt.names)...).steps); got != tt.want {
			t.Errorf("%s covers %s: %v", tt.mask, tt.names, got)
		}
	}
	for _, bad := range []string{"", "$", "a.b", "$.", "$..", "$.a[0]", "$.a[", `$["a]`, "$a", "$.a..", "$...a"} {
		if m, err := parseMask(bad); err == nil {
			t.Errorf("%q is a mask: %v", bad, m)
		}
	}
}
