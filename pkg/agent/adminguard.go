package agent

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// maxAdminHead and maxAdminBody bound a request to the admin API, in
	// bytes. None has a body that anybody reads.
	maxAdminHead = 16 << 10
	maxAdminBody = 4 << 10
	// maxAdminConns bounds its connections.
	maxAdminConns = 64
	// adminWriteTime is how long an answer may take, except a profile's.
	adminWriteTime = 30 * time.Second
	profileTime    = 10 * time.Minute
	maxTokenSize   = 4 << 10
)

// onLoopback reports whether only this host can reach address, HOST:PORT. What
// is no such address is left to who listens.
func onLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return true
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// readToken reads a bearer token (RFC 6750). White space around it is not part
// of it.
func readToken(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxTokenSize+1))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", file, err)
	}
	token := strings.TrimSpace(string(text))
	if token == "" || len(text) > maxTokenSize || strings.ContainsAny(token, " \t\r\n") {
		return "", fmt.Errorf("%s: expected one token of at most %d bytes", file, maxTokenSize)
	}
	return token, nil
}

// guard bounds requests to the admin API and lets only those through that
// carry the token of tokenFile, which is read for each of them: whoever
// replaces it shuts the old one out at once. Without a file everybody may come.
// /healthz and /readyz say nothing that is worth a token.
func guard(next http.Handler, tokenFile string, log *slog.Logger) http.Handler {
	unreadable := occasionally()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		limit := adminWriteTime
		if strings.HasPrefix(r.URL.Path, "/debug/pprof/") {
			limit = profileTime
		}
		// Not supported by what tests record answers with, and by nothing else.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(limit))
		r.Body = http.MaxBytesReader(w, r.Body, maxAdminBody)
		open := tokenFile == "" || r.URL.Path == "/healthz" || r.URL.Path == "/readyz"
		if !open {
			token, err := readToken(tokenFile)
			switch {
			case err != nil:
				unreadable.Do(func() {
					log.Error("admin API: nobody is let in without a token to compare", "error", err)
				})
				http.Error(w, "the token cannot be read", http.StatusServiceUnavailable)
				return
			case !carries(r, token):
				w.Header().Set("WWW-Authenticate", `Bearer realm="shadowtap"`)
				http.Error(w, "a bearer token is required", http.StatusUnauthorized)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// carries reports whether a request has the token, in a time that does not
// depend on how much of it is right.
func carries(r *http.Request, token string) bool {
	scheme, credentials, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	got, want := sha256.Sum256([]byte(strings.TrimSpace(credentials))), sha256.Sum256([]byte(token))
	return strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(got[:], want[:]) == 1
}

// listenAdmin opens the admin listener.
func listenAdmin(c *Config) (net.Listener, error) {
	if c.AdminTokenFile != "" {
		if _, err := readToken(c.AdminTokenFile); err != nil {
			return nil, fmt.Errorf("--admin-token-file: %w", err)
		}
	}
	var config *tls.Config
	if c.AdminCert != "" {
		pair := &keyPairFiles{cert: c.AdminCert, key: c.AdminKey, log: c.Logger, outdated: occasionally()}
		if _, err := pair.get(); err != nil {
			return nil, fmt.Errorf("--admin-cert: %w", err)
		}
		config = &tls.Config{
			MinVersion:     tls.VersionTLS12,
			NextProtos:     []string{"http/1.1"},
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return pair.get() },
		}
	}
	l, err := net.Listen("tcp", c.Admin)
	if err != nil {
		return nil, fmt.Errorf("--admin: %w", err)
	}
	l = &boundedListener{Listener: l, most: maxAdminConns}
	if config != nil {
		l = tls.NewListener(l, config)
	}
	return l, nil
}

// keyPairFiles is a certificate and its key, read again when a file changes.
type keyPairFiles struct {
	cert, key string
	log       *slog.Logger
	outdated  *rate.Sometimes // bounds what is logged

	mu     sync.Mutex
	pair   *tls.Certificate
	stamps [2]fileStamp
}

type fileStamp struct {
	modified time.Time
	size     int64
}

func stampOf(file string) (s fileStamp, err error) {
	info, err := os.Stat(file)
	if err == nil {
		s = fileStamp{info.ModTime(), info.Size()}
	}
	return s, err
}

// get returns the pair as it is in the files, or the last one that could be
// read: a renewal is two files, and there is a moment between them.
func (f *keyPairFiles) get() (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	cert, err1 := stampOf(f.cert)
	key, err2 := stampOf(f.key)
	stamps := [2]fileStamp{cert, key}
	err := errors.Join(err1, err2)
	if f.pair != nil && err == nil && stamps == f.stamps {
		return f.pair, nil
	}
	if err == nil {
		var pair tls.Certificate
		if pair, err = tls.LoadX509KeyPair(f.cert, f.key); err == nil {
			f.pair, f.stamps = &pair, stamps
		}
	}
	if err != nil && f.pair != nil {
		f.outdated.Do(func() {
			f.log.Error("admin API: the certificate in use is older than its files", "error", err)
		})
		return f.pair, nil
	}
	return f.pair, err
}
