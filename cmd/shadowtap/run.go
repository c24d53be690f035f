package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/shadowtap/shadowtap/pkg/agent"
)

func newRun() *cobra.Command {
	f := runFlags{cfg: agent.DefaultConfig()}
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
	f.register(cmd.Flags())
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
	report, err := openReport(f.report, cmd.OutOrStdout())
	if err != nil {
		return err
	}
	if err := confine(a.Needs(), f.user, f.cfg.Logger); err != nil {
		return err // nothing is attached yet, and what is open ends with the process
	}
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	defer reloadOnHangup(ctx, a)()
	// Whoever wants the account wants it most when something has failed.
	err = a.Run(ctx)
	return errors.Join(err, f.writeAccount(account, a), writeFinal(report, a.Report()))
}

// reloadOnHangup reloads the rules at each SIGHUP until ctx ends. From when
// stop is called on, SIGHUP ends the process again.
func reloadOnHangup(ctx context.Context, a *agent.Agent) (stop func()) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	go func() {
		for {
			select {
			case <-hangup:
				a.Reload()
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() { signal.Stop(hangup) }
}

// openFinal opens the file of a flag that is written when the agent has ended;
// "-" is standard output, and "" gives nil. It is opened before privileges are
// given up, since it may be where only root can write.
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

// openReport is openFinal for --report: what requests asked for is nobody
// else's to read.
func openReport(name string, stdout io.Writer) (io.WriteCloser, error) {
	return openFinal("report", name, 0o600, stdout)
}

// finalFile replaces what is in a file. After a takeover that may be more than
// what openFinal left: both agents have the file open, and the predecessor
// writes its own account to it.
type finalFile struct{ *os.File }

// Write writes p in the place of whatever is in the file.
func (f finalFile) Write(p []byte) (int, error) {
	_ = f.Truncate(0) // which a pipe or a terminal refuses, and does not need
	return f.File.Write(p)
}

// unclosed makes Close do nothing: standard output is not ours to close.
type unclosed struct{ io.Writer }

func (unclosed) Close() error { return nil }

// writeAccount logs the final account, and writes it to a file if to is not nil.
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

// writeFinal writes v as JSON and closes to, unless that is nil.
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
