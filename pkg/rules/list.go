package rules

import (
	"cmp"
	"slices"
)

// Rules lists every route once, by object and place.
func (p *Program) Rules() []Rule {
	seen := map[Rule]bool{}
	rules := []Rule{}
	p.virtualHosts(func(h *virtualHost) {
		for _, rt := range h.routes {
			if !seen[rt.rule] {
				seen[rt.rule] = true
				rules = append(rules, rt.rule)
			}
		}
	})
	slices.SortFunc(rules, func(a, b Rule) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name),
			cmp.Compare(a.Index, b.Index), cmp.Compare(a.Route, b.Route))
	})
	return rules
}
