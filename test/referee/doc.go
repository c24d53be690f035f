// Package referee holds the test that the rules of this project mean what they
// mean to Istio and Envoy. Istio's own generator turns generated rules into
// Envoy routes; package envoy evaluates those for generated requests; pkg/rules
// must come to the same outcome: the route that takes the request, its mirrors
// with their exact fractions, and the request that they are sent.
//
// Routes of the Gateway API take the way they take in a cluster: Istio's
// controller, run on a client without a server, makes VirtualServices and
// Gateways of them, which go to the same generator.
//
// It is a Go module of its own, to keep what Istio depends on out of the
// product: "cd test/referee && go test ./...". A disagreement is printed as the
// smallest rule and request that still show it. A run is repeated with -seed,
// and made longer with -worlds.
package referee
