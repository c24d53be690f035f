package main

import (
	"errors"
	"fmt"
	"net/url"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/shadowtap/shadowtap/pkg/agent"
)

// runFlags are the flags of run: most are fields of the agent's configuration,
// the others are what only the command needs.
type runFlags struct {
	cfg                 agent.Config
	rules               ruleFlags
	to                  string // cfg.To as text
	account, report     string // files, "-" for standard output
	user                string
	logLevel, logFormat string

	log *logWriter // where cfg.Logger writes
}

func (f *runFlags) register(fl *pflag.FlagSet) {
	f.registerRules(fl)
	f.registerCapture(fl)
	f.registerTakeover(fl)
	f.registerReplay(fl)
	f.registerCompare(fl)
	f.registerAdmin(fl)
	f.registerProcess(fl)
}

// registerRules defines where the rules come from and how they are read.
func (f *runFlags) registerRules(fl *pflag.FlagSet) {
	c := &f.cfg
	fl.StringArrayVarP(&c.Files, "file", "f", nil, "rules `FILE`, or directory of *.yaml, *.yml and *.json (repeatable)")
	fl.Uint16Var(&c.Port, "port", 0, "instead of rules: capture this `PORT` of this host's addresses, or of any address on the interfaces of --interface")
	fl.StringVar(&f.to, "to", "", "instead of rules: mirror to this `URL`, http://HOST[:PORT] or https://HOST[:PORT]")
	fl.Float64Var(&c.Percent, "percent", c.Percent, "with --port: percentage of the requests that are mirrored, 0 to 100")
	fl.BoolVar(&c.Kube, "kube", false, "take the rules from the API server of a cluster; the default in a Pod without --file, --port and --pcap")
	fl.StringVar(&c.Kubeconfig, "kubeconfig", "", "with --kube: `FILE` that says how to reach the API server; default: the service account of the Pod, outside of one what kubectl uses")
	fl.StringVar(&c.Node, "node", "", "with --kube: `NAME` of this node, whose Pods are captured; default $NODE_NAME; without either, every Pod's packets that pass this host")
	fl.BoolVar(&c.GatewayStatus, "gateway-status", false, "with --kube: write the status of GatewayClasses of the controller shadowtap.dev/mirror, of their Gateways and of the routes attached to these")
	f.rules.register(fl)
}

// registerCapture defines what is captured, where and how much of it.
func (f *runFlags) registerCapture(fl *pflag.FlagSet) {
	c := &f.cfg
	fl.StringVar(&c.PCAP, "pcap", "", "read this pcap or pcapng `FILE` instead of live traffic")
	fl.StringArrayVarP(&c.Interfaces, "interface", "i", nil, "capture only on interfaces of this `NAME` or glob (repeatable)")
	fl.StringArrayVar(&c.NetNS, "netns", nil, "capture also inside the network namespaces at this `PATH`, which may be a quoted glob: /run/netns/* or /proc/PID/ns/net (repeatable); default with --kube and --node: /run/netns/*")
	fl.StringVar(&c.NetNSProc, "netns-proc", "", "capture also inside the network namespaces of the processes in this procfs `DIR`: /proc, or where the host's is mounted")
	fl.Var(&c.Attach, "attach", "hook to attach to: tcx (Linux 6.6 and later), clsact, or auto: tcx where the kernel has it")
	fl.Uint16Var(&c.Priority, "tc-priority", 0, "with clsact: `PRIORITY` of the filter; 0 chooses a free one")
	fl.Var(size[int]{&c.RingBytes}, "ring-size", "size of each ring buffer between kernel and agent, a power of two; 0 chooses 4MiB to 16MiB by the number of CPUs")
	fl.Var(size[uint64]{&c.MaxCaptureRate}, "max-capture-rate", "bytes per second that are copied out of the kernel at most; packets beyond are counted as over_budget; 0 is no bound")
	fl.Var(size[int64]{&c.MaxBody}, "max-body", "largest body of a request, in bytes, up to 256MiB; larger requests are dropped and counted")
	fl.Var(size[int]{&c.MaxHead}, "max-header", "largest head of a request, in bytes, up to 16MiB; larger requests are dropped and counted")
	fl.Var(size[int64]{&c.MemoryLimit}, "memory-limit", "bound of the agent's memory, in bytes, the rings of --ring-size not included; what does not fit is dropped and counted")
}

