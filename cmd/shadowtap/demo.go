package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/shadowtap/shadowtap/pkg/demo"
)

func newDemo() *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "Show the whole product in network namespaces of its own",
		Long: `Starts a v1 and a v2 of a service in network namespaces of its own, captures
v1's traffic with the real TC program, mirrors it to v2 by an Istio
VirtualService, and prints what v2 received and the final account. Needs root,
touches nothing of the host, and takes less than a minute. Exits with 1 if
anything was lost.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := demo.Run(cmd.Context(), demo.Options{Out: cmd.OutOrStdout()})
			if errors.Is(err, demo.ErrLost) {
				return negativeAnswer{err.Error()}
			}
			return err
		},
	}
}
