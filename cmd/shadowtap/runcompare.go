package main

import "github.com/spf13/pflag"

// compareFlags are the flags of run that say what is compared.
func compareFlags(fl *pflag.FlagSet, f *runFlags) {
	c, o := &f.cfg, &f.cfg.CompareOptions
	f.compareBody = size(c.CompareBody)
	fl.StringVar(&f.report, "report", "", "with --compare: write what was found to this file in the end, - for standard output; shadowtap report --file judges it")
	fl.BoolVar(&c.Compare, "compare", false, "compare what the shadow answers with what production did, whose responses are captured for that; see shadowtap report")
	fl.Var(&f.compareBody, "compare-body", "with --compare: bytes of the content of an answer that are kept; of longer ones length and digest are compared, too")
	fl.StringArrayVar(&o.IgnoreHeaders, "compare-ignore-header", nil, "with --compare: name of a header field that may differ, also PREFIX* (repeatable)")
	fl.StringArrayVar(&o.CompareHeaders, "compare-header", nil, "with --compare: name of a header field that may not differ though it may by default, such as Date (repeatable)")
	fl.StringArrayVar(&o.IgnorePaths, "compare-ignore-path", nil, "with --compare: place in JSON content that may differ, such as $.meta.took, $.items[].id or $..now (repeatable)")
	fl.StringArrayVar(&o.IgnoreValues, "compare-ignore-value", nil, "with --compare: RE2 expression; values that both match it may differ (repeatable)")
	fl.BoolVar(&o.ShowValues, "compare-show-values", false, "with --compare: show in examples what differs; it may be a secret of somebody's")
}