// registerTakeover defines how one agent takes over from another.
func (f *runFlags) registerTakeover(fl *pflag.FlagSet) {
	c := &f.cfg
	fl.BoolVar(&c.Takeover, "takeover", false, "take over from the agent of the same --agent-name here, if one runs, without losing or repeating a request")
	fl.StringVar(&c.TakeoverDir, "takeover-dir", "", "`DIR` in which agents that take over from each other meet, whatever their names and network namespaces")
	fl.DurationVar(&c.Linger, "linger", 0, "after another agent has taken over: stay, idle and not ready, until stopped or that one is gone, but no longer than this; Kubernetes would restart a Pod that ends")
}

// registerReplay defines how copies are sent.
func (f *runFlags) registerReplay(fl *pflag.FlagSet) {
	c := &f.cfg
	fl.BoolVar(&c.DryRun, "dry-run", false, "send nothing; print each request that would be mirrored")
	fl.StringVarP((*string)(&c.Output), "output", "o", "", "print each mirrored request: json (one per line) or text; --dry-run defaults to json")
	fl.StringVar(&c.Name, "agent-name", c.Name, "`NAME` in the "+agent.GuardHeader+" header that marks copies, and by which --takeover finds the other agent")
	fl.IntVar(&c.Queue, "queue", c.Queue, "copies that may wait for each mirror; more are dropped as queue_full")
	fl.IntVar(&c.InFlight, "in-flight", c.InFlight, "copies that each mirror may be answering at a time, and so connections to it")
	fl.DurationVar(&c.Timeout, "timeout", c.Timeout, "time for one copy, from connecting to the end of its response, unless a rule says another")
	fl.DurationVar(&c.ConnectTimeout, "connect-timeout", c.ConnectTimeout, "time for connecting, TLS handshake included, unless a rule says another; 0 is 10s")
	fl.IntVar(&c.MaxFailures, "max-failures", c.MaxFailures, "copies in a row without an answer after which an endpoint of a mirror gets no more, but for one at a time that tries whether it answers again")
	fl.DurationVar(&c.MaxBackoff, "max-backoff", c.MaxBackoff, "longest time between the tries of --max-failures; the first comes after 50ms, and it doubles")
	fl.DurationVar(&c.DrainTimeout, "drain-timeout", c.DrainTimeout, "how long a stop waits for copies that are queued or in flight")
	fl.StringVar(&c.TLSCAFile, "tls-ca", "", "PEM `FILE` of the CAs that https mirrors are verified against; default: those of the system")
	fl.BoolVar(&c.TLSSkipVerify, "tls-skip-verify", false, "do not verify the certificates of https mirrors")
}

// registerCompare defines what is compared of the answers.
func (f *runFlags) registerCompare(fl *pflag.FlagSet) {
	c, o := &f.cfg, &f.cfg.CompareOptions
	fl.BoolVar(&c.Compare, "compare", false, "compare what the shadow answers with what production did, whose responses are captured for that; see shadowtap report")
	fl.StringVar(&f.report, "report", "", "with --compare: write what was found to this `FILE` at the end, - for standard output; shadowtap report --file judges it")
	fl.Var(size[int64]{&c.CompareBody}, "compare-body", "with --compare: bytes that are kept of the body of each answer; of a longer one the rest is compared by length and digest alone")
	fl.StringArrayVar(&o.IgnoreHeaders, "compare-ignore-header", nil, "with --compare: `NAME` of a header field that may differ, also PREFIX* (repeatable)")
	fl.StringArrayVar(&o.CompareHeaders, "compare-header", nil, "with --compare: `NAME` of a header field that may not differ though it may by default, such as Date (repeatable)")
	fl.StringArrayVar(&o.IgnorePaths, "compare-ignore-path", nil, "with --compare: `PATH` in a JSON body at which values may differ, such as $.meta.took, $.items[].id or $..now (repeatable)")
	fl.StringArrayVar(&o.IgnoreValues, "compare-ignore-value", nil, "with --compare: `RE2` expression; two values that it both matches may differ (repeatable)")
	fl.BoolVar(&o.ShowValues, "compare-show-values", false, "with --compare: show in examples the values that differ, which may be secrets; else their types, lengths and hashes")
}

