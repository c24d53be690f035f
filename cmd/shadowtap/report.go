package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/spf13/cobra"

	"github.com/shadowtap/shadowtap/pkg/compare"
	"github.com/shadowtap/shadowtap/pkg/fleet"
)

// reportFlags say which agents to ask, what a shadow may do, and how to print
// what they found.
type reportFlags struct {
	agentFlags
	limits compare.Limits
	files  []string
	output string
}

func newReport() *cobra.Command {
	f := reportFlags{limits: compare.DefaultLimits()}
	cmd := &cobra.Command{
		Use:   "report",
		Short: "Say whether the shadows answered as production did",
		Long: `Asks each agent that runs with --compare what it found, or reads what run --report
wrote, adds it up, and says of each shadow whether it is safe: whether it answers
as production does.

A verdict is only given where it is proven with 95 % confidence:

  safe     exit code 0  no more answers differ, and no more copies fail, than may
  unsafe   exit code 1  more do, in all or in one route
  unknown  exit code 1  neither is shown: there are too few pairs, too many could
                        not be compared, or an agent did not answer

Exit code 2 is an error. What differs because production does not repeat itself
there is noise and does not count.`,
		Example: `  # the agent of this host
  shadowtap report

  # every agent of the cluster that kubectl talks to, for a pull request
  shadowtap report --kube -o markdown

  # what a run on a capture file found
  shadowtap run -f rules.yaml --pcap traffic.pcapng --compare --report report.json
  shadowtap report --file report.json

  # for CI: at least 2000 pairs, and not one may differ
  shadowtap report --min-pairs 2000 --max-different 0 -o junit > report.xml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	fl := cmd.Flags()
	f.register(fl)
	fl.StringArrayVarP(&f.files, "file", "f", nil, "`FILE` that run --report wrote, instead of asking an agent (repeatable)")
	fl.Uint64Var(&f.limits.MinPairs, "min-pairs", f.limits.MinPairs, "`NUMBER` of pairs that production must have answered for a shadow to be called safe")
	fl.Float64Var(&f.limits.MaxDifferent, "max-different", f.limits.MaxDifferent, "`SHARE` of the answers that may differ, 0 to 1")
	fl.Float64Var(&f.limits.MaxFailed, "max-failed", f.limits.MaxFailed, "`SHARE` of the copies that may get no answer, 0 to 1")
	fl.Float64Var(&f.limits.MaxMissed, "max-missed", f.limits.MaxMissed, "`SHARE` of the pairs that may be missed, that is not have been compared, 0 to 1")
	fl.Float64Var(&f.limits.MaxLatencyRatio, "max-latency-ratio", f.limits.MaxLatencyRatio, "how many times as long as production a shadow may take, each at p50, p95 and p99; 0 is no limit")
	fl.StringVarP(&f.output, "output", "o", "text", "text, json, junit or markdown")
	return cmd
}

func (f *reportFlags) run(cmd *cobra.Command) error {
	write, ok := map[string]func(*fleet.Comparison, io.Writer) error{
		"text":     (*fleet.Comparison).WriteText,
		"json":     writeIndented,
		"junit":    func(c *fleet.Comparison, w io.Writer) error { return c.WriteJUnit(w) },
		"markdown": func(c *fleet.Comparison, w io.Writer) error { return c.WriteMarkdown(w) },
	}[f.output]
	if !ok {
		return fmt.Errorf("--output %q: expected text, json, junit or markdown", f.output)
	}
	if err := f.check(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), f.timeout)
	defer cancel()
	agents, client, err := f.sources(ctx, cmd)
	if err != nil {
		return err
	}
	c := fleet.Compare(ctx, client, agents, f.limits)
	if err := write(c, cmd.OutOrStdout()); err != nil {
		return err
	}
	if c.Verdict != compare.Safe {
		return negativeAnswer{fmt.Sprintf("the verdict is %s", c.Verdict)}
	}
	return nil
}

// sources returns the reports to read: the files that were given, and the agents
// if there are no files or agents were asked for as well.
func (f *reportFlags) sources(ctx context.Context, cmd *cobra.Command) (all []fleet.Agent, client *http.Client, err error) {
	if len(f.files) == 0 || f.kube || cmd.Flags().Changed("agent") {
		if all, client, err = f.find(ctx); err != nil {
			return nil, nil, err
		}
	}
	for _, name := range f.files {
		if _, err := os.Stat(name); err != nil {
			return nil, nil, fmt.Errorf("--file: %w", err)
		}
		all = append(all, fleet.Agent{Name: name, File: name})
	}
	return all, client, nil
}

// check refuses limits that are no shares and no ratio, NaN among them.
func (f *reportFlags) check() error {
	for _, l := range []struct {
		name  string
		share float64
	}{{"max-different", f.limits.MaxDifferent}, {"max-failed", f.limits.MaxFailed}, {"max-missed", f.limits.MaxMissed}} {
		if !(l.share >= 0 && l.share <= 1) {
			return fmt.Errorf("--%s %g: expected a share of 0 to 1", l.name, l.share)
		}
	}
	if !(f.limits.MaxLatencyRatio >= 0) {
		return fmt.Errorf("--max-latency-ratio %g: expected 0 or more", f.limits.MaxLatencyRatio)
	}
	return nil
}

func writeIndented(c *fleet.Comparison, w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(c)
}
