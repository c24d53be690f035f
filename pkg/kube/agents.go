package kube

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/streaming/pkg/httpstream"
)

// Agents finds the agents of a cluster and connects to them. It is safe for
// concurrent use.
type Agents struct {
	cfg  *rest.Config
	core *rest.RESTClient
}

// AgentPod is the Pod of an agent; Node is the node it was scheduled to.
type AgentPod struct{ Namespace, Name, Node string }

// NewAgents prepares to connect as Config.Kubeconfig says; nothing is asked of the
// API server yet. version is that of the program.
func NewAgents(kubeconfig, version string) (*Agents, error) {
	cfg, err := restConfig(kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("API server: %w", err)
	}
	cfg = rest.CopyConfig(cfg)
	cfg.UserAgent = userAgent(version)
	c, err := newClients(cfg)
	if err != nil {
		return nil, err
	}
	return &Agents{cfg: cfg, core: c.core}, nil
}

// List returns the running Pods that a label selector selects in a namespace,
// or in all of them if it is empty, by node.
func (a *Agents) List(ctx context.Context, namespace, selector string) ([]AgentPod, error) {
	var list corev1.PodList
	err := a.core.Get().NamespaceIfScoped(namespace, namespace != "").Resource("pods").
		Param("labelSelector", selector).Param("fieldSelector", "status.phase=Running").Do(ctx).Into(&list)
	if err != nil {
		return nil, fmt.Errorf("list the agents: %w", err)
	}
	var pods []AgentPod
	for _, p := range list.Items {
		pods = append(pods, AgentPod{p.Namespace, p.Name, p.Spec.NodeName})
	}
	slices.SortFunc(pods, func(a, b AgentPod) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return pods, nil
}

// Dial connects to a port of a Pod's loopback interface, as kubectl
// port-forward does: through the API server and the kubelet, so that the port
// need not be open to anybody else. It takes the permission to create
// pods/portforward.
func (a *Agents) Dial(ctx context.Context, namespace, name string, port uint16) (net.Conn, error) {
	to := fmt.Sprintf("port %d of Pod %s/%s", port, namespace, name)
	dialer, err := a.dialer(namespace, name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", to, err)
	}
	type dialled struct {
		conn *forwarded
		err  error
	}
	// The dialer knows no context: whoever gives up leaves it to end by itself.
	result := make(chan dialled, 1)
	go func() {
		c, err := forward(dialer, port)
		result <- dialled{c, err}
	}()
	select {
	case r := <-result:
		if r.err != nil {
			return nil, fmt.Errorf("%s: %w", to, r.err)
		}
		return r.conn, nil
	case <-ctx.Done():
		go func() {
			if r := <-result; r.err == nil {
				_ = r.conn.Close()
			}
		}()
		return nil, fmt.Errorf("%s: %w", to, ctx.Err())
	}
}

// dialer speaks SPDY over WebSocket, or plain SPDY where the API server does
// not know that yet (before Kubernetes 1.31).
func (a *Agents) dialer(namespace, name string) (httpstream.Dialer, error) {
	url := a.core.Post().Namespace(namespace).Resource("pods").Name(name).SubResource("portforward").URL()
	transport, upgrader, err := spdy.RoundTripperFor(a.cfg)
	if err != nil {
		return nil, err
	}
	older := spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, http.MethodPost, url)
	newer, err := portforward.NewSPDYOverWebsocketDialerForStreaming(url, a.cfg)
	if err != nil {
		return nil, err
	}
	return portforward.NewFallbackDialerForStreaming(newer, older, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	}), nil
}

// forward opens the two streams of a forwarded connection.
func forward(dialer httpstream.Dialer, port uint16) (*forwarded, error) {
	conn, _, err := dialer.Dial(portforward.PortForwardProtocolV1Name)
	if err != nil {
		return nil, err
	}
	header := http.Header{}
	header.Set(corev1.PortHeader, strconv.Itoa(int(port)))
	header.Set(corev1.PortForwardRequestIDHeader, "0")
	header.Set(corev1.StreamType, corev1.StreamTypeError)
	failure, err := conn.CreateStream(header)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	_ = failure.Close() // nothing is written to it
	header.Set(corev1.StreamType, corev1.StreamTypeData)
	data, err := conn.CreateStream(header)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	f := &forwarded{Stream: data, conn: conn, refused: make(chan error, 1)}
	go func() {
		// The kubelet says here why it could not connect, or nothing.
		why, err := io.ReadAll(io.LimitReader(failure, 4096))
		if len(why) > 0 {
			err = errors.New(string(why))
		}
		f.refused <- err
	}()
	return f, nil
}

// forwarded is a connection that the kubelet carries.
type forwarded struct {
	httpstream.Stream
	conn    httpstream.Connection
	refused chan error
	once    sync.Once
	why     error
}

var _ net.Conn = (*forwarded)(nil)

// Read returns what the Pod sent, or why the kubelet could not connect to it.
func (f *forwarded) Read(p []byte) (int, error) {
	n, err := f.Stream.Read(p)
	if n > 0 || err == nil {
		return n, err
	}
	f.once.Do(func() { f.why = <-f.refused })
	if f.why != nil {
		return 0, f.why
	}
	return 0, err
}

// Close closes the connection.
func (f *forwarded) Close() error {
	_ = f.Stream.Reset()
	return f.conn.Close()
}

// The addresses are not known, and there are no deadlines: contexts end what
// takes too long.
func (f *forwarded) LocalAddr() net.Addr              { return net.TCPAddrFromAddrPort(netip.AddrPort{}) }
func (f *forwarded) RemoteAddr() net.Addr             { return net.TCPAddrFromAddrPort(netip.AddrPort{}) }
func (f *forwarded) SetDeadline(time.Time) error      { return nil }
func (f *forwarded) SetReadDeadline(time.Time) error  { return nil }
func (f *forwarded) SetWriteDeadline(time.Time) error { return nil }
