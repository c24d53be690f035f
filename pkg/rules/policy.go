package rules

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	networking "istio.io/api/networking/v1alpha3"
)

// Policy is what DestinationRules say of calls to a mirror. Zero values say
// nothing.
type Policy struct {
	// MaxConnections bounds connections, MaxRequests requests under way; over
	// HTTP/1 there is one request on a connection.
	MaxConnections, MaxRequests int
	// MaxPending bounds copies that wait for a connection.
	MaxPending int
	// RequestsPerConnection is after how many a connection is closed.
	RequestsPerConnection int
	// ConnectTimeout bounds connecting, IdleTimeout how long a connection
	// without a request is kept.
	ConnectTimeout, IdleTimeout time.Duration
	// Outlier says when an endpoint is left out for a while; nil: never.
	Outlier *Outlier
	// TLS is how to speak TLS; nil: in plain text.
	TLS *TLS
}

// Outlier says when an endpoint is ejected, and for how long (Envoy:
// OutlierDetection). 0 errors in a row means that such errors do not count.
type Outlier struct {
	// Errors are answers of status 500 to 599 and failures to get an answer,
	// GatewayErrors those of status 502, 503 and 504 and such failures.
	Errors, GatewayErrors int
	// Ejection is for how long an endpoint is ejected the first time; each
	// further time in a row adds as much.
	Ejection time.Duration
	// MaxPercent of the endpoints are ejected at most, one always may be.
	MaxPercent int
}

// TLS says how to speak TLS to a mirror. The files are read by whoever
// connects.
type TLS struct {
	// ClientCertificate and PrivateKey are PEM files, empty without client
	// authentication. CACertificates is a PEM file, empty for the system's.
	ClientCertificate, PrivateKey, CACertificates string
	// AltNames are what the certificate may be for instead of the server
	// name, comma-separated.
	AltNames string
	// ServerName is sent as SNI; empty: the name of the service.
	ServerName string
	// SkipVerify is whether to trust any certificate.
	SkipVerify bool
}

// serverName is what an endpoint of s is called in TLS.
func (t *TLS) serverName(s *service) string {
	if t.ServerName != "" {
		return t.ServerName
	}
	return s.host
}

// key names the policy.
func (p *Policy) key() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d,%d,%d,%d,%s,%s", p.MaxConnections, p.MaxRequests, p.MaxPending, p.RequestsPerConnection,
		p.ConnectTimeout, p.IdleTimeout)
	if p.Outlier != nil {
		fmt.Fprintf(&b, ",outlier%v", *p.Outlier)
	}
	if p.TLS != nil {
		fmt.Fprintf(&b, ",tls%q", []string{p.TLS.ClientCertificate, p.TLS.PrivateKey, p.TLS.CACertificates,
			p.TLS.AltNames, p.TLS.ServerName, strconv.FormatBool(p.TLS.SkipVerify)})
	}
	return b.String()
}

// policy is what the rules say of calls to a port of t that meta names.
func (c *compiler) policy(meta *Meta, t *target, port *servicePort, at *field) Policy {
	r := c.destinationRules(t.service, meta.Namespace)
	if r == nil {
		return Policy{}
	}
	merged := portPolicy(r.policy, port.number)
	for _, s := range r.subsets {
		if s.Name == t.subset && s.TrafficPolicy != nil {
			own := portPolicy(s.TrafficPolicy, port.number)
			inherit(&own.ConnectionPool, merged.ConnectionPool)
			inherit(&own.OutlierDetection, merged.OutlierDetection)
			inherit(&own.Tls, merged.Tls)
			merged = own
		}
	}
	p := Policy{Outlier: outlier(merged.OutlierDetection)}
	if tcp := merged.ConnectionPool.GetTcp(); tcp != nil {
		p.MaxConnections = int(tcp.MaxConnections)
		p.ConnectTimeout = duration(tcp.ConnectTimeout)
		p.IdleTimeout = duration(tcp.IdleTimeout)
	}
	if http := merged.ConnectionPool.GetHttp(); http != nil {
		p.MaxPending, p.MaxRequests = int(http.Http1MaxPendingRequests), int(http.Http2MaxRequests)
		p.RequestsPerConnection = int(http.MaxRequestsPerConnection)
		if d := duration(http.IdleTimeout); d > 0 {
			p.IdleTimeout = d
		}
	}
	p.TLS = c.tls(meta, t, merged.Tls, at)
	return p
}

// portPolicy is a policy as it is for a port, never nil. What is said for the
// port replaces all of the rest.
func portPolicy(p *networking.TrafficPolicy, port uint32) *networking.TrafficPolicy {
	out := &networking.TrafficPolicy{ConnectionPool: p.GetConnectionPool(), OutlierDetection: p.GetOutlierDetection(), Tls: p.GetTls()}
	for _, own := range p.GetPortLevelSettings() {
		if own.Port.GetNumber() == port {
			out.ConnectionPool, out.OutlierDetection, out.Tls = own.ConnectionPool, own.OutlierDetection, own.Tls
			break
		}
	}
	return out
}

func duration(d *durationpb.Duration) time.Duration {
	if d == nil {
		return 0
	}
	return d.AsDuration()
}

