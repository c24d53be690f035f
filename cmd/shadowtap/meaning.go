package main

import (
	"fmt"

	"github.com/spf13/pflag"

	"github.com/shadowtap/shadowtap/pkg/rules"
	"github.com/shadowtap/shadowtap/pkg/rules/file"
)

// meaning is the flags that say how rules are meant. run, explain and validate
// share them, so that they agree.
type meaning struct {
	suffix, envoy, own bool
	normalization      string
}

func (m *meaning) flags(fl *pflag.FlagSet) {
	fl.BoolVar(&m.suffix, "host-suffix", false, `append "-shadow" to the host of copies, before the port, as Istio did before 1.28`)
	fl.BoolVar(&m.envoy, "envoy-headers", false, "add the header fields that Envoy adds to copies: x-envoy-internal, x-forwarded-for, ...")
	fl.BoolVar(&m.own, "own-namespace", false, "refuse rules that mirror requests to services of another namespace than the rule's")
	fl.StringVar(&m.normalization, "path-normalization", "BASE",
		"form of paths, as MeshConfig.pathNormalization: BASE, NONE, MERGE_SLASHES or DECODE_AND_MERGE_SLASHES")
}

// options is what the flags say.
func (m *meaning) options() (rules.Options, error) {
	form, err := rules.ParseNormalization(m.normalization)
	if err != nil {
		return rules.Options{}, fmt.Errorf("--path-normalization %w", err)
	}
	return rules.Options{Normalize: form, HostSuffix: m.suffix, EnvoyHeaders: m.envoy, OwnNamespace: m.own}, nil
}

// load reads and compiles files. The program is nil if there is an error among
// the problems.
func (m *meaning) load(files []string) (*rules.Program, rules.Problems, error) {
	options, err := m.options()
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
