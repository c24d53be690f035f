package mirror

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
)

// hostNetworkPort is one that nothing else has in the network of a node.
const hostNetworkPort = 8090

// hostNetwork is a v1 that uses the network of its node, behind a Service of
// its own since it listens elsewhere than the others.
var hostNetwork = fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: node-v1, namespace: bookinfo}
spec:
  selector: {matchLabels: {app: node, version: v1}}
  template:
    metadata: {labels: {app: node, version: v1}}
    spec:
      hostNetwork: true
      nodeName: n1
      containers:
      - name: httpbin
        image: %s
        args: [serve, ":%[2]d", ":%[3]d"]
        env: [{name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
        readinessProbe: {tcpSocket: {port: %[2]d}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: node, namespace: bookinfo}
spec:
  selector: {app: node}
  ports: [{name: http, port: %[2]d}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: node, namespace: bookinfo}
spec:
  hosts: [%[4]s]
  http:
  - match: [{uri: {prefix: /httpbin}}]
    rewrite: {uri: /}
    route: [{destination: {host: node}}]
    mirror: {host: httpbin, subset: v2}
`, appImage, hostNetworkPort, hostNetworkPort+1, nodeHost)

// nodeHost is the host that the rule for it is for.
const nodeHost = "node.bookinfo.com"

// testHostNetwork follows requests to a pod that uses the network of its node,
// where they cross several interfaces, and to one that does not: by agents in
// the network of their node, and by agents that find all networks by the nodes'
// processes, as where no directory has files of them.
//
// What pods of the same node send to the Service of the first is left out: its
// address is translated behind the hooks, between the bridge and the node.
func testHostNetwork(t *testing.T, l *ledger, vip string) {
	apply(t, hostNetwork)
	p := eventuallyPods(t, bookinfo, "app=node", 1)[0]
	want := netip.AddrPortFrom(netip.MustParseAddr(p.IP), hostNetworkPort)
	for name, values := range map[string]string{
		"hostnet": "hostNetwork: true",
		"hostpid": "hostPID: true\nnetnsDir: /run/netns/none", // is made, and stays empty
	} {
		install(t, rendered(t, values))
		eventuallyAgents(t, "v1 is captured in the network of its node and in that of its pod", func(a pod, s sample) error {
			v1, err := pods(bookinfo, v1Label)
			if err != nil {
				return err
			}
			namespaces := 0 // that are not the agent's own
			if own := name == "hostnet"; a.Node == p.Node && own != s.Own {
				return fmt.Errorf("the agent on %s captures in its own network: %v", a.Node, s.Own)
			} else if a.Node == p.Node && !own {
				namespaces++
			}
			for _, v := range v1 {
				if v.Node == a.Node {
					namespaces++
				}
			}
			if slices.Contains(s.Targets, want) != (a.Node == p.Node) || s.Namespaces != namespaces {
				return fmt.Errorf("the agent on %s captures %v in %d network namespaces, want %d, and %v on %s", a.Node, s.Targets, s.Namespaces, namespaces, want, p.Node)
			}
			return nil
		})
		for _, r := range []round{
			{name: name + "-v1", urls: []string{fmt.Sprintf("http://%s/httpbin", want)}, host: nodeHost, percent: 100, v1: "node-v1"},
			{name: name + "-pod", urls: []string{vip}, percent: 100},
		} {
			if v := l.play(t, r); v.never != 0 {
				t.Errorf("%s: %v", name, v)
			}
		}
	}
	kubectl(t, "-n", bookinfo, "delete", "deployment/node-v1", "service/node", "virtualservice/node")
}
