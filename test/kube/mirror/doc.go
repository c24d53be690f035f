// Package mirror tests shadowtap on a real Kubernetes of two nodes: the image,
// the manifests, and what becomes of every request while pods, rules and
// agents come and go. Each request has an id; clients, production and shadow
// keep what they saw, and the tests join that with the agents' accounts.
//
//	make test-kube
//
// builds all of it, brings the cluster up, runs the tests and brings it down
// (test/kube/run.sh). Without a cluster everything here is skipped.
package mirror
