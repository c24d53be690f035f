package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/shadowtap/shadowtap/pkg/rules"
)

// validateFlags say which rules to check, and how to print what was found.
type validateFlags struct {
	rules  ruleFlags
	files  []string
	output string
}

func newValidate() *cobra.Command {
	var f validateFlags
	cmd := &cobra.Command{
		Use:   "validate -f FILE...",
		Short: "Report every problem of the rules in one run",
		Long: `Reads rules as 'run' does and reports every problem, each with its file, line,
object, field, value and what is expected. Exits with 0 if there is no error,
with 2 if there is one. Warnings do not count as errors.`,
		Example: `  shadowtap validate -f rules.yaml
  shadowtap validate -f rules.d/ -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd.OutOrStdout()) },
	}
	fl := cmd.Flags()
	fl.StringArrayVarP(&f.files, "file", "f", nil, "rules `FILE`, or directory of *.yaml, *.yml and *.json (repeatable)")
	fl.StringVarP(&f.output, "output", "o", "text", "text or json")
	f.rules.register(fl)
	return cmd
}

func (f *validateFlags) run(out io.Writer) error {
	if err := checkOutput(f.output); err != nil {
		return err
	}
	if len(f.files) == 0 {
		return errors.New("nothing to validate: give --file FILE")
	}
	_, problems, err := f.rules.compile(f.files)
	if err != nil {
		return err
	}
	if f.output == "json" {
		if problems == nil {
			problems = rules.Problems{} // [] and not null, for scripts
		}
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		if err := enc.Encode(problems); err != nil {
			return err
		}
	} else {
		for _, p := range problems {
			fmt.Fprintln(out, p.Error())
		}
	}
	if problems.Err() != nil {
		return errors.New("the rules have errors")
	}
	if f.output != "json" {
		fmt.Fprintln(out, "ok")
	}
	return nil
}

// checkOutput checks --output of the commands that print text or JSON.
func checkOutput(output string) error {
	if output != "text" && output != "json" {
		return fmt.Errorf("--output %q: expected text or json", output)
	}
	return nil
}
