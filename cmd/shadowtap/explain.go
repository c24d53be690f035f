package main

import (
	"bytes"
	"encoding/json"
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

func newExplain() *cobra.Command {
	var (
		files, headers []string
		data, output   string
		source         string
		gateways       []string
		meant          meaning
	)
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
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			if len(files) == 0 {
				return fmt.Errorf("no rules: give --file FILE")
			}
			raw, err := composeRequest(args[0], args[1], headers, data, cmd.InOrStdin())
			if err != nil {
				return err
			}
			request, err := httpstream.ParseRequest(raw)
			if err != nil {
				return fmt.Errorf("%s %s: not a valid HTTP/1.1 request: %w", args[0], args[1], err)
			}
			defer request.Release()
			program, problems, err := meant.load(files)
			if err != nil {
				return err
			}
			if err := problems.Err(); err != nil {
				return err
			}
			client, err := clientOf(program, source, gateways)
			if err != nil {
				return err
			}
			origin, err := originOf(args[1], headers)
			if err != nil {
				return err
			}
			origin.Client = client
			explanation := program.ExplainFrom(request, origin)
			if output == "json" {
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
		},
	}
	fl := cmd.Flags()
	fl.StringArrayVarP(&files, "file", "f", nil, "rules file or directory (repeatable)")
	fl.StringArrayVarP(&headers, "header", "H", nil, "header field 'Name: value' (repeatable)")
	fl.StringVarP(&data, "data", "d", "", "body; @FILE reads it from a file, @- from standard input")
	fl.StringVar(&source, "source", "", "client workload: NAMESPACE[,label=value...], or the IP address of one that the rules know")
	fl.StringArrayVar(&gateways, "gateway", nil, "gateway by which the request came, NAMESPACE/NAME (repeatable); without it, the mesh")
	meant.flags(fl)
	fl.StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

// clientOf is the client that the flags say.
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

// originOf is the scheme and the port that a URL says. A path says none; its
// port is that of the Host header.
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
// method and rawURL. The target keeps the URL's spelling.
func composeRequest(method, rawURL string, headers []string, data string, stdin io.Reader) ([]byte, error) {
	host, target := "", rawURL
	if !strings.HasPrefix(rawURL, "/") && rawURL != "*" {
		u, err := url.Parse(rawURL)
		if err != nil {
			return nil, fmt.Errorf("URL: %w", err)
		}
		if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return nil, fmt.Errorf("URL %q: expected http://HOST/PATH or https://HOST/PATH, or a path with -H 'Host: NAME'", rawURL)
		}
		host = u.Host
		_, after, _ := strings.Cut(rawURL, "://")
		target = "/"
		if i := strings.IndexAny(after, "/?#"); i >= 0 {
			target, _, _ = strings.Cut(after[i:], "#")
			if !strings.HasPrefix(target, "/") {
				target = "/" + target
			}
		}
	}
	body, err := readData(data, stdin)
	if err != nil {
		return nil, err
	}
	var fields bytes.Buffer
	framed := false
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
