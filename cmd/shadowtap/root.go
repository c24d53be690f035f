package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/shadowtap/shadowtap/pkg/rules"
)

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "shadowtap",
		Short: "Mirror live HTTP traffic to the next version of a service, from beside the request path",
		Long: `shadowtap copies the live HTTP requests of a running service to its next
version without touching either. A TC eBPF program copies packets on their way
to the running version; the agent rebuilds the requests, applies the mirror
rules of VirtualServices and HTTPRoutes, and replays the requests to the shadow.

It is not in the request path: if it stops, stalls or is killed, production
does not notice.

Every flag can be given in the environment: --max-body as SHADOWTAP_MAX_BODY.`,
		Example: `  # see it work, in network namespaces of its own
  sudo shadowtap demo

  # mirror what the rules say
  sudo shadowtap run -f rules.yaml

  # mirror a quarter of what arrives on port 8000
  sudo shadowtap run --port 8000 --to http://10.99.1.2:80 --percent 25

  # what would happen to this request, and why?
  shadowtap explain -f rules.yaml GET http://www.bookinfo.com/httpbin/headers`,
		Version:           version,
		SilenceUsage:      true,
		SilenceErrors:     true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return fromEnvironment(cmd.Flags(), os.LookupEnv) },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w\nSee '%s --help'", err, cmd.CommandPath())
	})
	root.AddCommand(newRun(), newExplain(), newValidate(), newDemo(), newStatus(), newReport(), newVersion())
	return root
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "shadowtap", version)
			return err
		},
	}
}

// fromEnvironment sets each flag that was not given from its SHADOWTAP_ twin.
// Lists are separated by commas.
func fromEnvironment(flags *pflag.FlagSet, lookup func(string) (string, bool)) error {
	var first error
	flags.VisitAll(func(f *pflag.Flag) {
		name := "SHADOWTAP_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value, ok := lookup(name)
		if !ok || f.Changed || first != nil || f.Name == "help" {
			return
		}
		values := []string{value}
		if f.Value.Type() == "stringArray" {
			values = strings.Split(value, ",")
		}
		for _, v := range values {
			if err := flags.Set(f.Name, v); err != nil {
				first = fmt.Errorf("%s: %w", name, err)
			}
		}
	})
	return first
}

// printError prints an error that ends the program; problems of rules get a
// line each.
func printError(w io.Writer, err error) {
	var problems rules.Problems
	if errors.As(err, &problems) {
		for _, p := range problems {
			fmt.Fprintln(w, p.Error())
		}
		return
	}
	fmt.Fprintln(w, "shadowtap:", err)
}
