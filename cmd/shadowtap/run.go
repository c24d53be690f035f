package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/shadowtap/shadowtap/pkg/agent"
	"github.com/shadowtap/shadowtap/pkg/capture/attach"
)

// runFlags are the flags whose types differ from those of agent.Config.
type runFlags struct {
	cfg                            agent.Config
	to, attach, output             string
	maxBody, maxHead, memory, ring size
	rate, compareBody              size
	account, report                string
	logLevel, logFormat            string
	user                           string
	meant                          meaning
	log                            *logWriter
}

func newRun() *cobra.Command {
	f := runFlags{cfg: agent.DefaultConfig()}
	f.maxBody, f.maxHead, f.memory = size(f.cfg.MaxBody), size(f.cfg.MaxHead), size(f.cfg.MemoryLimit)
	cmd := &cobra.Command{
		Use:   "run -f FILE... | --port PORT --to URL | --kube",
		Short: "Capture and mirror until stopped",
		Long: `Captures the requests that arrive at the endpoints of routes that carry a
mirror, and sends copies where the rules say. What to capture comes from the
rules; where to attach is found out, unless --interface narrows it.

Stops on SIGINT or SIGTERM: detaches, lets what was captured run through and
writes the final account. SIGHUP, or a change of a rules file, reloads.
With --takeover it replaces an agent that runs, which then stops as well, or
stays idle for as long as its --linger says.

With --kube the rules are those of the cluster, followed as they change, and
what arrives at the Pods of --node is captured. An object that is wrong is left
out and reported; the others stay in use.`,
		Example: `  # what the rules say, on whatever interface it arrives
  sudo shadowtap run -f rules.yaml

  # a quarter of what arrives on port 8000 of this host
  sudo shadowtap run --port 8000 --to http://10.99.1.2:80 --percent 25

  # what the rules of the cluster say, for the Pods of this node
  sudo shadowtap run --kube --kubeconfig ~/.kube/config --node "$(hostname)"

  # look before you leap: print what would be sent, send nothing
  sudo shadowtap run -f rules.yaml --dry-run -o text

  # the same from a capture file, without root
  shadowtap run -f rules.yaml --pcap traffic.pcapng --dry-run

  # compare what the shadow answers with what production did: shadowtap report
  sudo shadowtap run -f rules.yaml --compare`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	fl, c := cmd.Flags(), &f.cfg
	fl.StringArrayVarP(&c.Files, "file", "f", nil, "rules file or directory of *.yaml, *.yml and *.json (repeatable)")
	fl.Uint16Var(&c.Port, "port", 0, "instead of rules: capture this port of this host's addresses")
	fl.StringVar(&f.to, "to", "", "instead of rules: mirror to this URL, http://HOST[:PORT] or https://HOST[:PORT]")
	fl.Float64Var(&c.Percent, "percent", c.Percent, "with --port: percentage of requests to mirror")
	f.meant.flags(fl)
	fl.BoolVar(&c.Kube, "kube", false, "take the rules from the API server; on in a Pod where neither --file nor --port is given")
	fl.StringVar(&c.Kubeconfig, "kubeconfig", "", "with --kube: how to reach the API server; empty is the service account of the Pod, else what kubectl uses")
	fl.StringVar(&c.Node, "node", "", "with --kube: name of this node, whose Pods are captured; empty is $NODE_NAME, or else any Pod's packets that come by")
	fl.BoolVar(&c.GatewayStatus, "gateway-status", false, "with --kube: write the status of GatewayClasses of the controller shadowtap.dev/mirror, of their Gateways and of the routes attached to these")
	fl.StringArrayVarP(&c.Interfaces, "interface", "i", nil, "capture only on interfaces of this name or glob (repeatable)")
	fl.StringArrayVar(&c.NetNS, "netns", nil, "capture also in the network namespaces of these files, a path or a quoted glob: /run/netns/* or /proc/PID/ns/net (repeatable); with --kube and --node: /run/netns/*")
	fl.StringVar(&c.NetNSProc, "netns-proc", "", "capture also in the network namespaces of the processes in this procfs: the host's /proc")
	fl.StringVar(&f.attach, "attach", "auto", "how to attach: auto, tcx (Linux 6.6 and later) or clsact")
	fl.Uint16Var(&c.Priority, "tc-priority", 0, "priority of the filter where clsact is used; 0 chooses a free one")
	fl.Var(&f.ring, "ring-size", "size of each ring buffer, a power of two; 0 chooses")
	fl.Var(&f.rate, "max-capture-rate", "copy at most this many bytes per second out of the kernel; 0 is no bound")
	fl.BoolVar(&c.Takeover, "takeover", false, "take over from the agent of the same --agent-name here, if one runs, without losing or repeating a request")
	fl.StringVar(&c.TakeoverDir, "takeover-dir", "", "directory in which agents that take over from each other meet, whatever their names and network namespaces")
	fl.DurationVar(&c.Linger, "linger", 0, "once another agent has taken over: stay for up to this long, not ready, until stopped or that one is gone, as Kubernetes wants of a pod")
	fl.StringVar(&c.PCAP, "pcap", "", "read this pcap or pcapng file instead of live traffic")
	fl.BoolVar(&c.DryRun, "dry-run", false, "send nothing; print each request that would be mirrored")
	fl.StringVarP(&f.output, "output", "o", "", "print each mirrored request: json (one per line) or text; --dry-run defaults to json")
	fl.StringVar(&f.account, "account", "", "write the final account as JSON to this file, also after a failure; - for standard output")
	compareFlags(fl, &f)
	fl.StringVar(&c.Admin, "admin", c.Admin, "address of the admin API: /metrics, /healthz, /readyz, /api/v1; empty for none")
	fl.StringVar(&c.Metrics, "metrics", "", "address of another listener for /metrics, /healthz and /readyz alone, open to whoever reaches it")
	fl.StringVar(&c.AdminTokenFile, "admin-token-file", "", "file with the bearer token that the admin API wants, except for /healthz and /readyz")
	fl.StringVar(&c.AdminCert, "admin-cert", "", "PEM certificate with which the admin API speaks TLS")
	fl.StringVar(&c.AdminKey, "admin-key", "", "PEM key of --admin-cert")
	fl.BoolVar(&c.AdminInsecure, "admin-insecure", false, "let --admin be another address than a loopback one without token and TLS")
	fl.BoolVar(&c.Pprof, "pprof", false, "serve /debug/pprof/ on the admin address")
	fl.StringVar(&c.Name, "agent-name", c.Name, "name in the "+agent.GuardHeader+" header that marks copies")
	fl.Var(&f.maxBody, "max-body", "largest request content; larger requests are dropped and counted")
	fl.Var(&f.maxHead, "max-header", "largest request head; larger requests are dropped and counted")
	fl.Var(&f.memory, "memory-limit", "bound of the agent's memory")
	fl.IntVar(&c.Queue, "queue", c.Queue, "copies that may wait for each mirror")
	fl.IntVar(&c.InFlight, "in-flight", c.InFlight, "copies that may be in flight to each mirror")
	fl.DurationVar(&c.Timeout, "timeout", c.Timeout, "time for one copy, from connecting to the end of its response")
	fl.DurationVar(&c.ConnectTimeout, "connect-timeout", c.ConnectTimeout, "time for connecting; 0 is the default")
	fl.IntVar(&c.MaxFailures, "max-failures", c.MaxFailures, "copies in a row without an answer after which an endpoint of a mirror is left alone, but for trials")
	fl.DurationVar(&c.MaxBackoff, "max-backoff", c.MaxBackoff, "longest time between such trials; the first comes after 50ms")
	fl.DurationVar(&c.DrainTimeout, "drain-timeout", c.DrainTimeout, "how long a stop waits for copies under way")
	fl.StringVar(&c.TLSCAFile, "tls-ca", "", "PEM file of the CAs that https mirrors are verified against")
	fl.BoolVar(&c.TLSSkipVerify, "tls-skip-verify", false, "do not verify the certificates of https mirrors")
	fl.StringVar(&f.user, "user", "", "become this user, UID or UID:GID, once the rules are loaded; only the capabilities for capturing are kept")
	fl.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	fl.StringVar(&f.logFormat, "log-format", "text", "text or json")
	return cmd
}

func (f *runFlags) run(cmd *cobra.Command) error {
	if err := f.complete(cmd); err != nil {
		return err
	}
	defer f.log.close(time.Second)
	a, err := agent.New(f.cfg)
	if err != nil {
		return err
	}
	account, err := openFinal("account", f.account, 0o644, cmd.OutOrStdout())
	if err != nil {
		return err
	}
	report, err := openReport(f.report, cmd.OutOrStdout(), a.TakesOver())
	if err != nil {
		return err
	}
	if err := confine(a.Needs(), f.user, f.cfg.Logger); err != nil {
		return err // nothing is attached yet, and the rest goes with the process
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	go func() {
		for {
			select {
			case <-hup:
				a.Reload()
			case <-ctx.Done():
				return
			}
		}
	}()
	// Whoever wants the account wants it most when something has failed.
	err = a.Run(ctx)
	return errors.Join(err, f.writeAccount(account, a), report.write(a.Report()))
}

// complete fills in the fields of the configuration whose flags are of
// another type.
func (f *runFlags) complete(cmd *cobra.Command) error {
	c := &f.cfg
	c.MaxBody, c.MaxHead, c.MemoryLimit = int64(f.maxBody), int(f.maxHead), int64(f.memory)
	c.CompareBody = int64(f.compareBody)
	if f.report != "" && !c.Compare {
		return errors.New("--report is for --compare")
	}
	c.RingBytes, c.MaxCaptureRate = int(f.ring), uint64(f.rate)
	c.Output, c.Stdout, c.Version = agent.Format(f.output), cmd.OutOrStdout(), version
	var err error
	if c.Rules, err = f.meant.options(); err != nil {
		return err
	}
	if c.Attach, err = attach.ParseMode(f.attach); err != nil {
		return fmt.Errorf("--attach: %w", err)
	}
	if f.to != "" {
		if c.To, err = url.Parse(f.to); err != nil {
			return fmt.Errorf("--to: %w", err)
		}
	}
	if !c.Kube && len(c.Files) == 0 && c.Port == 0 && c.To == nil && c.PCAP == "" {
		c.Kube = agent.InPod()
	}
	if c.Kube && c.Node == "" {
		c.Node = os.Getenv("NODE_NAME")
	}
	direct, err := newLogger(cmd.ErrOrStderr(), f.logLevel, f.logFormat)
	if err != nil {
		return err
	}
	f.log = newLogWriter(cmd.ErrOrStderr(), func(lines int) {
		direct.Warn("the log was stalled, lines are lost", "lines", lines)
	})
	c.Logger, err = newLogger(f.log, f.logLevel, f.logFormat)
	return err
}

// openFinal opens where something goes in the end, nil if nowhere: it may be a
// place that only the privileges of the start can write to.
func openFinal(flag, name string, mode os.FileMode, stdout io.Writer) (io.WriteCloser, error) {
	switch name {
	case "":
		return nil, nil
	case "-":
		return unclosed{stdout}, nil
	}
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return nil, fmt.Errorf("--%s: %w", flag, err)
	}
	return finalFile{file}, nil
}

// finalFile is a file that an agent which this one takes over from may write to
// meanwhile.
type finalFile struct{ *os.File }

// Write writes p in the place of whatever is in the file.
func (f finalFile) Write(p []byte) (int, error) {
	_ = f.Truncate(0) // which a pipe or a terminal refuses, and does not need
	return f.File.Write(p)
}

// unclosed is a writer that is somebody else's to close.
type unclosed struct{ io.Writer }

func (unclosed) Close() error { return nil }

func (f *runFlags) writeAccount(to io.WriteCloser, a *agent.Agent) error {
	account, err := a.Account()
	if err != nil {
		return err
	}
	r, s := account.Requests, account.Shadow
	f.cfg.Logger.Info("final account", "seen", r.Seen, "mirrored", r.Mirrored, "filtered", r.Filtered,
		"sampled_out", r.SampledOut, "looped", r.Looped, "dropped", r.Dropped,
		"sent", s.Sent, "answered", s.Answered, "failed", s.Failed)
	return writeFinal(to, account)
}

// writeFinal writes v as JSON, unless to is nil.
func writeFinal(to io.WriteCloser, v any) error {
	if to == nil {
		return nil
	}
	out, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = to.Write(append(out, '\n'))
	return errors.Join(err, to.Close())
}

func newLogger(w io.Writer, level, format string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level %q: expected debug, info, warn or error", level)
	}
	o := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, o)), nil
	}
	return nil, fmt.Errorf("--log-format %q: expected text or json", format)
}
