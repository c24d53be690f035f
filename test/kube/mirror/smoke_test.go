package mirror

import (
	"fmt"
	"strings"
	"testing"
)

// TestTraffic shows that the cluster is one: that requests get from pods of
// both nodes to pods of both nodes, directly and through the ClusterIP, with or
// without shadowtap.
func TestTraffic(t *testing.T) {
	needCluster(t)
	deployBookinfo(t)
	v1 := eventuallyPods(t, bookinfo, v1Label, 1)[0]
	vip := clusterIP(t)
	const each = 20
	for _, c := range clientPods(t) {
		for name, url := range map[string]string{
			"direct":    fmt.Sprintf("http://%s:80/httpbin", v1.IP),
			"clusterip": fmt.Sprintf("http://%s:8000/httpbin", vip),
		} {
			must(t, call("POST", clientURL(c, "/start"), load{
				Name: "traffic-" + c.Node + "-" + name, URL: url, Host: "www.bookinfo.com", PerSecond: 50, Limit: each, Close: true,
			}, nil))
		}
		var outcomes []outcome
		must(t, call("POST", clientURL(c, "/finish"), nil, &outcomes))
		if len(outcomes) != 2*each {
			t.Errorf("the client on %s has %d outcomes, want %d", c.Node, len(outcomes), 2*each)
		}
		v2 := 0
		for _, o := range outcomes {
			if o.Status != 200 || o.Error != "" {
				t.Errorf("from %s: %+v", c.Node, o)
			}
			if strings.HasPrefix(o.By, "httpbin-v2") {
				v2++
			}
			if strings.Contains(o.ID, "direct") && o.By != v1.Name {
				t.Errorf("%s was answered by %s, want %s", o.ID, o.By, v1.Name)
			}
		}
		// The Service selects both versions; nothing but a mesh would keep
		// production from v2.
		if v2 == 0 {
			t.Errorf("the ClusterIP never led from %s to v2", c.Node)
		}
	}
}
