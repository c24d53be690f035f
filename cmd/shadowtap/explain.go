package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/shadowtap/shadowtap/pkg/httpstream"
	"github.com/shadowtap/shadowtap/pkg/rules"
)

// explainFlags say by which rules to explain a request, and what it is like.
type explainFlags struct {
	rules    ruleFlags
	files    []string
	headers  []string // "Name: value"
	data     string
	source   string
	gateways []string
	output   string
}

func newExplain() *cobra.Command {
	var f explainFlags
	cmd := &cobra.Command{
		Use:   "explain -f FILE... METHOD URL",
		Short: "Say which rule takes a request, why others do not, and what would be sent",
		Long: `Answers for one request, without capturing or sending anything, which rule
takes it, why the rules before do not, and the exact requests that would be
sent to which endpoints. Exits with 0 if a rule takes the request, with 1 if
none does, and with 2 on an error.

The URL's host and port become the Host header; -H 'Host: x' overrides it. The
URL's port is the port of the service, or of the gateway, that the request is
sent to: match.port refers to it, and a mirror without a port.

The client is one in the mesh that nothing else is known of, unless --source
or --gateway says more.`,
		Example: `  shadowtap explain -f rules.yaml GET http://www.bookinfo.com/httpbin/headers
  shadowtap explain -f rules.yaml GET http://reviews:9080/ --source shop,app=cart
  shadowtap explain -f rules.yaml GET http://www.bookinfo.com/ --gateway bookinfo/bookinfo-gateway
  shadowtap explain -f rules.yaml POST http://bookinfo.com/httpbin/post -H 'Content-Type: application/json' -d '{"a":1}' -o json`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0], args[1]) },
	}
	fl := cmd.Flags()
	fl.StringArrayVarP(&f.files, "file", "f", nil, "rules `FILE`, or directory of *.yaml, *.yml and *.json (repeatable)")
	fl.StringArrayVarP(&f.headers, "header", "H", nil, "header field `'Name: value'` (repeatable)")
	fl.StringVarP(&f.data, "data", "d", "", "`BODY` of the request; @FILE reads it from a file, @- from standard input")
	fl.StringVar(&f.source, "source", "", "`CLIENT` that sends it: NAMESPACE[,label=value...], or the IP address of a workload that is among the rules")
	fl.StringArrayVar(&f.gateways, "gateway", nil, "gateway by which the request came, `NAMESPACE/NAME` (repeatable); without it, the mesh")
	f.rules.register(fl)
	fl.StringVarP(&f.output, "output", "o", "text", "text or json")
	return cmd
}

func (f *explainFlags) run(cmd *cobra.Command, method, rawURL string) error {
	if err := checkOutput(f.output); err != nil {
		return err
	}
	if len(f.files) == 0 {
		return errors.New("no rules: give --file FILE")
	}
	raw, err := composeRequest(method, rawURL, f.headers, f.data, cmd.InOrStdin())
	if err != nil {
		return err
	}
	request, err := httpstream.ParseRequest(raw)
	if err != nil {
		return fmt.Errorf("%q %s: not a valid HTTP/1.1 request: %w", method, rawURL, err)
	}
	defer request.Release()
	program, problems, err := f.rules.compile(f.files)
	if err != nil {
		return err
	}
	if err := problems.Err(); err != nil {
		return err
	}
	origin, err := originOf(rawURL, f.headers)
	if err != nil {
		return err
	}
	if origin.Client, err = clientOf(program, f.source, f.gateways); err != nil {
		return err
	}
	explanation := program.ExplainFrom(request, origin)
	if f.output == "json" {
		enc := json.NewEncoder(cmd.OutOrStdout())
		enc.SetEscapeHTML(false)
		err = enc.Encode(explanation)
	} else {
		err = explanation.WriteText(cmd.OutOrStdout())
	}
	if err != nil {
		return err
	}
	if !explanation.Matched {
		return negativeAnswer{}
	}
	return nil
}

