package rules

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
)

// PortMirror is the Program of the command line "--port N --to URL --percent
// P": every request to the port, on whatever address, is mirrored to one place
// as it is. The URL is http or https and a host, with a port if it is not the
// scheme's. percent is from 0 to 100 and truncated as in a VirtualService.
func PortMirror(port uint16, to *url.URL, percent float64) (*Program, error) {
	m, err := urlMirror(to)
	if err != nil {
		return nil, fmt.Errorf("mirror to %s: %w", to.Redacted(), err)
	}
	if port == 0 {
		return nil, errors.New("port 0: expected a port from 1 to 65535")
	}
	if !(percent >= 0 && percent <= 100) {
		return nil, fmt.Errorf("percent %v: expected 0 to 100", percent)
	}
	p := &Program{form: verbatim, hosts: hostTable{}}
	a := &action{captured: map[netip.AddrPort]struct{}{anyAddress(port): {}}}
	share := RouteMirror{Mirror: m}
	share.setPercentage(percent)
	if share.Numerator > 0 {
		a.mirrors = []RouteMirror{share}
		p.mirrors = []*Mirror{m}
		p.targets = []netip.AddrPort{anyAddress(port)}
	}
	rt := &Route{
		rule:   Rule{Kind: "CommandLine", Name: "port-" + strconv.Itoa(int(port))},
		action: a,
		form:   verbatim,
	}
	rt.bind()
	p.hosts.set("*", &virtualHost{routes: []*Route{rt}})
	return p, nil
}

// urlMirror is the mirror at the root of a URL.
func urlMirror(to *url.URL) (*Mirror, error) {
	var port uint64
	if to == nil {
		return nil, errors.New("no URL")
	}
	switch to.Scheme {
	case "http":
		port = 80
	case "https":
		port = 443
	default:
		return nil, fmt.Errorf("scheme %q: expected http or https", to.Scheme)
	}
	switch {
	case to.Hostname() == "":
		return nil, errors.New("no host: expected http://host or http://host:port")
	case to.User != nil:
		return nil, errors.New("a user is not supported: copies carry the credentials of the original")
	case to.Path != "" && to.Path != "/", to.RawQuery != "", to.ForceQuery, to.Fragment != "":
		return nil, errors.New("a path or query is not supported: copies carry the path and query of the original")
	}
	if s := to.Port(); s != "" {
		var err error
		if port, err = strconv.ParseUint(s, 10, 16); err != nil || port == 0 {
			return nil, fmt.Errorf("port %q: expected 1 to 65535", s)
		}
	}
	e := Endpoint{Address: net.JoinHostPort(to.Hostname(), strconv.FormatUint(port, 10))}
	if to.Scheme == "https" {
		e.TLS, e.ServerName = true, to.Hostname()
	}
	return &Mirror{Host: to.Hostname(), Subset: "", Port: uint32(port), Endpoints: []Endpoint{e}}, nil
}
