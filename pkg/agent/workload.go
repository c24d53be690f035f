package agent

import "net/netip"

// Workload is a pod of this node, or whatever else has addresses that endpoints
// of the rules may be.
type Workload struct {
	// Addresses are those that its network namespace is recognised by.
	Addresses []netip.Addr
	// HostNetwork says that it has no network namespace of its own.
	HostNetwork bool
	// Sidecar says that a proxy in it is known to take the connections to its
	// ports and to hand the requests on over its loopback interface. One that
	// decrypts is found out about anyway, at the first TLS connection.
	Sidecar bool
}
