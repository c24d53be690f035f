package agent

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/shadowtap/shadowtap/pkg/replay"
	"github.com/shadowtap/shadowtap/pkg/rules"
)

// newMirror makes the mirror for a destination that the rules name.
func (a *Agent) newMirror(m *rules.Mirror) *replay.Mirror {
	tlsConfig, err := mirrorTLS(a.tls, m.Policy.TLS)
	if err != nil {
		// It was fine when the rules were loaded. Nothing is verified, so
		// nothing gets through; the copies are counted as failed.
		a.log.Error("the mirror's certificates cannot be read", "mirror", m.Key(), "error", err)
		tlsConfig = &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	}
	p := &m.Policy
	cfg := replay.Config{
		Name:                  m.Key(),
		Endpoints:             endpoints(m, a.mirrors.zone),
		Queue:                 least(a.cfg.Queue, p.MaxPending),
		InFlight:              least(least(a.cfg.InFlight, p.MaxConnections), p.MaxRequests),
		Timeout:               a.cfg.Timeout,
		ConnectTimeout:        a.cfg.ConnectTimeout,
		MaxFailures:           a.cfg.MaxFailures,
		MaxBackoff:            a.cfg.MaxBackoff,
		RequestsPerConnection: p.RequestsPerConnection,
		Extra:                 []byte(GuardHeader + ": " + a.cfg.Name + "\r\n"),
		TLS:                   tlsConfig,
		Dial:                  a.dialer().DialContext,
		Reserve:               a.own.reserve,
		Release:               a.own.release,
		OnPanic: func(fault any, stack []byte) {
			a.panics.note(inMirror, fault, stack, "mirror", m.Key())
		},
	}
	if p.ConnectTimeout > 0 {
		cfg.ConnectTimeout = p.ConnectTimeout
	}
	if p.IdleTimeout > 0 {
		cfg.IdleTimeout = max(p.IdleTimeout, time.Second)
	}
	if p.Outlier != nil {
		o := replay.Outlier(*p.Outlier)
		cfg.Outlier = &o
	}
	if a.comparing != nil {
		cfg.Keep, cfg.OnResult = a.comparing.kept, a.comparing.copyDone
	}
	return replay.New(cfg)
}

// least is the lower of a bound of the agent's and one of a rule, of which 0
// is none.
func least(own, rule int) int {
	if rule > 0 {
		return min(own, rule)
	}
	return own
}

// checkTLS reports what mirrors need to speak TLS and is not there.
func (a *Agent) checkTLS(p *rules.Program) (problems rules.Problems) {
	for _, m := range p.Mirrors() {
		if _, err := mirrorTLS(a.tls, m.Policy.TLS); err != nil {
			problems = append(problems, rules.Problem{Object: "mirror " + m.Key(), Message: err.Error()})
		}
	}
	return problems
}

// mirrorTLS is base with what a rule says of TLS.
func mirrorTLS(base *tls.Config, t *rules.TLS) (*tls.Config, error) {
	if t == nil {
		return base, nil
	}
	c := base.Clone()
	if t.CACertificates != "" {
		pool, err := certPool(t.CACertificates)
		if err != nil {
			return nil, fmt.Errorf("caCertificates: %w", err)
		}
		c.RootCAs = pool
	}
	c.InsecureSkipVerify = c.InsecureSkipVerify || t.SkipVerify
	if t.ClientCertificate != "" {
		load := func() (*tls.Certificate, error) {
			cert, err := readPEM(t.ClientCertificate)
			if err != nil {
				return nil, err
			}
			key, err := readPEM(t.PrivateKey)
			if err != nil {
				return nil, err
			}
			pair, err := tls.X509KeyPair(cert, key)
			return &pair, err
		}
		if _, err := load(); err != nil {
			return nil, fmt.Errorf("clientCertificate: %w", err)
		}
		// Certificates are renewed while the agent runs.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	}
	if t.AltNames != "" && !c.InsecureSkipVerify {
		verifyAltNames(c, strings.Split(t.AltNames, ","))
	}
	return c, nil
}

// verifyAltNames makes c accept certificates for any of names, DNS names and
// URIs, instead of the server name (Envoy: match_typed_subject_alt_names).
func verifyAltNames(c *tls.Config, names []string) {
	roots := c.RootCAs
	// The chain is verified below, and with it the names.
	c.InsecureSkipVerify = true
	c.VerifyConnection = func(s tls.ConnectionState) error {
		if len(s.PeerCertificates) == 0 {
			return errors.New("the shadow shows no certificate")
		}
		leaf := s.PeerCertificates[0]
		o := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
		for _, cert := range s.PeerCertificates[1:] {
			o.Intermediates.AddCert(cert)
		}
		if _, err := leaf.Verify(o); err != nil {
			return err
		}
		for _, name := range names {
			if leaf.VerifyHostname(name) == nil {
				return nil
			}
			for _, uri := range leaf.URIs {
				if uri.String() == name {
					return nil
				}
			}
		}
		return fmt.Errorf("the certificate of the shadow is for none of %s", strings.Join(names, ", "))
	}
}

func tlsConfig(cfg Config) (*tls.Config, error) {
	c := &tls.Config{InsecureSkipVerify: cfg.TLSSkipVerify, MinVersion: tls.VersionTLS12}
	if cfg.TLSCAFile == "" {
		return c, nil
	}
	var err error
	if c.RootCAs, err = certPool(cfg.TLSCAFile); err != nil {
		return nil, fmt.Errorf("--tls-ca: %w", err)
	}
	return c, nil
}

// certPool reads PEM certificates.
func certPool(file string) (*x509.CertPool, error) {
	pem, err := readPEM(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: expected PEM certificates", file)
	}
	return pool, nil
}

// maxPEM is more than a bundle of certificates has, in bytes.
const maxPEM = 4 << 20

// readPEM reads a file that a rule names: one that has no end, or that waits for
// somebody to write, must not be read.
func readPEM(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxPEM {
		return nil, fmt.Errorf("%s: expected a regular file of at most %d bytes", file, maxPEM)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxPEM))
}
