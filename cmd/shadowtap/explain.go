package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/shadowtap/shadowtap/pkg/httpstream"
)

func newExplain() *cobra.Command {
	var (
		files, headers []string
		data, output   string
	)
	cmd := &cobra.Command{
		Use:   "explain -f FILE... METHOD URL",
		Short: "Say which rule takes a request, why others do not, and what would be sent",
		Long: `Answers for one request, without capturing or sending anything, which rule
takes it, why the rules before do not, and the exact requests that would be
sent to which endpoints. Exits with 0 if a rule takes the request, with 1 if
none does, and with 2 on an error.

The URL's host and port become the Host header; -H 'Host: x' overrides it.`,
		Example: `  shadowtap explain -f rules.yaml GET http://www.bookinfo.com/httpbin/headers
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
			program, problems := loadRules(files)
			if err := problems.Err(); err != nil {
				return err
			}
			explanation := program.Explain(request)
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
	fl.StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
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
