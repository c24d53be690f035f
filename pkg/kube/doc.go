// Package kube makes the API server of Kubernetes a source of rules and says
// which Pods are on this node.
//
// It watches what rules are made of: the kinds of networking.istio.io and of
// the Gateway API that the cluster serves, and all Services. Their objects are
// decoded once, when they arrive, by the decoder for files, so that the same
// YAML means the same in both places. Of EndpointSlices and Pods, which are
// many and change all the time, it watches those that the compiled rules ask
// for (see rules.Needs), by namespace or by label.
//
// An agent runs on every node, so whatever one of them asks of the API server
// is asked a thousand times in a large cluster. Each watch begins with what
// the API server has in memory, goes on where it broke off, and backs off when
// it fails. Nothing is polled. Of an object only what says something about
// mirroring is kept.
//
// If the API server cannot be reached, what is known stays.
package kube
