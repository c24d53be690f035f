package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/pflag"

	"github.com/shadowtap/shadowtap/pkg/fleet"
)

// agentFlags say which agents to ask, and how to reach them.
type agentFlags struct {
	agents    []string // URLs
	kube      bool
	cluster   fleet.Cluster
	timeout   time.Duration
	tokenFile string
	caFile    string
}

func (f *agentFlags) register(fl *pflag.FlagSet) {
	fl.StringArrayVar(&f.agents, "agent", []string{"http://127.0.0.1:9901"}, "`URL` of an agent's admin API (repeatable)")
	fl.BoolVar(&f.kube, "kube", false, "ask all agents of a cluster, instead of --agent")
	fl.StringVar(&f.cluster.Kubeconfig, "kubeconfig", "", "with --kube: `FILE` that says how to reach the API server; default: what kubectl uses")
	fl.StringVarP(&f.cluster.Namespace, "namespace", "n", "", "with --kube: `NAMESPACE` of the agents; default: any")
	fl.StringVarP(&f.cluster.Selector, "selector", "l", "app.kubernetes.io/name=shadowtap", "with --kube: label `SELECTOR` of the agents' Pods")
	fl.Uint16Var(&f.cluster.Port, "admin-port", 9901, "with --kube: `PORT` of the agents' admin APIs")
	fl.DurationVar(&f.timeout, "timeout", 10*time.Second, "how long to wait for the answers of all agents")
	fl.StringVar(&f.tokenFile, "token-file", "", "with --agent: `FILE` with the bearer token of the admin APIs")
	fl.StringVar(&f.caFile, "tls-ca", "", "with --agent: PEM `FILE` of the CAs that https agents are verified against; default: those of the system")
}

// find returns the agents to ask, and the client to ask them with.
func (f *agentFlags) find(ctx context.Context) ([]fleet.Agent, *http.Client, error) {
	if f.kube {
		if f.tokenFile != "" || f.caFile != "" {
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
	client, err := adminClient(f.tokenFile, f.caFile)
	return agents, client, err
}
