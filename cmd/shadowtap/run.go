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
	return errors.Join(err, f.writeAccount(account, a), writeFinal(report, a.Report()))
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

// openReport is openFinal for a report, which may hold secrets.
func openReport(name string, stdout io.Writer) (io.WriteCloser, error) {
	return openFinal("report", name, 0o600, stdout)
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
