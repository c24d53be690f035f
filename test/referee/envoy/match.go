package envoy

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcher "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
)

// known is an error if a field of m is set that is not one of names.
func known(m proto.Message, names ...protoreflect.Name) error {
	var err error
	m.ProtoReflect().Range(func(fd protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		for _, name := range names {
			if fd.Name() == name {
				return true
			}
		}
		err = fmt.Errorf("%s is set, which this checker does not know", fd.FullName())
		return false
	})
	return err
}

// matches reports whether a route takes the request: all conditions must hold.
func matches(m *route.RouteMatch, h *headers) (bool, error) {
	if err := known(m, "prefix", "path", "path_separated_prefix", "safe_regex", "case_sensitive", "headers", "query_parameters"); err != nil {
		return false, err
	}
	ok, err := matchPath(m, h.pathOnly())
	if !ok || err != nil {
		return false, err
	}
	for _, hm := range m.Headers {
		if ok, err := matchHeader(hm, h); !ok || err != nil {
			return false, err
		}
	}
	for _, qm := range m.QueryParameters {
		if ok, err := matchParam(qm, h); !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

// matchPath evaluates the path_specifier. case_sensitive has no effect on
// safe_regex.
func matchPath(m *route.RouteMatch, path string) (bool, error) {
	fold := func(s string) string { return s }
	if m.CaseSensitive != nil && !m.CaseSensitive.Value {
		fold = strings.ToLower
	}
	switch s := m.PathSpecifier.(type) {
	case *route.RouteMatch_Prefix:
		return strings.HasPrefix(fold(path), fold(s.Prefix)), nil
	case *route.RouteMatch_Path:
		return fold(path) == fold(s.Path), nil
	case *route.RouteMatch_PathSeparatedPrefix:
		// Whole segments: the prefix has no slash at its end.
		rest, ok := strings.CutPrefix(fold(path), fold(s.PathSeparatedPrefix))
		return ok && (rest == "" || rest[0] == '/'), nil
	case *route.RouteMatch_SafeRegex:
		return matchRegex(s.SafeRegex, path)
	}
	return false, errors.New("a route without a path_specifier")
}

// matchHeader evaluates a HeaderMatcher. A header that is missing fails
// whatever is asked of its value, inverted or not, unless it is to be treated
// as empty; presence can be inverted.
func matchHeader(m *route.HeaderMatcher, h *headers) (bool, error) {
	if err := known(m, "name", "present_match", "string_match", "invert_match", "treat_missing_header_as_empty"); err != nil {
		return false, err
	}
	value, present := h.get(m.Name)
	switch s := m.HeaderMatchSpecifier.(type) {
	case *route.HeaderMatcher_PresentMatch:
		return (present == s.PresentMatch) != m.InvertMatch, nil
	case *route.HeaderMatcher_StringMatch:
		if !present && !m.TreatMissingHeaderAsEmpty {
			return false, nil
		}
		ok, err := matchString(s.StringMatch, value)
		return ok != m.InvertMatch, err
	}
	return false, fmt.Errorf("a condition on header %s that asks nothing", m.Name)
}

// matchParam evaluates a QueryParameterMatcher.
func matchParam(m *route.QueryParameterMatcher, h *headers) (bool, error) {
	if err := known(m, "name", "present_match", "string_match"); err != nil {
		return false, err
	}
	value, present := h.param(m.Name)
	switch s := m.QueryParameterMatchSpecifier.(type) {
	case *route.QueryParameterMatcher_PresentMatch:
		return present == s.PresentMatch, nil
	case *route.QueryParameterMatcher_StringMatch:
		if !present {
			return false, nil
		}
		return matchString(s.StringMatch, value)
	}
	return false, fmt.Errorf("a condition on query parameter %s that asks nothing", m.Name)
}

// matchString evaluates a StringMatcher.
func matchString(m *matcher.StringMatcher, value string) (bool, error) {
	if err := known(m, "exact", "prefix", "safe_regex"); err != nil {
		return false, err
	}
	switch s := m.MatchPattern.(type) {
	case *matcher.StringMatcher_Exact:
		return value == s.Exact, nil
	case *matcher.StringMatcher_Prefix:
		if s.Prefix == "" {
			return false, errors.New("an empty prefix, which Envoy refuses (string.min_len 1)")
		}
		return strings.HasPrefix(value, s.Prefix), nil
	case *matcher.StringMatcher_SafeRegex:
		return matchRegex(s.SafeRegex, value)
	}
	return false, errors.New("a StringMatcher without a pattern")
}

// matchRegex reports whether a RE2 expression matches the whole value. Go's
// regexp is the other implementation of RE2's syntax.
func matchRegex(m *matcher.RegexMatcher, value string) (bool, error) {
	if _, err := regexp.Compile(m.Regex); err != nil {
		return false, err // "a)|(b" must not become valid by what is put around it
	}
	return regexp.MustCompile(`\A(?:` + m.Regex + `)\z`).MatchString(value), nil
}
