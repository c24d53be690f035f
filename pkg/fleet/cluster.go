package fleet

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/shadowtap/shadowtap/pkg/kube"
)

// Cluster says which Pods of a cluster are agents and how to reach them.
type Cluster struct {
	// Kubeconfig says how to reach the API server; see kube.Config.
	Kubeconfig string
	// Namespace is the namespace of the agents' Pods, empty for any, and
	// Selector a label selector as kubectl takes it.
	Namespace, Selector string
	// Port is the port of their admin APIs on the loopback interfaces of their
	// Pods.
	Port uint16
	// Version is the version of this program, for the User-Agent that the log
	// of the API server has.
	Version string
}

// Agents returns the agents of the cluster whose Pods run, by node, and the
// client to ask them with. Connections go through the API server, so what it takes is permission to
// list Pods and to create pods/portforward.
func (c *Cluster) Agents(ctx context.Context) ([]Agent, *http.Client, error) {
	cluster, err := kube.NewAgents(c.Kubeconfig, c.Version)
	if err != nil {
		return nil, nil, err
	}
	pods, err := cluster.List(ctx, c.Namespace, c.Selector)
	if err != nil {
		return nil, nil, err
	}
	var agents []Agent
	for _, p := range pods {
		name := p.Namespace + "/" + p.Name
		if p.Node != "" {
			name = p.Node + ": " + name
		}
		agents = append(agents, Agent{Name: name, URL: "http://" + net.JoinHostPort(p.Name+"."+p.Namespace, strconv.Itoa(int(c.Port)))})
	}
	client := &http.Client{Transport: &http.Transport{
		// The host of a URL is POD.NAMESPACE. A namespace has no dot in it.
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			host, _, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			dot := strings.LastIndexByte(host, '.')
			if dot < 0 {
				return nil, fmt.Errorf("%q: expected POD.NAMESPACE", host)
			}
			return cluster.Dial(ctx, host[dot+1:], host[:dot], c.Port)
		},
		DisableKeepAlives: true,
	}}
	return agents, client, nil
}
