package rules

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// celRules are the rules over several values in the definitions of the Gateway
// API (x-kubernetes-validations), by the messages an API server reports when
// they do not hold. A value is as encoding/json has it, integers as int64 or,
// from a default, float64; defaults are filled in and each value by itself is
// right.
var celRules = map[string]func(v any) bool{
	"sectionName or port must be specified when parentRefs includes 2 or more references to the same parent": func(v any) bool {
		return eachPair(v, func(a, b any) bool {
			return !sameParent(a, b) || has(a, "sectionName") == has(b, "sectionName") && has(a, "port") == has(b, "port")
		})
	},
	"sectionName or port must be unique when parentRefs includes 2 or more references to the same parent": func(v any) bool {
		return eachPair(v, func(a, b any) bool {
			return !sameParent(a, b) || get(a, "sectionName") != get(b, "sectionName") || get(a, "port") != get(b, "port")
		})
	},
	"While 16 rules and 64 matches per rule are allowed, the total number of matches across all rules in a route must be less than 128": func(v any) bool {
		total := 0
		for _, rule := range list(v) {
			total += len(list(get(rule, "matches")))
		}
		return total <= 128 // the message says less, the rule does not
	},
	"Rule name must be unique within the route": func(v any) bool {
		return eachPair(v, func(a, b any) bool { return !has(a, "name") || get(a, "name") != get(b, "name") })
	},

	"RequestRedirect filter must not be used together with backendRefs": func(v any) bool {
		return len(list(get(v, "backendRefs"))) == 0 || !hasFilter(v, "RequestRedirect")
	},
	"When using RequestRedirect filter with path.replacePrefixMatch, exactly one PathPrefix match must be specified":                     prefixMatchFor("requestRedirect", false),
	"When using URLRewrite filter with path.replacePrefixMatch, exactly one PathPrefix match must be specified":                          prefixMatchFor("urlRewrite", false),
	"Within backendRefs, when using RequestRedirect filter with path.replacePrefixMatch, exactly one PathPrefix match must be specified": prefixMatchFor("requestRedirect", true),
	"Within backendRefs, When using URLRewrite filter with path.replacePrefixMatch, exactly one PathPrefix match must be specified":      prefixMatchFor("urlRewrite", true),
	"Must have port for Service reference": func(v any) bool {
		return get(v, "group") != "" || get(v, "kind") != "Service" || has(v, "port")
	},

	"May specify either httpRouteFilterRequestRedirect or httpRouteFilterRequestRewrite, but not both": func(v any) bool {
		return countFilters(v, "RequestRedirect") == 0 || countFilters(v, "URLRewrite") == 0
	},
	"CORS filter cannot be repeated":                   atMostOnce("CORS"),
	"RequestHeaderModifier filter cannot be repeated":  atMostOnce("RequestHeaderModifier"),
	"ResponseHeaderModifier filter cannot be repeated": atMostOnce("ResponseHeaderModifier"),
	"RequestRedirect filter cannot be repeated":        atMostOnce("RequestRedirect"),
	"URLRewrite filter cannot be repeated":             atMostOnce("URLRewrite"),

	"filter.cors must be nil if the filter.type is not CORS":                                     onlyFor("cors", "type", "CORS"),
	"filter.cors must be specified for CORS filter.type":                                         neededFor("cors", "type", "CORS"),
	"filter.requestHeaderModifier must be nil if the filter.type is not RequestHeaderModifier":   onlyFor("requestHeaderModifier", "type", "RequestHeaderModifier"),
	"filter.requestHeaderModifier must be specified for RequestHeaderModifier filter.type":       neededFor("requestHeaderModifier", "type", "RequestHeaderModifier"),
	"filter.responseHeaderModifier must be nil if the filter.type is not ResponseHeaderModifier": onlyFor("responseHeaderModifier", "type", "ResponseHeaderModifier"),
	"filter.responseHeaderModifier must be specified for ResponseHeaderModifier filter.type":     neededFor("responseHeaderModifier", "type", "ResponseHeaderModifier"),
	"filter.requestMirror must be nil if the filter.type is not RequestMirror":                   onlyFor("requestMirror", "type", "RequestMirror"),
	"filter.requestMirror must be specified for RequestMirror filter.type":                       neededFor("requestMirror", "type", "RequestMirror"),
	"filter.requestRedirect must be nil if the filter.type is not RequestRedirect":               onlyFor("requestRedirect", "type", "RequestRedirect"),
	"filter.requestRedirect must be specified for RequestRedirect filter.type":                   neededFor("requestRedirect", "type", "RequestRedirect"),
	"filter.urlRewrite must be nil if the filter.type is not URLRewrite":                         onlyFor("urlRewrite", "type", "URLRewrite"),
	"filter.urlRewrite must be specified for URLRewrite filter.type":                             neededFor("urlRewrite", "type", "URLRewrite"),
	"filter.extensionRef must be nil if the filter.type is not ExtensionRef":                     onlyFor("extensionRef", "type", "ExtensionRef"),
	"filter.extensionRef must be specified for ExtensionRef filter.type":                         neededFor("extensionRef", "type", "ExtensionRef"),
	"filter.externalAuth must be nil if the filter.type is not ExternalAuth":                     onlyFor("externalAuth", "type", "ExternalAuth"),
	"filter.externalAuth must be specified for ExternalAuth filter.type":                         neededFor("externalAuth", "type", "ExternalAuth"),
	"grpc must be specified when protocol is set to 'GRPC'":                                      neededFor("grpc", "protocol", "GRPC"),
	"protocol must be 'GRPC' when grpc is set":                                                   onlyFor("grpc", "protocol", "GRPC"),
	"http must be specified when protocol is set to 'HTTP'":                                      neededFor("http", "protocol", "HTTP"),
	"protocol must be 'HTTP' when http is set":                                                   onlyFor("http", "protocol", "HTTP"),
	"replaceFullPath must be specified when type is set to 'ReplaceFullPath'":                    neededFor("replaceFullPath", "type", "ReplaceFullPath"),
	"type must be 'ReplaceFullPath' when replaceFullPath is set":                                 onlyFor("replaceFullPath", "type", "ReplaceFullPath"),
	"replacePrefixMatch must be specified when type is set to 'ReplacePrefixMatch'":              neededFor("replacePrefixMatch", "type", "ReplacePrefixMatch"),
	"type must be 'ReplacePrefixMatch' when replacePrefixMatch is set":                           onlyFor("replacePrefixMatch", "type", "ReplacePrefixMatch"),
	"cookieConfig can only be set with type Cookie":                                              onlyFor("cookieConfig", "type", "Cookie"),
	"AbsoluteTimeout must be specified when cookie lifetimeType is Permanent": func(v any) bool {
		return get(get(v, "cookieConfig"), "lifetimeType") != "Permanent" || has(v, "absoluteTimeout")
	},
	"AllowHeaders cannot contain '*' alongside other methods": starAlone,
	"AllowMethods cannot contain '*' alongside other methods": starAlone,
	"AllowOrigins cannot contain '*' alongside other origins": starAlone,

	"Only one of percent or fraction may be specified in HTTPRequestMirrorFilter": func(v any) bool {
		return !has(v, "percent") || !has(v, "fraction")
	},
	"numerator must be less than or equal to denominator": func(v any) bool {
		return number(get(v, "numerator")) <= number(get(v, "denominator"))
	},
	"backendRequest timeout cannot be longer than request timeout": func(v any) bool {
		request, _ := get(v, "request").(string)
		backend, _ := get(v, "backendRequest").(string)
		whole, _ := time.ParseDuration(request)
		part, _ := time.ParseDuration(backend)
		return whole == 0 || part <= whole
	},

	"value must be an absolute path and start with '/' when type one of ['Exact', 'PathPrefix']": plainPath(func(s string) bool { return strings.HasPrefix(s, "/") }),
	"must not contain '//' when type one of ['Exact', 'PathPrefix']":                             plainPath(lacks("//")),
	"must not contain '/./' when type one of ['Exact', 'PathPrefix']":                            plainPath(lacks("/./")),
	"must not contain '/../' when type one of ['Exact', 'PathPrefix']":                           plainPath(lacks("/../")),
	"must not contain '%2f' when type one of ['Exact', 'PathPrefix']":                            plainPath(lacks("%2f")),
	"must not contain '%2F' when type one of ['Exact', 'PathPrefix']":                            plainPath(lacks("%2F")),
	"must not contain '#' when type one of ['Exact', 'PathPrefix']":                              plainPath(lacks("#")),
	"must not end with '/..' when type one of ['Exact', 'PathPrefix']":                           plainPath(func(s string) bool { return !strings.HasSuffix(s, "/..") }),
	"must not end with '/.' when type one of ['Exact', 'PathPrefix']":                            plainPath(func(s string) bool { return !strings.HasSuffix(s, "/.") }),
	"type must be one of ['Exact', 'PathPrefix', 'RegularExpression']": func(v any) bool {
		kind, _ := get(v, "type").(string)
		return slices.Contains([]string{"Exact", "PathPrefix", "RegularExpression"}, kind)
	},
	"must only contain valid characters (matching ^(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|[%][0-9a-fA-F]{2})+$) for types ['Exact', 'PathPrefix']": plainPath(
		regexp.MustCompile(`^(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|[%][0-9a-fA-F]{2})+$`).MatchString),

	"One or both of 'service' or 'method' must be specified": func(v any) bool {
		return !has(v, "type") || has(v, "service") || has(v, "method")
	},
	`service must only contain valid characters (matching ^(?i)\.?[a-z_][a-z_0-9]*(\.[a-z_][a-z_0-9]*)*$)`: exactMethod("service",
		regexp.MustCompile(`^(?i)\.?[a-z_][a-z_0-9]*(\.[a-z_][a-z_0-9]*)*$`)),
	"method must only contain valid characters (matching ^[A-Za-z_][A-Za-z_0-9]*$)": exactMethod("method",
		regexp.MustCompile(`^[A-Za-z_][A-Za-z_0-9]*$`)),

	"IPAddress values must be unique": uniqueAddress("IPAddress"),
	"Hostname values must be unique":  uniqueAddress("Hostname"),
	`Hostname value must be empty or contain only valid characters (matching ^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$)`: func(v any) bool {
		value, ok := get(v, "value").(string)
		return get(v, "type") != "Hostname" || !ok || celHostname.MatchString(value)
	},
	"Annotation keys must be in the form of an optional DNS subdomain prefix followed by a required name segment of up to 63 characters.": labelKeys,
	"If specified, the annotation key's prefix must be a DNS subdomain not longer than 253 characters in total.":                          labelPrefixes,
	"Label keys must be in the form of an optional DNS subdomain prefix followed by a required name segment of up to 63 characters.":      labelKeys,
	"If specified, the label key's prefix must be a DNS subdomain not longer than 253 characters in total.":                               labelPrefixes,

	"tls must not be specified for protocols ['HTTP', 'TCP', 'UDP']": eachListener(func(l any, protocol string) bool {
		return !slices.Contains([]string{"HTTP", "TCP", "UDP"}, protocol) || !has(l, "tls")
	}),
	"tls mode must be Terminate for protocol HTTPS": eachListener(func(l any, protocol string) bool {
		mode, _ := get(get(l, "tls"), "mode").(string)
		return protocol != "HTTPS" || mode == "" || mode == "Terminate"
	}),
	"tls mode must be set for protocol TLS": eachListener(func(l any, protocol string) bool {
		mode, _ := get(get(l, "tls"), "mode").(string)
		return protocol != "TLS" || mode != ""
	}),
	"hostname must not be specified for protocols ['TCP', 'UDP']": eachListener(func(l any, protocol string) bool {
		hostname, _ := get(l, "hostname").(string)
		return protocol != "TCP" && protocol != "UDP" || hostname == ""
	}),
	"Listener name must be unique within the Gateway": func(v any) bool {
		return eachPair(v, func(a, b any) bool { return get(a, "name") != get(b, "name") })
	},
	"Combination of port, protocol and hostname must be unique for each listener": func(v any) bool {
		return eachPair(v, func(a, b any) bool {
			return get(a, "port") != get(b, "port") || get(a, "protocol") != get(b, "protocol") || get(a, "hostname") != get(b, "hostname")
		})
	},
	"certificateRefs or options must be specified when mode is Terminate": func(v any) bool {
		options, _ := get(v, "options").(map[string]any)
		return get(v, "mode") != "Terminate" || len(list(get(v, "certificateRefs")))+len(options) > 0
	},
	"Port for TLS configuration must be unique within the Gateway": func(v any) bool {
		return eachPair(v, func(a, b any) bool { return get(a, "port") != get(b, "port") })
	},
}

