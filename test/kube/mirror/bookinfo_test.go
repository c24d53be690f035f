package mirror

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

const (
	appImage = "localhost/shadowtap/app:test"
	// bookinfo is the namespace of the example.
	bookinfo = "bookinfo"
	v1Label  = "app=httpbin,version=v1"
	v2Label  = "app=httpbin,version=v2"
)

// Ports of the app beside the one that is captured.
const (
	recordsPort = 8081
	clientPort  = 8082
)

// deployBookinfo applies the example, the definitions it takes, and what the
// test sends with.
func deployBookinfo(t *testing.T) {
	t.Helper()
	defineRules(t)
	apply(t, bookinfoManifests(t))
	apply(t, clients)
	eventuallyPods(t, bookinfo, v1Label, 1)
	eventuallyPods(t, bookinfo, v2Label, 1)
	eventuallyPods(t, bookinfo, "app=client", len(nodes))
}

// bookinfoManifests is the example as it was written, with an httpbin that
// keeps records, and a readiness probe so that a Service waits for it.
func bookinfoManifests(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../testdata/bookinfo.yaml")
	must(t, err)
	replaced := strings.NewReplacer(
		"docker.io/kennethreitz/httpbin", appImage,
		`command: ["gunicorn", "--access-logfile", "-", "-b", "0.0.0.0:80", "httpbin:app"]`,
		fmt.Sprintf(`args: [serve, ":80", ":%d"]
        readinessProbe: {httpGet: {path: /httpbin/status/200, port: 80}, periodSeconds: 1, timeoutSeconds: 10}`, recordsPort),
	).Replace(string(text))
	if strings.Contains(replaced, "gunicorn") || strings.Count(replaced, appImage) != 2 {
		t.Fatalf("the example is not as the test expects it:\n%s", replaced)
	}
	return replaced
}

// clients run on every node.
var clients = fmt.Sprintf(`
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: client, namespace: bookinfo}
spec:
  selector: {matchLabels: {app: client}}
  template:
    metadata: {labels: {app: client}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: client
        image: %s
        args: [client, ":%d"]
        readinessProbe: {tcpSocket: {port: %[2]d}, periodSeconds: 1}
`, appImage, clientPort)

// record, load and outcome are what the app of the same module speaks; see
// test/kube/app.
type record struct {
	ID     string `json:"id"`
	Method string `json:"method"`
	Host   string `json:"host"`
	Target string `json:"target"`
	Copy   bool   `json:"copy"`
}

type load struct {
	Name      string `json:"name"`
	URL       string `json:"url"`
	Host      string `json:"host"`
	PerSecond int    `json:"per_second"`
	Limit     int    `json:"limit"`
	Close     bool   `json:"close"`
}

type outcome struct {
	ID     string    `json:"id"`
	At     time.Time `json:"at"`
	Done   time.Time `json:"done"`
	Status int       `json:"status"`
	By     string    `json:"by"`
	Error  string    `json:"error"`
}

// clusterIP is the address of the example's Service.
func clusterIP(t *testing.T) string {
	t.Helper()
	return kubectl(t, "-n", bookinfo, "get", "service", "httpbin", "-o", "jsonpath={.spec.clusterIP}")
}

// clientPods returns the clients by node.
func clientPods(t *testing.T) map[string]pod {
	t.Helper()
	byNode := map[string]pod{}
	for _, p := range eventuallyPods(t, bookinfo, "app=client", len(nodes)) {
		byNode[p.Node] = p
	}
	return byNode
}

func clientURL(p pod, path string) string {
	return fmt.Sprintf("http://%s:%d%s", p.IP, clientPort, path)
}

// copies returns what v2 has received from agents so far, by id.
func copies(t *testing.T) map[string][]record {
	t.Helper()
	fromAgents := map[string][]record{}
	v2, err := pods(bookinfo, v2Label)
	must(t, err)
	for _, p := range v2 {
		var all []record
		must(t, call("GET", fmt.Sprintf("http://%s:%d/", p.IP, recordsPort), nil, &all))
		for _, r := range all {
			if r.Copy {
				fromAgents[r.ID] = append(fromAgents[r.ID], r)
			}
		}
	}
	return fromAgents
}
