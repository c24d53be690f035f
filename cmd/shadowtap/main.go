// Command shadowtap mirrors live HTTP traffic to the next version of a
// service from beside the request path. See README.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// version is set by the linker.
var version = "dev"

// Exit codes; scripts depend on them.
const (
	exitDone     = 0
	exitNegative = 1 // the answer is no: not matched, something was lost
	exitError    = 2
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is main with its surroundings as arguments.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The first signal asks for an orderly stop, the second does not ask.
	context.AfterFunc(ctx, stop)

	root := newRoot()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	var negative negativeAnswer
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &negative):
		if negative.message != "" {
			fmt.Fprintln(stderr, "shadowtap:", negative.message)
		}
		return exitNegative
	}
	printError(stderr, err)
	return exitError
}

// negativeAnswer is the error of a command that worked and whose answer is no.
type negativeAnswer struct{ message string }

func (n negativeAnswer) Error() string { return n.message }
