package rules

import (
	"bytes"
	"strings"
	"testing"
)

// TestNormalize has the cases of Envoy's PathUtilityTest and those of Istio's
// pathNormalization BASE.
func TestNormalize(t *testing.T) {
	for in, want := range map[string]string{
		"/":                  "/",
		"/x/y/z":             "/x/y/z",
		"/a/b/../c":          "/a/c",
		"/a/b/./c":           "/a/b/c",
		"/a/b/../../../../c": "/c",
		`/a/..\c`:            "/c",
		`/a\b`:               "/a/b",
		`/\`:                 "//",
		"/%c0%af":            "/%c0%af",
		"/%5c%25":            "/%5c%25",
		"/a/b/%2E%2E/c":      "/a/c",
		"/a/b/%2e./c":        "/a/c",
		"/a/b/.%2E/c":        "/a/c",
		"/a/b/%2E/c":         "/a/b/c",
		"/../a/b":            "/a/b",
		"/./a/b":             "/a/b",
		"/..":                "/",
		"/a/..":              "/",
		"/a/.":               "/a/",
		"/a/b/..":            "/a/",
		"/a//../b":           "/a/b",
		"//a":                "//a",
		"/a//b/":             "/a//b/",
		"/A/B":               "/A/B",
		"/a/%2F%2f/c":        "/a/%2F%2f/c",
		"/a...b/..c/.d/e.":   "/a...b/..c/.d/e.",
		"/...":               "/...",
		"/a%2Eb":             "/a.b",
		"/%2E%2Ex":           "/..x",
		"/%41%7e%2D":         "/A~-",
		"/%20%zz%":           "/%20%zz%",
		"/é|":                "/%C3%A9%7C",
		"/%%300":             "/%2500",
		"/%0%300":            "/%25000",
		"/%%30%30":           "/%2500",
		"/%00":               "",
		"/xyz/.%00../abc":    "",
		"/AAAAA%%0000/abc":   "",
	} {
		got, ok := appendNormalized([]byte("x"), []byte(in))
		if !ok {
			got = []byte("x")
		}
		if string(got) != "x"+want {
			t.Errorf("%q: %q, want %q", in, got[1:], want)
		}
	}
}

// FuzzNormalize: the short cut agrees with the long way, normal paths stay as
// they are and no dot segment survives.
func FuzzNormalize(f *testing.F) {
	for _, s := range []string{"/", "/a/../b", "/%2e%2E/x", `/a\..\b`, "/%%300", "/%0%30%31", "/é", "/a/./", "/%%2541"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		path := append([]byte("/"), b...)
		got, ok := appendNormalized(nil, path)
		if !ok {
			if !bytes.Contains(path, []byte("%00")) && bytes.IndexByte(path, 0) < 0 {
				t.Fatalf("%q refused", path)
			}
			return
		}
		if isNormal(path) && !bytes.Equal(got, path) {
			t.Fatalf("%q is normal and became %q", path, got)
		}
		if got[0] != '/' || bytes.IndexByte(got, '\\') >= 0 || bytes.ContainsAny(got, "?# ") {
			t.Fatalf("%q became %q", path, got)
		}
		for seg := range strings.SplitSeq(string(got), "/") {
			if seg == "." || seg == ".." {
				t.Fatalf("%q became %q", path, got)
			}
		}
		again, ok := appendNormalized(nil, got)
		if !ok || !bytes.Equal(again, got) {
			t.Fatalf("%q became %q, then %q", path, got, again)
		}
	})
}
