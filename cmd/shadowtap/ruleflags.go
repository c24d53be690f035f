package main

import (
	"fmt"

	"github.com/spf13/pflag"

	"github.com/shadowtap/shadowtap/pkg/rules"
	"github.com/shadowtap/shadowtap/pkg/rules/file"
)

// ruleFlags decide what rules mean. run, explain and validate share them, so that
// what explain says is what run does.
type ruleFlags struct {
	hostSuffix, envoyHeaders, ownNamespace bool
	pathNormalization                      string
}

func (f *ruleFlags) register(fl *pflag.FlagSet) {
	fl.BoolVar(&f.hostSuffix, "host-suffix", false, `append "-shadow" to the host of copies, before the port, as Istio did before 1.28`)
	fl.BoolVar(&f.envoyHeaders, "envoy-headers", false, "add the header fields that Envoy adds to copies: x-envoy-internal, x-forwarded-for, ...")
	fl.BoolVar(&f.ownNamespace, "own-namespace", false, "refuse rules that mirror requests to services of another namespace than the rule's")
	fl.StringVar(&f.pathNormalization, "path-normalization", "BASE",
		"form of paths, as MeshConfig.pathNormalization: BASE, NONE, MERGE_SLASHES or DECODE_AND_MERGE_SLASHES")
}

// options returns what the flags say.
func (f *ruleFlags) options() (rules.Options, error) {
	form, err := rules.ParseNormalization(f.pathNormalization)
	if err != nil {
		return rules.Options{}, fmt.Errorf("--path-normalization %w", err)
	}
	return rules.Options{Normalize: form, HostSuffix: f.hostSuffix, EnvoyHeaders: f.envoyHeaders, OwnNamespace: f.ownNamespace}, nil
}

// compile reads and compiles files. The program is nil if there is an error among
// the problems; err is for the flags alone.
func (f *ruleFlags) compile(files []string) (*rules.Program, rules.Problems, error) {
	options, err := f.options()
	if err != nil {
		return nil, nil, err
	}
	snapshot, problems := file.Read(files)
	program, more := rules.Compile(snapshot, options)
	problems = append(problems, more...)
	if problems.Err() != nil {
		return nil, problems, nil
	}
	return program, problems, nil
}