// clientOf returns the client that --source and --gateway describe.
func clientOf(p *rules.Program, source string, gateways []string) (*rules.Client, error) {
	c := &rules.Client{}
	if source != "" {
		var err error
		if c, err = p.ParseClient(source); err != nil {
			return nil, fmt.Errorf("--source: %w", err)
		}
	}
	if len(gateways) == 0 {
		return c, nil
	}
	c.Gateways = nil
	for _, g := range gateways {
		namespace, name, ok := strings.Cut(g, "/")
		if g == "mesh" {
			continue
		}
		if !ok || namespace == "" || name == "" {
			return nil, fmt.Errorf("--gateway %q: expected NAMESPACE/NAME or mesh", g)
		}
		c.Gateways = append(c.Gateways, g)
	}
	return c, nil
}

// originOf returns the scheme and the port that a URL has. A path has neither;
// then the port is that of the Host header.
func originOf(rawURL string, headers []string) (rules.Origin, error) {
	if strings.HasPrefix(rawURL, "/") || rawURL == "*" {
		for _, h := range headers {
			if name, value, _ := strings.Cut(h, ":"); strings.EqualFold(name, "host") {
				rawURL = "//" + strings.TrimSpace(value)
			}
		}
	}
	u, err := url.Parse(rawURL)
	if err != nil || u.Host == "" {
		return rules.Origin{}, nil // composeRequest has judged it
	}
	o := rules.Origin{Scheme: u.Scheme, Port: 80}
	if u.Scheme == "https" {
		o.Port = 443
	}
	if port := u.Port(); port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return o, fmt.Errorf("port %q: expected 1 to 65535", port)
		}
		o.Port = uint32(n)
	}
	return o, nil
}

// composeRequest writes the HTTP/1.1 request that a client would send for
// method and rawURL.
func composeRequest(method, rawURL string, headers []string, data string, stdin io.Reader) ([]byte, error) {
	host, target, err := splitURL(rawURL)
	if err != nil {
		return nil, err
	}
	body, err := readData(data, stdin)
	if err != nil {
		return nil, err
	}
	var fields bytes.Buffer
	framed := false // by a field that was given: perhaps wrongly, which is to be explained, too
	for _, h := range headers {
		name, value, ok := strings.Cut(h, ":")
		if !ok || name == "" {
			return nil, fmt.Errorf("--header %q: expected 'Name: value'", h)
		}
		value = strings.TrimSpace(value)
		switch strings.ToLower(name) {
		case "host":
			host = value
			continue
		case "content-length", "transfer-encoding":
			framed = true
		}
		fmt.Fprintf(&fields, "%s: %s\r\n", name, value)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\n", method, target)
	if host != "" {
		fmt.Fprintf(&b, "Host: %s\r\n", host)
	}
	b.Write(fields.Bytes())
	if len(body) > 0 && !framed {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	}
	b.WriteString("\r\n")
	b.Write(body)
	return b.Bytes(), nil
}

// splitURL returns the Host and the request target for a URL, or for a path or
// "*", which have no host. The target keeps the URL's spelling, which rules may
// match: net/url would change escapes.
func splitURL(rawURL string) (host, target string, err error) {
	if strings.HasPrefix(rawURL, "/") || rawURL == "*" {
		return "", rawURL, nil
	}
	u, err := url.Parse(rawURL)
	if err != nil {
		return "", "", fmt.Errorf("URL: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return "", "", fmt.Errorf("URL %q: expected http://HOST/PATH or https://HOST/PATH, or a path with -H 'Host: NAME'", rawURL)
	}
	_, rest, _ := strings.Cut(rawURL, "://")
	target = "/"
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		target, _, _ = strings.Cut(rest[i:], "#")
		if !strings.HasPrefix(target, "/") {
			target = "/" + target
		}
	}
	return u.Host, target, nil
}

// readData returns the body that --data stands for.
func readData(data string, stdin io.Reader) ([]byte, error) {
	name, ok := strings.CutPrefix(data, "@")
	switch {
	case !ok:
		return []byte(data), nil
	case name == "-":
		return io.ReadAll(stdin)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("--data: %w", err)
	}
	return b, nil
}
