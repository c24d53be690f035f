package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/shadowtap/shadowtap/pkg/fleet"
)

// statusFlags say which agents to ask, and how.
type statusFlags struct {
	agents  []string
	kube    bool
	cluster fleet.Cluster
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
	fl := cmd.Flags()
	fl.StringArrayVar(&f.agents, "agent", []string{"http://127.0.0.1:9901"}, "URL of an agent's admin API (repeatable)")
	fl.BoolVar(&f.kube, "kube", false, "ask the agents of a cluster instead")
	fl.StringVar(&f.cluster.Kubeconfig, "kubeconfig", "", "with --kube: how to reach the API server; empty is what kubectl uses")
	fl.StringVarP(&f.cluster.Namespace, "namespace", "n", "", "with --kube: namespace of the agents; empty is any")
	fl.StringVarP(&f.cluster.Selector, "selector", "l", "app.kubernetes.io/name=shadowtap", "with --kube: labels of the agents")
	fl.Uint16Var(&f.cluster.Port, "admin-port", 9901, "with --kube: port of their admin APIs")
	fl.StringVarP(&f.output, "output", "o", "text", "text or json")
	fl.DurationVar(&f.timeout, "timeout", 10*time.Second, "how long to wait for answers")
	fl.StringVar(&f.token, "token-file", "", "with --agent: file with the bearer token of the admin APIs")
	fl.StringVar(&f.ca, "tls-ca", "", "with --agent: PEM file of the CAs that https agents are verified against")
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

// find returns the agents to ask, and the client to ask them with.
func (f *statusFlags) find(ctx context.Context) ([]fleet.Agent, *http.Client, error) {
	if f.kube {
		if f.token != "" || f.ca != "" {
			return nil, nil, errors.New("--token-file and --tls-ca are for --agent")
		}
		f.cluster.Version = version
		agents, client, err := f.cluster.Agents(ctx)
		if err == nil && len(agents) == 0 {
			err = fmt.Errorf("no running Pod has the labels %s (--selector, --namespace)", f.cluster.Selector)
		}
		return agents, client, err
	}
	var agents []fleet.Agent
	for _, s := range f.agents {
		u, err := url.Parse(s)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return nil, nil, fmt.Errorf("--agent %q: expected http://HOST:PORT or https://HOST:PORT", s)
		}
		agents = append(agents, fleet.Agent{Name: u.Host, URL: s})
	}
	client, err := adminClient(f.token, f.ca)
	return agents, client, err
}

func (f *statusFlags) print(cmd *cobra.Command, report *fleet.Report) error {
	if f.output == "text" {
		return report.WriteText(cmd.OutOrStdout())
	}
	enc := json.NewEncoder(cmd.OutOrStdout())
	enc.SetIndent("", "  ")
	return enc.Encode(report)
}