var (
	celHostname = regexp.MustCompile(`^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
	celLabelKey = regexp.MustCompile(`^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]$`)
)

// get is a field of an object, nil if it or the object is not there.
func get(v any, name string) any {
	fields, _ := v.(map[string]any)
	return fields[name]
}

func has(v any, name string) bool { return get(v, name) != nil }

func list(v any) []any {
	items, _ := v.([]any)
	return items
}

func number(v any) float64 {
	switch x := v.(type) {
	case int64:
		return float64(x)
	case float64:
		return x
	}
	return 0
}

// eachPair reports whether holds is true of any two items of a list.
func eachPair(v any, holds func(a, b any) bool) bool {
	items := list(v)
	for i, a := range items {
		for _, b := range items[:i] {
			if !holds(a, b) {
				return false
			}
		}
	}
	return true
}

func sameParent(a, b any) bool {
	return get(a, "group") == get(b, "group") && get(a, "kind") == get(b, "kind") &&
		get(a, "name") == get(b, "name") && get(a, "namespace") == get(b, "namespace")
}

func countFilters(filters any, kind string) (n int) {
	for _, f := range list(filters) {
		if get(f, "type") == kind {
			n++
		}
	}
	return n
}

func hasFilter(rule any, kind string) bool { return countFilters(get(rule, "filters"), kind) > 0 }

func atMostOnce(kind string) func(any) bool {
	return func(filters any) bool { return countFilters(filters, kind) <= 1 }
}

// onlyFor: the field may only be there if the selector has the value.
func onlyFor(name, selector, value string) func(any) bool {
	return func(v any) bool { return !has(v, name) || get(v, selector) == value }
}

// neededFor: the field must be there if the selector has the value.
func neededFor(name, selector, value string) func(any) bool {
	return func(v any) bool { return has(v, name) || get(v, selector) != value }
}

// prefixMatchFor: a rule in which a filter replaces the matched prefix has
// exactly one match, by a prefix.
func prefixMatchFor(filter string, backends bool) func(any) bool {
	replaces := func(v any) bool {
		return slices.ContainsFunc(list(get(v, "filters")), func(f any) bool {
			return get(get(get(f, filter), "path"), "type") == "ReplacePrefixMatch"
		})
	}
	return func(rule any) bool {
		if backends && !slices.ContainsFunc(list(get(rule, "backendRefs")), replaces) || !backends && !replaces(rule) {
			return true
		}
		matches := list(get(rule, "matches"))
		return len(matches) == 1 && get(get(matches[0], "path"), "type") == "PathPrefix"
	}
}

// plainPath: the value of an Exact or PathPrefix match satisfies ok.
func plainPath(ok func(string) bool) func(any) bool {
	return func(v any) bool {
		value, _ := get(v, "value").(string)
		return get(v, "type") != "Exact" && get(v, "type") != "PathPrefix" || ok(value)
	}
}

func lacks(part string) func(string) bool {
	return func(s string) bool { return !strings.Contains(s, part) }
}

func exactMethod(name string, re *regexp.Regexp) func(any) bool {
	return func(v any) bool {
		value, ok := get(v, name).(string)
		return !ok || has(v, "type") && get(v, "type") != "Exact" || re.MatchString(value)
	}
}

func starAlone(v any) bool { return len(list(v)) <= 1 || !slices.Contains(list(v), any("*")) }

func uniqueAddress(kind string) func(any) bool {
	return func(v any) bool {
		return eachPair(v, func(a, b any) bool {
			return get(a, "type") != kind || get(b, "type") != kind || !has(a, "value") || get(a, "value") != get(b, "value")
		})
	}
}

func eachListener(holds func(l any, protocol string) bool) func(any) bool {
	return func(v any) bool {
		return !slices.ContainsFunc(list(v), func(l any) bool {
			protocol, _ := get(l, "protocol").(string)
			return !holds(l, protocol)
		})
	}
}

func labelKeys(v any) bool {
	labels, _ := v.(map[string]any)
	for key := range maps.Keys(labels) {
		if !celLabelKey.MatchString(key) {
			return false
		}
	}
	return true
}

func labelPrefixes(v any) bool {
	labels, _ := v.(map[string]any)
	for key := range maps.Keys(labels) {
		if prefix, _, _ := strings.Cut(key, "/"); len(prefix) >= 253 {
			return false
		}
	}
	return true
}
