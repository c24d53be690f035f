package envoy

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
)

// finalize changes the request as the route says: header operations, then the
// host, then the path. Mirrors get the request as it is after that. What Envoy
// adds of its own (x-envoy-original-path, x-forwarded-host) is left out.
func finalize(rt *route.Route, a *route.RouteAction, h *headers) error {
	// What these say has no influence on the request: where it goes, how long
	// that may take, and what becomes of the answer.
	err := known(rt, "name", "match", "route", "metadata", "decorator", "stat_prefix", "typed_per_filter_config",
		"request_headers_to_add", "request_headers_to_remove", "response_headers_to_add", "response_headers_to_remove")
	if err != nil {
		return err
	}
	err = known(a, "cluster", "weighted_clusters", "timeout", "max_grpc_timeout", "retry_policy", "hash_policy",
		"cluster_not_found_response_code", "append_x_forwarded_host", "max_stream_duration",
		"prefix_rewrite", "regex_rewrite", "host_rewrite_literal", "request_mirror_policies")
	if err != nil {
		return err
	}
	for _, c := range a.GetWeightedClusters().GetClusters() {
		// These would depend on the cluster that chance chooses.
		if err := known(c, "name", "weight", "response_headers_to_add", "response_headers_to_remove"); err != nil {
			return err
		}
	}
	if err := mutate(rt, h); err != nil {
		return err
	}
	if host := a.GetHostRewriteLiteral(); host != "" {
		h.authority = host
	}
	return rewritePath(rt.Match, a, h)
}

// mutate applies the header operations of a route: every removal, then every
// overwrite, then every addition, each in the order written. An empty value
// does nothing.
func mutate(rt *route.Route, h *headers) error {
	for _, name := range rt.RequestHeadersToRemove {
		h.remove(name)
	}
	for _, action := range []core.HeaderValueOption_HeaderAppendAction{
		core.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD, core.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD,
	} {
		for _, o := range rt.RequestHeadersToAdd {
			if err := known(o, "header", "append_action"); err != nil {
				return err
			}
			if o.AppendAction != action || o.Header.Value == "" {
				continue
			}
			value, err := format(o.Header.Value)
			if err != nil {
				return err
			}
			if action == core.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD {
				h.remove(o.Header.Key)
			}
			h.add(o.Header.Key, value)
		}
	}
	return nil
}

// format evaluates a format string. Only "%%" is known here.
func format(s string) (string, error) {
	plain := strings.ReplaceAll(s, "%%", "\x00")
	if strings.Contains(plain, "%") {
		return "", fmt.Errorf("header value %q: command operators are not known to this checker", s)
	}
	return strings.ReplaceAll(plain, "\x00", "%"), nil
}

// rewritePath applies prefix_rewrite, which replaces what the route matched
// (for an exact path and for a regex all of it), or regex_rewrite, which
// replaces every match in the path. The query stays either way.
func rewritePath(m *route.RouteMatch, a *route.RouteAction, h *headers) error {
	path := h.pathOnly()
	if re := a.RegexRewrite; re != nil {
		rewritten, err := replaceAll(re.Pattern.GetRegex(), re.Substitution, path)
		if err != nil {
			return err
		}
		// Nothing left is no path: the rewrite is not done.
		if rewritten != "" {
			h.path = rewritten + h.path[len(path):]
		}
		return nil
	}
	if a.PrefixRewrite == "" {
		return nil
	}
	var matched int
	switch s := m.PathSpecifier.(type) {
	case *route.RouteMatch_Prefix:
		matched = len(s.Prefix)
	case *route.RouteMatch_PathSeparatedPrefix:
		matched = len(s.PathSeparatedPrefix)
	case *route.RouteMatch_Path, *route.RouteMatch_SafeRegex:
		matched = len(path)
	default:
		return errors.New("prefix_rewrite of a route without a path_specifier")
	}
	h.path = a.PrefixRewrite + h.path[matched:]
	return nil
}

// replaceAll is RE2::GlobalReplace: in the substitution \0 to \9 are groups
// and \\ is a backslash.
func replaceAll(expr, substitution, s string) (string, error) {
	re, err := regexp.Compile(expr)
	if err != nil {
		return "", err
	}
	var wrong error
	var out strings.Builder
	end := 0
	for _, at := range re.FindAllStringSubmatchIndex(s, -1) {
		out.WriteString(s[end:at[0]])
		end = at[1]
		for i := 0; i < len(substitution); i++ {
			c := substitution[i]
			if c != '\\' {
				out.WriteByte(c)
				continue
			}
			i++
			switch {
			case i == len(substitution):
				wrong = errors.New(`substitution ends with "\"`)
			case substitution[i] == '\\':
				out.WriteByte('\\')
			case substitution[i] < '0' || substitution[i] > '9' || int(substitution[i]-'0') > re.NumSubexp():
				wrong = fmt.Errorf(`substitution: \%c is no group`, substitution[i])
			default:
				if g := 2 * int(substitution[i]-'0'); at[g] >= 0 {
					out.WriteString(s[at[g]:at[g+1]])
				}
			}
		}
	}
	out.WriteString(s[end:])
	return out.String(), wrong
}
