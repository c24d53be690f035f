// Package api tests pkg/kube against a real API server with etcd, which the
// tests start on loopback and end again.
package api
