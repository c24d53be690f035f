package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/shadowtap/shadowtap/pkg/rules"
)

func newValidate() *cobra.Command {
	var files []string
	var output string
	var meant meaning
	cmd := &cobra.Command{
		Use:   "validate -f FILE...",
		Short: "Report every problem of the rules in one run",
		Long: `Reads rules as 'run' does and reports every problem, each with its file, line,
object, field, value and what is expected. Exits with 0 if there is no error,
with 2 if there is one. Warnings do not count as errors.`,
		Example: `  shadowtap validate -f rules.yaml
  shadowtap validate -f rules.d/ -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			if len(files) == 0 {
				return fmt.Errorf("nothing to validate: give --file FILE")
			}
			_, problems, err := meant.load(files)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if output == "json" {
				if problems == nil {
					problems = rules.Problems{}
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
				return fmt.Errorf("the rules have errors")
			}
			if output != "json" {
				fmt.Fprintln(out, "ok")
			}
			return nil
		},
	}
	cmd.Flags().StringArrayVarP(&files, "file", "f", nil, "rules file or directory (repeatable)")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	meant.flags(cmd.Flags())
	return cmd
}

func checkOutput(output string) error {
	if output != "text" && output != "json" {
		return fmt.Errorf("--output %q: expected text or json", output)
	}
	return nil
}
