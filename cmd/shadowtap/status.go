package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/shadowtap/shadowtap/pkg/fleet"
)

// statusFlags say which agents to ask, and how.
type statusFlags struct {
	agents  []string
	output  string
	timeout time.Duration
	token   string // file
	ca      string
}

func newStatus() *cobra.Command {
	var f statusFlags
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Add up the accounts of running agents",
		Long: `Asks each agent for its account and prints the sum: what became of every packet,
request and copy, per mirror and in all. Exits with 1 if an agent does not
answer or something is not accounted for.`,
		Example: `  # the agent of this host
  shadowtap status

  # several hosts, for a script
  shadowtap status --agent http://10.0.0.1:9901 --agent http://10.0.0.2:9901 -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	fl := cmd.Flags()
	fl.StringArrayVar(&f.agents, "agent", []string{"http://127.0.0.1:9901"}, "URL of an agent's admin API (repeatable)")
	fl.StringVarP(&f.output, "output", "o", "text", "text or json")
	fl.DurationVar(&f.timeout, "timeout", 10*time.Second, "how long to wait for answers")
	fl.StringVar(&f.token, "token-file", "", "file with the bearer token of the admin APIs")
	fl.StringVar(&f.ca, "tls-ca", "", "PEM file of the CAs that https agents are verified against")
	return cmd
}

func (f *statusFlags) run(cmd *cobra.Command) error {
	if err := checkOutput(f.output); err != nil {
		return err
	}
	var agents []fleet.Agent
	for _, s := range f.agents {
		u, err := url.Parse(s)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return fmt.Errorf("--agent %q: expected http://HOST:PORT or https://HOST:PORT", s)
		}
		agents = append(agents, fleet.Agent{Name: u.Host, URL: s})
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), f.timeout)
	defer cancel()
	client, err := f.client()
	if err != nil {
		return err
	}
	report := fleet.Ask(ctx, client, agents)
	if err := f.print(cmd, &report); err != nil {
		return err
	}
	if n := report.Failed(); n > 0 {
		return negativeAnswer{fmt.Sprintf("%d of %d agents did not answer", n, len(report.Agents))}
	}
	if !report.Balanced() {
		return negativeAnswer{"the account does not add up"}
	}
	return nil
}

// client returns what asks the agents.
func (f *statusFlags) client() (*http.Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if f.ca != "" {
		pem, err := os.ReadFile(f.ca)
		if err != nil {
			return nil, fmt.Errorf("--tls-ca: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--tls-ca %s: expected PEM certificates", f.ca)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	// An agent redirects nobody, and a token is not for others.
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if f.token == "" {
		return &http.Client{Transport: transport, CheckRedirect: stay}, nil
	}
	token, err := os.ReadFile(f.token)
	if err != nil {
		return nil, fmt.Errorf("--token-file: %w", err)
	}
	return &http.Client{Transport: bearer{transport, strings.TrimSpace(string(token))}, CheckRedirect: stay}, nil
}

// bearer adds a token to each request.
type bearer struct {
	http.RoundTripper
	token string
}

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token)
	return b.RoundTripper.RoundTrip(r)
}

func (f *statusFlags) print(cmd *cobra.Command, report *fleet.Report) error {
	if f.output == "text" {
		return report.WriteText(cmd.OutOrStdout())
	}
	enc := json.NewEncoder(cmd.OutOrStdout())
	enc.SetIndent("", "  ")
	return enc.Encode(report)
}
