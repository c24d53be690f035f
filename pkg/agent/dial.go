package agent

import (
	"fmt"
	"net"
	"net/netip"
	"syscall"
)

// dialer connects to shadows. Rules of a cluster are written by many, and their
// copies leave from the agent's network, which may be the node's: they must not
// reach what listens for the agent or the node alone, by whatever name.
func (a *Agent) dialer() *net.Dialer {
	if !a.cfg.Kube {
		return &net.Dialer{}
	}
	return &net.Dialer{Control: elsewhere}
}

// elsewhere refuses the addresses that mean this machine, and those that no
// router forwards, where nodes find the services of their cloud (RFC 3927, RFC
// 4291 section 2.5.6).
func elsewhere(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if ip := at.Addr().Unmap(); ip.IsLoopback() || ip.IsUnspecified() || ip.IsLinkLocalUnicast() {
		return fmt.Errorf("%s: rules of a cluster send copies neither to loopback nor to link-local addresses", ip)
	}
	return nil
}