// outlier is what an OutlierDetection says, with Istio's and Envoy's defaults.
func outlier(in *networking.OutlierDetection) *Outlier {
	if in == nil {
		return nil
	}
	o := &Outlier{Errors: 5, Ejection: 30 * time.Second, MaxPercent: 10}
	if in.Consecutive_5XxErrors != nil {
		o.Errors = int(in.Consecutive_5XxErrors.Value)
	}
	if in.ConsecutiveGatewayErrors != nil {
		o.GatewayErrors = int(in.ConsecutiveGatewayErrors.Value)
		if in.Consecutive_5XxErrors == nil {
			o.Errors = 5
		}
	}
	if in.BaseEjectionTime != nil {
		o.Ejection = in.BaseEjectionTime.AsDuration()
	}
	if in.MaxEjectionPercent > 0 {
		o.MaxPercent = int(in.MaxEjectionPercent)
	}
	if o.Errors == 0 && o.GatewayErrors == 0 {
		return nil
	}
	return o
}

// tls is how to speak TLS to t.
func (c *compiler) tls(meta *Meta, t *target, in *networking.ClientTLSSettings, at *field) *TLS {
	out := &TLS{
		CACertificates: in.GetCaCertificates(), ServerName: in.GetSni(), SkipVerify: in.GetInsecureSkipVerify().GetValue(),
		AltNames: strings.Join(in.GetSubjectAltNames(), ","),
	}
	if len(in.GetSubjectAltNames()) == 0 {
		out.AltNames = strings.Join(t.service.altNames, ",")
	}
	switch in.GetMode() {
	case networking.ClientTLSSettings_DISABLE:
		return nil
	case networking.ClientTLSSettings_SIMPLE:
	case networking.ClientTLSSettings_MUTUAL:
		out.ClientCertificate, out.PrivateKey = in.ClientCertificate, in.PrivateKey
	default:
		c.errorf(meta, at, "", "a DestinationRule asks for ISTIO_MUTUAL towards %s: the certificates of the mesh are not at hand, "+
			"expected DISABLE, SIMPLE or MUTUAL for the mirror's subset", t.service.host)
		return nil
	}
	if in.CredentialName != "" {
		c.errorf(meta, at, in.CredentialName, "a DestinationRule asks for credentialName towards %s, which is not supported yet: "+
			"expected files", t.service.host)
	}
	if in.CaCrl != "" {
		c.errorf(meta, at, in.CaCrl, "a DestinationRule asks for caCrl towards %s, which is not supported yet", t.service.host)
	}
	return out
}

// checkPolicy checks a traffic policy for itself.
func (c *compiler) checkPolicy(meta *Meta, p *networking.TrafficPolicy, at *field) {
	if p == nil {
		return
	}
	c.checkSettings(meta, p.ConnectionPool, p.OutlierDetection, p.Tls, at)
	var ports []uint32
	for i, s := range p.PortLevelSettings {
		f := at.dot("portLevelSettings").at(i)
		c.portNumber(meta, f.dot("port").dot("number"), s.Port.GetNumber())
		if slices.Contains(ports, s.Port.GetNumber()) {
			c.errorf(meta, f.dot("port").dot("number"), fmt.Sprint(s.Port.GetNumber()), "is given twice")
		}
		ports = append(ports, s.Port.GetNumber())
		c.checkSettings(meta, s.ConnectionPool, s.OutlierDetection, s.Tls, f)
	}
}

func (c *compiler) checkSettings(meta *Meta, pool *networking.ConnectionPoolSettings, o *networking.OutlierDetection, tls *networking.ClientTLSSettings, at *field) {
	positive := func(n int64, f *field) {
		if n < 0 {
			c.errorf(meta, f, fmt.Sprint(n), "expected 0 or more")
		}
	}
	span := func(d *durationpb.Duration, f *field) {
		if d != nil && d.AsDuration() < 0 {
			c.errorf(meta, f, d.AsDuration().String(), "expected a time of 0 or more")
		}
	}
	if tcp, f := pool.GetTcp(), at.dot("connectionPool").dot("tcp"); tcp != nil {
		positive(int64(tcp.MaxConnections), f.dot("maxConnections"))
		span(tcp.ConnectTimeout, f.dot("connectTimeout"))
		span(tcp.IdleTimeout, f.dot("idleTimeout"))
	}
	if http, f := pool.GetHttp(), at.dot("connectionPool").dot("http"); http != nil {
		positive(int64(http.Http1MaxPendingRequests), f.dot("http1MaxPendingRequests"))
		positive(int64(http.Http2MaxRequests), f.dot("http2MaxRequests"))
		positive(int64(http.MaxRequestsPerConnection), f.dot("maxRequestsPerConnection"))
		span(http.IdleTimeout, f.dot("idleTimeout"))
	}
	if f := at.dot("outlierDetection"); o != nil {
		span(o.BaseEjectionTime, f.dot("baseEjectionTime"))
		if o.MaxEjectionPercent < 0 || o.MaxEjectionPercent > 100 {
			c.errorf(meta, f.dot("maxEjectionPercent"), fmt.Sprint(o.MaxEjectionPercent), "expected 0 to 100")
		}
	}
	if f := at.dot("tls"); tls.GetMode() == networking.ClientTLSSettings_MUTUAL && tls.CredentialName == "" {
		if tls.ClientCertificate == "" {
			c.errorf(meta, f.dot("clientCertificate"), "", "is required for MUTUAL")
		}
		if tls.PrivateKey == "" {
			c.errorf(meta, f.dot("privateKey"), "", "is required for MUTUAL")
		}
	}
}
