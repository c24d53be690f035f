// Package envoy evaluates Envoy route configurations: which route takes a
// request, what is mirrored of it, and what the request looks like then. It is
// written from Envoy's route specification (envoy.config.route.v3 and the
// behaviour of its HTTP connection manager and router) and shares nothing with
// the product, so that the two can be held against each other.
//
// It covers what Istio's generator makes of a VirtualService, be it written by
// people or made of routes of the Gateway API. Whatever else a
// configuration sets is an error: a checker that passes over a field it does
// not know would agree with anything.
package envoy
