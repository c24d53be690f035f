package agent

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/shadowtap/shadowtap/pkg/capture/attach"
	"github.com/shadowtap/shadowtap/pkg/compare"
	"github.com/shadowtap/shadowtap/pkg/httpstream"
	"github.com/shadowtap/shadowtap/pkg/rules"
)

// Format is how mirrored requests are printed.
type Format string

// The formats.
const (
	NoOutput   Format = ""     // nothing is printed
	JSONOutput Format = "json" // a rules.Record in each line
	TextOutput Format = "text" // for people, see rules.Record.WriteText
)

// Config is everything a run of the agent can be told. It is made by
// DefaultConfig and changed from there: where that has a default, a zero value
// is none, and most are refused by Validate.
type Config struct {
	// Name identifies this agent in the loop guard header of every copy.
	Name string

	// Files are rules files and directories (see rules/file.Read); or Port and
	// To, with Percent from 0 to 100, are the one-line form (see
	// rules.PortMirror); or Kube is set. Exactly one of them is given.
	Files   []string
	Port    uint16
	To      *url.URL
	Percent float64
	// Kube takes the rules from the API server of Kubernetes. Kubeconfig says
	// how to reach it; empty is the service account of the Pod. Node is the
	// name of this node: only requests that arrive at its Pods are captured.
	// Without it, those of all Pods that come by are.
	Kube       bool
	Kubeconfig string
	Node       string
	// GatewayStatus, with Kube, writes the status of the Gateways of
	// kube.ControllerName and of the routes that name them.
	GatewayStatus bool
	// Rules are the options that the rules are compiled with.
	Rules rules.Options

	// Interfaces narrows live capture on this host, not in other network
	// namespaces, to interfaces by name or glob.
	Interfaces []string
	// NetNS are the files of network namespaces, as globs, in which is captured
	// too: what goes to their addresses. NetNSProc is where the host's
	// processes are found (/proc), in whose namespaces is captured too; empty
	// is nowhere. See netns.Options. Without either, with Kube and Node, NetNS
	// is netns.DefaultFiles.
	NetNS     []string
	NetNSProc string
	// Attach chooses the hook: tcx, clsact, or what the kernel has.
	Attach attach.Mode
	// Priority is the priority of the filter where clsact is used; 0 takes a
	// free one.
	Priority uint16
	// RingBytes is the size of each ring buffer, in bytes, a power of two; 0
	// leaves it to capture.Config.
	RingBytes int
	// MaxCaptureRate bounds the bytes per second that are copied out of the
	// kernel, at least 64 KiB; 0 is no bound.
	MaxCaptureRate uint64
	// Takeover takes over from the agent of the same Name in this network
	// namespace, if there is one: every request is mirrored by one of them.
	Takeover bool
	// TakeoverDir is a directory of the host in which agents that take over
	// from each other meet instead, whatever their names and namespaces. Only
	// root, or the user that all of them are started by, may write to it.
	TakeoverDir string
	// Linger is how long Run stays when another agent has taken over: until it
	// is told to stop, or that one is gone, but no longer. Its listeners stay
	// open, and it is not ready. 0: it returns at once.
	Linger time.Duration
	// PCAP is a capture file to read instead of live traffic.
	PCAP string

	// DryRun sends nothing. Output prints each mirrored request to Stdout: in
	// the background, so that an output that stalls costs records and nothing
	// else, unless the requests are from a file.
	DryRun bool
	Output Format
	Stdout io.Writer

	// Compare compares what the shadow answers with what production did.
	// CompareBody is how many bytes of the content of an answer are kept for
	// that, on either side, CompareOptions what counts as a difference.
	Compare        bool
	CompareBody    int64
	CompareOptions compare.Options

	// Admin is the address of the admin listener, host:port, "" for none. Pprof
	// adds /debug/pprof/ to it.
	Admin string
	// Metrics is the address of a listener of its own for /metrics, /healthz and
	// /readyz, which anybody who reaches it may read; "" for none.
	Metrics string
	// AdminTokenFile holds the bearer token that the admin API wants, AdminCert
	// and AdminKey are PEM files with which it speaks TLS. All are read again
	// when they change. Without them Admin has to be a loopback address, unless
	// AdminInsecure is set.
	AdminTokenFile, AdminCert, AdminKey string
	AdminInsecure                       bool
	Pprof                               bool

	// MaxBody and MaxHead bound a request, in bytes; see httpstream.Config.
	MaxBody int64
	MaxHead int
	// MemoryLimit bounds the agent's memory, in bytes, at least 16 MiB; half of
	// it may be traffic.
	MemoryLimit int64
	// Queue, InFlight, Timeout and ConnectTimeout bound each mirror; see
	// replay.Config.
	Queue, InFlight         int
	Timeout, ConnectTimeout time.Duration
	// MaxFailures and MaxBackoff are when an endpoint of a mirror is left alone
	// and for how long; see replay.Config.
	MaxFailures int
	MaxBackoff  time.Duration
	// TLSCAFile and TLSSkipVerify say how https mirrors are verified.
	TLSCAFile     string
	TLSSkipVerify bool
	// DrainTimeout bounds how long a stop waits for copies that are queued or
	// in flight.
	DrainTimeout time.Duration

	// Version is the version of the program, for metrics and /api/v1/status.
	Version string
	// Logger is told what happens; it must not be nil, nor wait for its output.
	Logger *slog.Logger
}

