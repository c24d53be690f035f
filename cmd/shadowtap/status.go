package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/shadowtap/shadowtap/pkg/fleet"
)

// statusFlags say which agents to ask, and how to print what they say.
type statusFlags struct {
	agentFlags
	output string
}

func newStatus() *cobra.Command {
	var f statusFlags
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Add up the accounts of running agents",
		Long: `Asks each agent for its account and prints the sum: what became of every packet,
request and copy, per mirror and in all. Exits with 1 if an agent does not
answer or something is not accounted for.

With --kube it asks every agent of a cluster, on the loopback interface of its
Pod, as kubectl port-forward would.`,
		Example: `  # the agent of this host
  shadowtap status

  # every agent of the cluster that kubectl talks to
  shadowtap status --kube

  # several hosts, for a script
  shadowtap status --agent http://10.0.0.1:9901 --agent http://10.0.0.2:9901 -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	f.register(cmd.Flags())
	cmd.Flags().StringVarP(&f.output, "output", "o", "text", "text or json")
	return cmd
}

func (f *statusFlags) run(cmd *cobra.Command) error {
	if err := checkOutput(f.output); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), f.timeout)
	defer cancel()
	agents, client, err := f.find(ctx)
	if err != nil {
		return err
	}
	sum := fleet.Ask(ctx, client, agents)
	if err := f.print(cmd, &sum); err != nil {
		return err
	}
	if n := sum.Failed(); n > 0 {
		return negativeAnswer{fmt.Sprintf("%d of %d agents did not answer", n, len(sum.Agents))}
	}
	if !sum.Balanced() {
		return negativeAnswer{"the account does not add up"}
	}
	return nil
}

func (f *statusFlags) print(cmd *cobra.Command, sum *fleet.Status) error {
	if f.output == "text" {
		return sum.WriteText(cmd.OutOrStdout())
	}
	enc := json.NewEncoder(cmd.OutOrStdout())
	enc.SetIndent("", "  ")
	return enc.Encode(sum)
}