// registerAdmin defines the listeners of the agent.
func (f *runFlags) registerAdmin(fl *pflag.FlagSet) {
	c := &f.cfg
	fl.StringVar(&c.Admin, "admin", c.Admin, "`ADDRESS` of the admin API: /metrics, /healthz, /readyz, /api/v1; empty for none")
	fl.StringVar(&c.Metrics, "metrics", "", "`ADDRESS` of another listener for /metrics, /healthz and /readyz alone, open to whoever reaches it")
	fl.StringVar(&c.AdminTokenFile, "admin-token-file", "", "`FILE` with the bearer token that the admin API wants, except for /healthz and /readyz")
	fl.StringVar(&c.AdminCert, "admin-cert", "", "PEM `FILE` of the certificate with which the admin API speaks TLS")
	fl.StringVar(&c.AdminKey, "admin-key", "", "PEM `FILE` of the key of --admin-cert")
	fl.BoolVar(&c.AdminInsecure, "admin-insecure", false, "allow an --admin that other hosts can reach without token and TLS")
	fl.BoolVar(&c.Pprof, "pprof", false, "serve /debug/pprof/ on the admin API")
}

// registerProcess defines what the process leaves behind and who it is.
func (f *runFlags) registerProcess(fl *pflag.FlagSet) {
	fl.StringVar(&f.account, "account", "", "write the final account as JSON to this `FILE`, also after a failure; - for standard output")
	fl.StringVar(&f.user, "user", "", "become this user, `UID[:GID]` in numbers, once the rules are loaded, and keep only the capabilities for capturing")
	fl.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	fl.StringVar(&f.logFormat, "log-format", "text", "text or json")
}

// complete sets those fields of the configuration that are not flags as they
// stand, and starts the log.
func (f *runFlags) complete(cmd *cobra.Command) error {
	c := &f.cfg
	if f.report != "" && !c.Compare {
		return errors.New("--report is for --compare")
	}
	c.Stdout, c.Version = cmd.OutOrStdout(), version
	var err error
	if c.Rules, err = f.rules.options(); err != nil {
		return err
	}
	if f.to != "" {
		if c.To, err = url.Parse(f.to); err != nil {
			return fmt.Errorf("--to: %w", err)
		}
		if c.To.Host == "" {
			return fmt.Errorf("--to %q: expected http://HOST[:PORT] or https://HOST[:PORT]", f.to)
		}
	}
	if !c.Kube && len(c.Files) == 0 && c.Port == 0 && c.To == nil && c.PCAP == "" {
		c.Kube = agent.InPod()
	}
	if c.Kube && c.Node == "" {
		c.Node = os.Getenv("NODE_NAME")
	}
	// What the log itself has to say must not wait in its own queue.
	direct, err := newLogger(cmd.ErrOrStderr(), f.logLevel, f.logFormat)
	if err != nil {
		return err
	}
	f.log = newLogWriter(cmd.ErrOrStderr(), func(lines int) {
		direct.Warn("standard error was not read fast enough: lines of the log are lost", "lines", lines)
	})
	c.Logger, err = newLogger(f.log, f.logLevel, f.logFormat)
	return err
}
