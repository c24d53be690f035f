package compare

import (
	"errors"
	"slices"
	"strings"
)

// names is a set of field names in lower case. One that ends in "*" stands for
// all that begin like it.
type names []string

// parseName returns a name or pattern of an option in lower case.
func parseName(s string) (string, error) {
	if s == "" || strings.ContainsAny(s, " \t:") || strings.Contains(strings.TrimSuffix(s, "*"), "*") {
		return "", errors.New("expected a name, or the beginning of one and *")
	}
	return strings.ToLower(s), nil
}

// hasFold reports whether name is in the set, whatever its case.
func (n names) hasFold(name []byte) bool { return has(n, name) }

func has[T ~string | ~[]byte](n names, name T) bool {
	for _, s := range n {
		if prefix, ok := strings.CutSuffix(s, "*"); ok {
			if len(name) >= len(prefix) && equalFold(name[:len(prefix)], prefix) {
				return true
			}
		} else if equalFold(name, s) {
			return true
		}
	}
	return false
}

// equalFold compares with a string in lower case, ASCII letters only.
func equalFold[T ~string | ~[]byte](name T, low string) bool {
	if len(name) != len(low) {
		return false
	}
	for i := range len(low) {
		if lower(name[i]) != low[i] {
			return false
		}
	}
	return true
}

// hopByHop are the fields that concern a connection and not the answer (RFC
// 9110 section 7.6.1).
var hopByHop = names{
	"connection", "keep-alive", "proxy-connection", "te", "trailer",
	"transfer-encoding", "upgrade",
}

// tracing are the fields by which systems follow a request.
var tracing = names{
	"traceparent", "tracestate", "baggage", "b3", "x-b3-*", "uber-trace-id",
	"x-request-id", "request-id", "x-correlation-id", "x-trace-id", "x-amzn-trace-id",
	"x-amzn-requestid", "x-amz-request-id", "x-amz-id-2", "x-cloud-trace-context",
	"x-datadog-*", "x-ot-span-context", "cf-ray", "sentry-trace",
}

// moment are the fields of an answer that say when and how fast it was made,
// and by which way it came.
var moment = names{
	"date", "age", "via", "server-timing", "x-runtime", "x-response-time",
	"x-process-time", "x-envoy-*",
}

// identityIgnores are the fields of a request that decide nothing about its
// answer.
var identityIgnores = append(append(names{
	"host", "content-length", "date", "via", "user-agent", "forwarded", "x-forwarded-*",
	"x-real-ip", "x-envoy-*", "x-shadowtap", "dnt", "priority", "sec-*",
}, hopByHop...), tracing...)

// notCompared are the fields that are not compared by default.
var notCompared = slices.Concat(hopByHop, moment, tracing)

// contentLength is not compared either where there is content, which is compared
// itself.
const contentLength = "content-length"

// overlap reports whether a name or a pattern, in lower case, and the set have a
// name in common.
func (n names) overlap(s string) bool {
	prefix, ok := strings.CutSuffix(s, "*")
	return has(n, prefix) || ok && slices.ContainsFunc(n, func(m string) bool { return strings.HasPrefix(m, prefix) })
}