// DefaultConfig returns the defaults of the command line.
func DefaultConfig() Config {
	name, err := os.Hostname()
	if err != nil || !validName(name) {
		name = "agent"
	}
	return Config{
		Name:         name,
		Percent:      100,
		Admin:        "127.0.0.1:9901",
		MaxBody:      10 << 20,
		MaxHead:      128 << 10,
		MemoryLimit:  256 << 20,
		Queue:        4096,
		CompareBody:  64 << 10,
		InFlight:     128,
		Timeout:      15 * time.Second,
		MaxFailures:  5,
		MaxBackoff:   time.Second,
		DrainTimeout: 5 * time.Second,
		Stdout:       os.Stdout,
		Logger:       slog.Default(),
	}
}

// Validate reports everything that is wrong with c, each named by its flag.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch {
	case c.Kube && (len(c.Files) > 0 || c.Port != 0 || c.To != nil || c.PCAP != ""):
		bad("--kube excludes --file, --port/--to and --pcap")
	case c.Kube:
	case c.Kubeconfig != "" || c.Node != "" || c.GatewayStatus:
		bad("--kubeconfig, --node and --gateway-status are for --kube")
	case len(c.Files) > 0 && (c.Port != 0 || c.To != nil):
		bad("--file and --port/--to exclude each other")
	case len(c.Files) == 0 && c.Port == 0 && c.To == nil:
		bad("nothing to mirror: give --file FILE, or --port PORT and --to URL, or --kube")
	case len(c.Files) == 0 && (c.Port == 0 || c.To == nil):
		bad("--port and --to go together")
	}
	if !(c.Percent >= 0 && c.Percent <= 100) {
		bad("--percent %v: expected a number from 0 to 100", c.Percent)
	}
	if c.PCAP != "" && len(c.Interfaces) > 0 {
		bad("--pcap and --interface exclude each other")
	}
	if c.Takeover && (c.PCAP != "" || c.DryRun) {
		bad("--takeover excludes --pcap and --dry-run")
	}
	if c.TakeoverDir != "" && (!filepath.IsAbs(c.TakeoverDir) || len(c.TakeoverDir) > maxTakeoverDir) {
		bad("--takeover-dir %q: expected an absolute path of at most %d bytes", c.TakeoverDir, maxTakeoverDir)
	}
	if c.Compare && c.DryRun {
		bad("--compare and --dry-run exclude each other: nothing is sent, so nothing is answered")
	}
	if c.PCAP != "" && c.inPods() {
		bad("--pcap excludes --netns and --netns-proc")
	}
	if (c.AdminCert == "") != (c.AdminKey == "") {
		bad("--admin-cert and --admin-key go together")
	}
	if c.Admin == "" {
		if c.AdminTokenFile != "" || c.AdminCert != "" {
			bad("--admin-token-file and --admin-cert are for --admin")
		}
	} else if !onLoopback(c.Admin) && !c.AdminInsecure && (c.AdminTokenFile == "" || c.AdminCert == "") {
		bad("--admin %s can be reached from other hosts: give --admin-token-file, --admin-cert and --admin-key, or --admin-insecure", c.Admin)
	}
	switch c.Output {
	case NoOutput, JSONOutput, TextOutput:
	default:
		bad("--output %q: expected json or text", c.Output)
	}
	if !validName(c.Name) {
		bad("--agent-name %q: expected letters, digits, '-', '.' and '_'", c.Name)
	}
	for _, f := range []struct {
		flag  string
		value int64
		least int64
		most  int64 // 0 is no bound
	}{
		{"max-body", c.MaxBody, 1, httpstream.LargestBody},
		{"max-header", int64(c.MaxHead), 256, httpstream.LargestHead},
		{"memory-limit", c.MemoryLimit, 16 << 20, 0},
		{"compare-body", c.CompareBody, 0, 0},
		{"queue", int64(c.Queue), 1, 0},
		{"in-flight", int64(c.InFlight), 1, 0},
		{"timeout", int64(c.Timeout), 1, 0},
		{"max-failures", int64(c.MaxFailures), 1, 0},
		{"max-backoff", int64(c.MaxBackoff), 1, 0},
		{"drain-timeout", int64(c.DrainTimeout), 0, 0},
		{"linger", int64(c.Linger), 0, 0},
	} {
		if f.value < f.least {
			bad("--%s %d: expected at least %d", f.flag, f.value, f.least)
		}
		if f.most > 0 && f.value > f.most {
			bad("--%s %d: expected at most %d", f.flag, f.value, f.most)
		}
	}
	return errors.Join(errs...)
}

// maxTakeoverDir leaves room for a file's name in the address of a socket, which
// has 108 bytes (unix(7)).
const maxTakeoverDir = 90

// inPods reports whether other network namespaces are captured in.
func (c Config) inPods() bool { return len(c.NetNS) > 0 || c.NetNSProc != "" }

// validName keeps the agent's name harmless inside a header field.
func validName(s string) bool {
	return s != "" && len(s) <= 253 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._") == ""
}
