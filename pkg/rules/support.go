package rules

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// noEffect is what is said of fields and objects that are as good as not
// there.
const noEffect = "has no effect on mirroring"

// support says what is made of the fields of a message. Others are not
// supported.
type support struct {
	fields []protoreflect.Name
	// inert fields decide nothing about what is mirrored, where and how.
	inert []protoreflect.Name
}

// supportedFields are the fields of the messages that rules are made of. A
// message that is not listed is taken as a whole: what is inside is looked at
// as one, or has no influence on mirroring, as the contents of a redirect.
func supportedFields() map[protoreflect.FullName]support {
	type names = []protoreflect.Name
	return map[protoreflect.FullName]support{
		pkg + "VirtualService": {names{"hosts", "gateways", "http", "export_to"}, names{"tls", "tcp"}},
		pkg + "HTTPRoute": {names{"name", "match", "route", "redirect", "direct_response", "delegate", "rewrite",
			"mirror", "mirrors", "mirror_percent", "mirror_percentage", "headers", "timeout", "fault"},
			names{"retries", "cors_policy"}},
		pkg + "HTTPMatchRequest": {names{"name", "uri", "scheme", "method", "authority", "headers", "without_headers",
			"query_params", "ignore_uri_case", "port", "source_labels", "source_namespace", "gateways"},
			names{"stat_prefix"}},
		pkg + "HTTPRouteDestination":     {names{"destination", "weight", "headers"}, nil},
		pkg + "HTTPRewrite":              {names{"uri", "authority", "uri_regex_rewrite"}, nil},
		pkg + "Headers":                  {names{"request"}, names{"response"}},
		pkg + "Headers.HeaderOperations": {names{"set", "add", "remove"}, nil},

		// A workloadSelector is refused where the rule would be used.
		pkg + "DestinationRule": {names{"host", "subsets", "export_to", "traffic_policy", "workload_selector"}, nil},
		pkg + "Subset":          {names{"name", "labels", "traffic_policy"}, nil},
		pkg + "TrafficPolicy": {names{"connection_pool", "outlier_detection", "tls", "port_level_settings"},
			names{"load_balancer", "tunnel", "proxy_protocol", "retry_budget"}},
		pkg + "TrafficPolicy.PortTrafficPolicy": {names{"port", "connection_pool", "outlier_detection", "tls"},
			names{"load_balancer"}},
		pkg + "ConnectionPoolSettings": {names{"tcp", "http"}, nil},
		pkg + "ConnectionPoolSettings.TCPSettings": {names{"max_connections", "connect_timeout", "idle_timeout"},
			names{"tcp_keepalive", "max_connection_duration"}},
		pkg + "ConnectionPoolSettings.HTTPSettings": {names{"http1_max_pending_requests", "http2_max_requests",
			"max_requests_per_connection", "idle_timeout"},
			names{"max_retries", "h2_upgrade_policy", "use_client_protocol", "max_concurrent_streams"}},

		pkg + "ServiceEntry": {names{"hosts", "addresses", "ports", "location", "resolution", "endpoints", "export_to",
			"workload_selector", "subject_alt_names"}, nil},
		// weight, locality and network choose between endpoints, of which a
		// copy goes to the least busy; serviceAccount names an identity.
		pkg + "WorkloadEntry": {names{"address", "ports", "labels"}, names{"weight", "locality", "network", "service_account"}},
		pkg + "Gateway":       {names{"selector", "servers"}, nil},
	}
}

const pkg = "istio.networking.v1alpha3."

// checkSupported reports every field that is set below m and has no effect or
// is not implemented.
func (c *compiler) checkSupported(meta *Meta, m protoreflect.Message, f *field) {
	s, known := c.supported[m.Descriptor().FullName()]
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		at := f.dot(fd.JSONName())
		if known && slices.Contains(s.inert, fd.Name()) {
			c.warnf(meta, at, "", noEffect)
			return true
		}
		if known && !slices.Contains(s.fields, fd.Name()) {
			value := ""
			if !fd.IsList() && !fd.IsMap() && fd.Message() == nil {
				value = fmt.Sprint(v.Interface())
			}
			c.errorf(meta, at, value, "is not supported yet")
			return true
		}
		if !known || fd.Message() == nil {
			return true
		}
		switch {
		case fd.IsList():
			for i := range v.List().Len() {
				c.checkSupported(meta, v.List().Get(i).Message(), at.at(i))
			}
		case !fd.IsMap():
			c.checkSupported(meta, v.Message(), at)
		}
		return true
	})
	if known && m.GetUnknown() != nil {
		c.errorf(meta, f, "", "has fields of a newer version of the API")
	}
}
