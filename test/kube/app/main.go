// Command app is what runs in the pods of the test cluster: httpbin that keeps
// a record of what it was asked, a client that keeps one of what it was
// answered, and a proxy that ends TLS in front of the first. It is also the echo
// server of the Gateway API's conformance tests, and the pause container of
// every pod.
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	switch {
	case len(args) == 0:
		<-ctx.Done()
		return nil
	case len(args) == 3 && args[0] == "serve":
		return serve(ctx, args[1], args[2])
	case len(args) == 3 && args[0] == "echo":
		return echo(ctx, args[1], args[2])
	case len(args) == 2 && args[0] == "client":
		return (&http.Server{Addr: args[1], Handler: newClient()}).ListenAndServe()
	case len(args) == 3 && args[0] == "tls":
		return endTLS(args[1], args[2])
	}
	return fmt.Errorf("usage: app [serve ADDRESS RECORDS-ADDRESS | echo ADDRESS RECORDS-ADDRESS | client ADDRESS | tls ADDRESS BACKEND]")
}
