// Package rules decides which requests are mirrored where, and how the copy
// differs from the original. It decodes, validates and compiles the routing
// rules a team already has (VirtualService, DestinationRule and ServiceEntry
// of networking.istio.io, HTTPRoute and GRPCRoute of gateway.networking.k8s.io,
// with the objects of Kubernetes that say where services are), and evaluates
// and explains them. It is pure: no network, no clock, no logger.
//
// The rules mean what Istio's generator and Envoy make of them. Where that is
// surprising, this is what holds:
//
//   - The host of a request chooses one virtual host before any route is
//     looked at; if none of its routes match, no less specific host is tried.
//     The port in Host is ignored, letter case too. A name of a service is
//     also known by its shorter forms and with a trailing dot; any other name
//     with a trailing dot is another host.
//   - Routes are tried in order, the first match wins. What follows a route
//     that takes everything is never reached.
//   - Matching looks at the path as Envoy's path normalisation leaves it, and
//     the copy carries that path. A path that Envoy would answer with 400
//     (such as one with %00) or 404 ("OPTIONS *") is matched by nothing.
//   - Two mirrors of one route with the same percentage take the same
//     requests: one random number decides for all of them.
//   - A request that Envoy has rewritten is matched as the client sent it; the
//     copy is what arrived.
//   - Rules may ask for the client and the gateway it came by. Client says what
//     is assumed where that is not known.
//
// Routes of the Gateway API mean what its definition says, and what Istio makes
// of them where it leaves that open:
//
//   - A document is held to the definitions of the resources: what an API
//     server would refuse is an error, what it fills in is filled in.
//   - Regular expressions are RE2, match the whole value and go behind every
//     path prefix, even "/".
//   - A host whose routes do not match is not tried with a wildcard.
//   - Of the listeners that are for a host the one whose route leads to where
//     the request arrived is the one it came by.
//   - A replaced prefix "/" keeps the slash behind it: "/a" becomes "/x/a",
//     where Istio writes "/xa".
//   - Values in a RequestHeaderModifier are literal, "%" included.
//
// Where a VirtualService and a route of the Gateway API are for the same host,
// the one whose route leads to where the request arrived takes it, the
// VirtualService first. Where both are for clients in the mesh it is the older,
// but a route of the client's own namespace goes before all others. What DestinationRules say of a service holds for both.
//
// A field of a rule that this package does not implement is an error that
// names the field, one that cannot matter to a mirror a warning. Nothing is
// ignored silently.
package rules
