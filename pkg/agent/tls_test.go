package agent

import (
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestHTTPSMirror runs the one-line form towards an https shadow, with and
// without the CA that signed its certificate.
func TestHTTPSMirror(t *testing.T) {
	var got []string
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.Method+" "+r.RequestURI+" "+r.Host+" "+r.Header.Get(GuardHeader))
		http.Redirect(w, r, "/elsewhere", http.StatusFound) // not followed
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	to, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(ca, cert, 0o600); err != nil {
		t.Fatal(err)
	}
	pcap := writePCAP(t, flow{port: 3001, segments: []string{"GET /a HTTP/1.1\r\n" + host + "\r\n"}})
	for _, tt := range []struct {
		name             string
		ca               string
		skip             bool
		answered, failed map[string]uint64
	}{
		{"trusted", ca, false, map[string]uint64{"3xx": 1}, map[string]uint64{}},
		{"not verified", "", true, map[string]uint64{"3xx": 1}, map[string]uint64{}},
		{"not trusted", "", false, map[string]uint64{}, map[string]uint64{"tls": 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := testConfig(t, "", pcap)
			c.Files, c.Port, c.To = nil, 80, to
			c.TLSCAFile, c.TLSSkipVerify = tt.ca, tt.skip
			account := runAgent(t, c)
			if d := cmp.Diff(tt.answered, account.Shadow.Answered); d != "" {
				t.Error(d)
			}
			if d := cmp.Diff(tt.failed, account.Shadow.Failed); d != "" {
				t.Error(d)
			}
		})
	}
	const copied = "GET /a www.bookinfo.com test"
	if d := cmp.Diff([]string{copied, copied}, got); d != "" {
		t.Error(d)
	}
}

func TestTLSConfigErrors(t *testing.T) {
	c := testConfig(t, "", "x")
	c.TLSCAFile = filepath.Join(t.TempDir(), "none.pem")
	if _, err := tlsConfig(c); err == nil {
		t.Error("a missing CA file was accepted")
	}
	if err := os.WriteFile(c.TLSCAFile, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := tlsConfig(c); err == nil {
		t.Error("a CA file without certificates was accepted")
	}
}
