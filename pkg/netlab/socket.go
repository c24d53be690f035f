package netlab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
)

// A socket belongs for its whole life to the namespace it was created in, so
// what Listen and Dial return is used from ordinary goroutines.

// Listen is net.Listen inside the namespace. The address must be a literal IP
// address with a port, or ":port".
func (n *Namespace) Listen(network, address string) (l net.Listener, err error) {
	err = n.Do(func() error {
		l, err = net.Listen(network, address)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("netlab: in namespace %s: %w", n.name, err)
	}
	return l, nil
}

// Dial connects from inside the namespace; it has the signature of
// net.Dialer.DialContext. The address must be a literal IP address with a
// port: name servers are outside.
func (n *Namespace) Dial(ctx context.Context, network, address string) (c net.Conn, err error) {
	// net dials a single address on the calling goroutine. Several (names with
	// IPv4 and IPv6) would be raced on goroutines outside the namespace.
	if _, err := netip.ParseAddrPort(address); err != nil {
		return nil, fmt.Errorf("netlab: dial from namespace %s: %w", n.name, err)
	}
	err = n.Do(func() error {
		var d net.Dialer
		c, err = d.DialContext(ctx, network, address)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("netlab: in namespace %s: %w", n.name, err)
	}
	return c, nil
}
