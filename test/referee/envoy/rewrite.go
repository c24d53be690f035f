package envoy

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
)

// finalize changes the request as the route and the cluster that was chosen of
// several say: header operations and the host of the cluster, then those of the
// route, then the path. Mirrors get the request as it is after that. What Envoy
// adds of its own (x-envoy-original-path, x-forwarded-host) is left out.
func finalize(rt *route.Route, a *route.RouteAction, cluster *route.WeightedCluster_ClusterWeight, h *headers) error {
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
	if cluster != nil {
		err := known(cluster, "name", "weight", "request_headers_to_add", "request_headers_to_remove",
			"response_headers_to_add", "response_headers_to_remove", "host_rewrite_literal")
		if err != nil {
			return err
		}
		if err := mutate(cluster.RequestHeadersToRemove, cluster.RequestHeadersToAdd, h); err != nil {
			return err
		}
		h.rewriteHost(cluster.GetHostRewriteLiteral())
	}
	if err := mutate(rt.RequestHeadersToRemove, rt.RequestHeadersToAdd, h); err != nil {
		return err
	}
	h.rewriteHost(a.GetHostRewriteLiteral())
	return rewritePath(rt.Match, a, h)
}

func (h *headers) rewriteHost(host string) {
	if host != "" {
		h.authority = host
	}
}

// mutate applies a list of header operations: every removal, then every
// overwrite, then every addition, each in the order written. All values are
// made before the first is set. An empty one does nothing.
func mutate(remove []string, add []*core.HeaderValueOption, h *headers) error {
	for _, name := range remove {
		h.remove(name)
	}
	var set, added [][2]string
	for _, o := range add {
		if err := known(o, "header", "append_action"); err != nil {
			return err
		}
		value, err := format(o.Header.Value, h)
		if err != nil {
			return err
		}
		switch {
		case value == "":
		case o.AppendAction == core.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD:
			set = append(set, [2]string{o.Header.Key, value})
		case o.AppendAction == core.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD:
			added = append(added, [2]string{o.Header.Key, value})
		default:
			return fmt.Errorf("header %s: append_action %s is not known to this checker", o.Header.Key, o.AppendAction)
		}
	}
	for _, f := range set {
		h.remove(f[0])
		h.add(f[0], f[1])
	}
	for _, f := range added {
		h.add(f[0], f[1])
	}
	return nil
}

var command = regexp.MustCompile(`%%|%([A-Z_]*)(?:\(([^?)]*)\??([^)]*)\))?(?::(\d+))?%`)

// format evaluates a format string.
func format(s string, h *headers) (string, error) {
	var err error
	out := command.ReplaceAllStringFunc(s, func(c string) string {
		m := command.FindStringSubmatch(c)
		value := ""
		switch m[1] {
		case "": // "%%"
			value = "%"
		case "REQ":
			var ok bool
			if value, ok = h.first(m[2]); !ok {
				value, _ = h.first(m[3])
			}
		case "PROTOCOL":
			value = "HTTP/1.1"
		case "DOWNSTREAM_REMOTE_ADDRESS":
			value = h.source
		case "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT":
			value, _, _ = strings.Cut(h.source, ":")
		default:
			err = fmt.Errorf("header value %q: %s is not known to this checker", s, c)
		}
		if n, _ := strconv.Atoi(m[4]); n > 0 && n < len(value) {
			value = value[:n]
		}
		return value
	})
	if err == nil && strings.Contains(command.ReplaceAllString(s, ""), "%") {
		err = fmt.Errorf("header value %q: a command that is none", s)
	}
	return out, err
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
