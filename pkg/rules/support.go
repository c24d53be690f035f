package rules

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// supportedFields are the fields of the messages that rules are made of whose
// meaning is implemented. A message that is not listed is taken as a whole:
// what is inside has no influence on mirroring, as the contents of a redirect.
func supportedFields() map[protoreflect.FullName][]protoreflect.Name {
	return map[protoreflect.FullName][]protoreflect.Name{
		pkg + "VirtualService": {"hosts", "gateways", "http", "export_to"},
		pkg + "HTTPRoute": {"name", "match", "route", "redirect", "direct_response", "rewrite",
			"mirror", "mirrors", "mirror_percent", "mirror_percentage"},
		pkg + "HTTPMatchRequest": {"name", "uri", "method", "authority", "headers", "without_headers",
			"query_params", "ignore_uri_case", "stat_prefix"},
		pkg + "HTTPRouteDestination": {"destination", "weight"},
		pkg + "HTTPRewrite":          {"uri"},

		pkg + "DestinationRule": {"host", "subsets", "export_to"},
		pkg + "Subset":          {"name", "labels"},

		pkg + "ServiceEntry": {"hosts", "addresses", "ports", "location", "resolution", "endpoints", "export_to"},
		// weight, locality and network choose between endpoints;
		// serviceAccount names an identity for TLS.
		pkg + "WorkloadEntry": {"address", "ports", "labels"},
	}
}

const pkg = "istio.networking.v1alpha3."

// checkSupported reports every field that is set below m and not implemented.
func (c *compiler) checkSupported(meta *Meta, m protoreflect.Message, f *field) {
	names, known := c.supported[m.Descriptor().FullName()]
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		at := f.dot(fd.JSONName())
		if known && !slices.Contains(names, fd.Name()) {
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
