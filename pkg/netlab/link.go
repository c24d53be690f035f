package netlab

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// End is one end of a cable: an interface to be made in a namespace.
type End struct {
	Namespace *Namespace
	Name      string         // of the interface, at most 15 bytes
	Addresses []netip.Prefix // it gets these, with the networks they are in
	MTU       int            // bytes; 0 = the kernel's default, 1500
}

// Connect lays a cable (veth(4)) between two namespaces and brings both ends
// up. It ends with either namespace, or when either end is deleted.
func Connect(a, b End) error {
	err := a.Namespace.netlink.LinkAdd(&netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: a.Name, MTU: a.MTU},
		PeerName:      b.Name,
		PeerMTU:       uint32(b.MTU),
		PeerNamespace: netlink.NsFd(b.Namespace.handle),
	})
	if err != nil {
		return fmt.Errorf("netlab: connect %s:%s to %s:%s: %w", a.Namespace.name, a.Name, b.Namespace.name, b.Name, err)
	}
	for _, end := range []End{a, b} {
		if err := end.Namespace.up(end.Name, end.Addresses); err != nil {
			return err
		}
	}
	return nil
}

// Bridge makes an Ethernet bridge of the named interfaces and brings it up.
func (n *Namespace) Bridge(name string, ports []string, addresses ...netip.Prefix) error {
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}
	if err := n.netlink.LinkAdd(bridge); err != nil {
		return fmt.Errorf("netlab: bridge %s in %s: %w", name, n.name, err)
	}
	for _, port := range ports {
		link, err := n.link(port)
		if err != nil {
			return err
		}
		if err := n.netlink.LinkSetMaster(link, bridge); err != nil {
			return fmt.Errorf("netlab: bridge %s in %s: port %s: %w", name, n.name, port, err)
		}
	}
	return n.up(name, addresses)
}

// Tunnel is one end of a VXLAN tunnel (RFC 7348) over UDP port 4789.
type Tunnel struct {
	Name          string         // of the interface, at most 15 bytes
	VNI           int            // VXLAN network identifier, 24 bits
	Local, Remote netip.Addr     // of the network below
	Addresses     []netip.Prefix // of the interface
}

// Tunnel makes an end of a tunnel and brings it up.
func (n *Namespace) Tunnel(t Tunnel) error {
	err := n.netlink.LinkAdd(&netlink.Vxlan{
		LinkAttrs: netlink.LinkAttrs{Name: t.Name},
		VxlanId:   t.VNI,
		SrcAddr:   t.Local.AsSlice(),
		Group:     t.Remote.AsSlice(),
		Port:      4789,
		Learning:  true,
	})
	if err != nil {
		return fmt.Errorf("netlab: tunnel %s in %s: %w", t.Name, n.name, err)
	}
	return n.up(t.Name, t.Addresses)
}

// Delete removes an interface.
func (n *Namespace) Delete(name string) error {
	link, err := n.link(name)
	if err != nil {
		return err
	}
	if err := n.netlink.LinkDel(link); err != nil {
		return fmt.Errorf("netlab: delete %s in %s: %w", name, n.name, err)
	}
	return nil
}

// Route sends packets for dst to the neighbour via; a prefix of length 0 is
// the default route.
func (n *Namespace) Route(dst netip.Prefix, via netip.Addr) error {
	route := &netlink.Route{Dst: ipNet(dst), Gw: via.AsSlice()}
	if err := n.netlink.RouteReplace(route); err != nil {
		return fmt.Errorf("netlab: route %s via %s in %s: %w", dst, via, n.name, err)
	}
	return nil
}

// Forward makes the namespace a router for IPv4 and IPv6.
func (n *Namespace) Forward() error {
	return n.Do(func() error {
		return writeSysctls(map[string]string{
			"net/ipv4/ip_forward":          "1",
			"net/ipv6/conf/all/forwarding": "1",
		})
	})
}

// Up gives an interface that somebody else made its addresses and brings it up.
func (n *Namespace) Up(name string, addresses ...netip.Prefix) error { return n.up(name, addresses) }

// loopback brings lo up.
func (n *Namespace) loopback() error { return n.up("lo", nil) }

// up gives an interface its addresses and brings it up.
func (n *Namespace) up(name string, addresses []netip.Prefix) error {
	link, err := n.link(name)
	if err != nil {
		return err
	}
	for _, prefix := range addresses {
		address := &netlink.Addr{IPNet: ipNet(prefix)}
		if prefix.Addr().Is6() {
			address.Flags = unix.IFA_F_NODAD
		}
		if err := n.netlink.AddrAdd(link, address); err != nil {
			return fmt.Errorf("netlab: address %s on %s in %s: %w", prefix, name, n.name, err)
		}
	}
	if err := n.netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("netlab: bring up %s in %s: %w", name, n.name, err)
	}
	return nil
}

func (n *Namespace) link(name string) (netlink.Link, error) {
	link, err := n.netlink.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("netlab: interface %s in %s: %w", name, n.name, err)
	}
	return link, nil
}

// ipNet keeps the host part of the address, as interface addresses need it;
// routes ignore it.
func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
