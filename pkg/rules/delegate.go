package rules

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	networking "istio.io/api/networking/v1alpha3"
)

// delegate is a VirtualService without hosts, to which others delegate.
type delegate struct {
	src  *VirtualService
	used bool
}

// delegatedRoute is a route of a delegate, merged with the one that delegates.
type delegatedRoute struct {
	src   *VirtualService
	route *networking.HTTPRoute
	at    *field
}

// findDelegates files the VirtualServices without hosts.
func (c *compiler) findDelegates(s *Snapshot) {
	c.delegates = map[string]*delegate{}
	for i := range s.VirtualServices {
		if vs := &s.VirtualServices[i]; len(vs.Spec.Hosts) == 0 && vs.decoded("spec.hosts") {
			c.delegates[vs.Namespace+"/"+vs.Name] = &delegate{src: vs}
		}
	}
}

// strayDelegates reports those to which nothing delegates.
func (c *compiler) strayDelegates() {
	for _, key := range slices.Sorted(maps.Keys(c.delegates)) {
		if d := c.delegates[key]; !d.used {
			c.warnf(&d.src.Meta, (*field)(nil).dot("spec").dot("hosts"), "", "has no effect: there are no hosts, and no VirtualService delegates to it")
		}
	}
}

// delegatedRoutes is what takes the place of a route that delegates (Istio:
// mergeHTTPRoutes). The delegate's routes that no request could match are left
// out.
func (c *compiler) delegatedRoutes(vs *virtualService, in *networking.HTTPRoute, at *field) (out []delegatedRoute) {
	root, f := vs.src, at.dot("delegate")
	if len(in.Route) > 0 || in.Redirect != nil || in.DirectResponse != nil {
		c.errorf(&root.Meta, f, "", "cannot be given together with route, redirect or directResponse")
		return nil
	}
	name, namespace := in.Delegate.Name, cmp.Or(in.Delegate.Namespace, root.Namespace)
	if name == "" {
		c.errorf(&root.Meta, f.dot("name"), "", "is required")
		return nil
	}
	d := c.delegates[namespace+"/"+name]
	switch {
	case d == nil:
		c.errorf(&root.Meta, f, "", "there is no VirtualService %s/%s without hosts", namespace, name)
		return nil
	case !visible(d.src.Spec.ExportTo, namespace, root.Namespace):
		c.errorf(&root.Meta, f, "", "VirtualService %s/%s is not exported to namespace %s", namespace, name, root.Namespace)
		return nil
	}
	d.used = true
	// What is wrong with these must not be found in what they are merged with.
	before := c.errors
	c.quiet = true
	for i, m := range in.Match {
		c.match(vs, &root.Meta, m, at.dot("match").at(i))
	}
	c.quiet = false
	if c.errors > before {
		return nil
	}
	base := resolved(in, root.Namespace)
	for i, leaf := range d.src.Spec.Http {
		f := (*field)(nil).dot("spec").dot("http").at(i)
		if leaf.Delegate != nil {
			c.errorf(&d.src.Meta, f.dot("delegate"), leaf.Delegate.Name, "is not possible: a delegate cannot delegate further")
			continue
		}
		if c.merged[root.Namespace] += mergedSize(base, leaf); c.merged[root.Namespace] > maxMerged {
			c.errorf(&root.Meta, at.dot("delegate"), name, "the delegations of namespace %s come to more than %d MiB of routes: "+
				"every match of a route is joined with every one of its delegate's", root.Namespace, maxMerged>>20)
			return nil
		}
		if !c.chargeMerge(&root.Meta, base, leaf) {
			return nil
		}
		merged := mergeRoute(base, leaf)
		if merged == nil {
			c.warnf(&d.src.Meta, f, leaf.Name, "has no effect: its matches are no part of those of %s, which delegates to it", root.object())
			continue
		}
		src := &VirtualService{Meta: d.src.Meta, Spec: &networking.VirtualService{Gateways: root.Spec.Gateways}, delegated: true}
		src.heir = &heir{&root.Meta, at, inherited(base, leaf)}
		out = append(out, delegatedRoute{src, merged, f})
	}
	return out
}

// heir says which fields of a delegate's route are those of the route that
// delegates to it. What is wrong with these is that one's fault: anybody may
// delegate to somebody else's object, and must not break it by that.
type heir struct {
	root   *Meta
	at     *field // the route of root
	fields map[string]bool
}

// inherited are the fields that leaf takes from root as they are.
func inherited(root, leaf *networking.HTTPRoute) map[string]bool {
	out := map[string]bool{}
	own := leaf.ProtoReflect()
	root.ProtoReflect().Range(func(fd protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		if !own.Has(fd) {
			out[fd.JSONName()] = true
		}
		return true
	})
	return out
}

// author is the object in which what is at f of meta is written, and where.
func (h *heir) author(meta *Meta, f *field) (*Meta, *field) {
	if h == nil {
		return meta, f
	}
	var steps []*field // from the end to spec
	for at := f; at != nil; at = at.parent {
		steps = append(steps, at)
	}
	const route = 3 // spec.http[i]
	if len(steps) <= route || !h.fields[steps[len(steps)-1-route].step] {
		return meta, f
	}
	at := h.at
	for i := len(steps) - 1 - route; i >= 0; i-- {
		at = &field{parent: at, step: steps[i].step, index: steps[i].index}
	}
	return h.root, at
}

// blamed is the object to blame, and where in it, if what is wrong with m is only
// what it comes to together with the one that delegates to it.
func (m *Meta) blamed(f *field) (*Meta, *field) {
	if m.heir == nil {
		return m, f
	}
	return m.heir.root, m.heir.at.dot("delegate")
}

// maxMerged is how large the routes that a namespace makes by delegation may
// become, in bytes of their encoding: two objects of a megabyte multiply to
// terabytes.
const maxMerged = 32 << 20

// mergedSize is about the size of mergeRoute's result.
func mergedSize(root, leaf *networking.HTTPRoute) int {
	const message = 128 // of a match, at least
	return proto.Size(leaf)*(1+len(root.Match)) + (proto.Size(root)+message*len(root.Match))*len(leaf.Match)
}

// resolved is a copy of a route whose names are full, so that it means the
// same in another namespace.
func resolved(in *networking.HTTPRoute, namespace string) *networking.HTTPRoute {
	out := proto.CloneOf(in)
	destinations := []*networking.Destination{out.Mirror}
	for _, m := range out.Mirrors {
		destinations = append(destinations, m.Destination)
	}
	for _, d := range destinations {
		if d != nil {
			d.Host = fullName(d.Host, namespace)
		}
	}
	for _, m := range out.Match {
		for i, g := range m.Gateways {
			m.Gateways[i] = gatewayName(g, namespace)
		}
	}
	return out
}

// mergeRoute is leaf with what it leaves open taken from root, nil if their
// matches have nothing in common (Istio: mergeHTTPRoute). An answer has nothing
// to rewrite: Envoy ignores the rewrite that it would inherit.
func mergeRoute(root, leaf *networking.HTTPRoute) *networking.HTTPRoute {
	matches, ok := mergeMatches(root.Match, leaf.Match)
	if !ok {
		return nil
	}
	out := proto.CloneOf(leaf)
	out.Match, out.Name = matches, joined(root.Name, leaf.Name)
	inherit(&out.DirectResponse, root.DirectResponse)
	if out.Redirect == nil && out.DirectResponse == nil {
		inherit(&out.Rewrite, root.Rewrite)
	}
	inherit(&out.Timeout, root.Timeout)
	inherit(&out.Fault, root.Fault)
	inherit(&out.Mirror, root.Mirror)
	inherit(&out.MirrorPercent, root.MirrorPercent) //nolint:staticcheck // deprecated, but rules have it
	inherit(&out.MirrorPercentage, root.MirrorPercentage)
	inherit(&out.Headers, root.Headers)
	if out.Mirrors == nil {
		out.Mirrors = root.Mirrors
	}
	return out
}

// inherit sets *field to from if it is nil.
func inherit[T any](field **T, from *T) {
	if *field == nil {
		*field = from
	}
}

// joined is the name of something made of two.
func joined(root, leaf string) string {
	if root == "" || leaf == "" {
		return root + leaf
	}
	return root + "-" + leaf
}

// mergeMatches joins every match of leaf with each of root that it fits. ok is
// false if one fits none (Istio: mergeHTTPMatchRequests).
func mergeMatches(root, leaf []*networking.HTTPMatchRequest) (out []*networking.HTTPMatchRequest, ok bool) {
	if len(root) == 0 || len(leaf) == 0 {
		return slices.Concat(root, leaf), true
	}
	for _, l := range leaf {
		fits := false
		for _, r := range root {
			if !conflict(r, l) {
				out, fits = append(out, mergeMatch(r, l)), true
			}
		}
		if !fits {
			return nil, false
		}
	}
	return out, true
}

func mergeMatch(root, leaf *networking.HTTPMatchRequest) *networking.HTTPMatchRequest {
	out := proto.CloneOf(leaf)
	out.Name = joined(root.Name, leaf.Name)
	inherit(&out.Uri, root.Uri)
	inherit(&out.Scheme, root.Scheme)
	inherit(&out.Method, root.Method)
	inherit(&out.Authority, root.Authority)
	out.Headers = united(root.Headers, leaf.Headers)
	out.WithoutHeaders = united(root.WithoutHeaders, leaf.WithoutHeaders)
	out.QueryParams = united(root.QueryParams, leaf.QueryParams)
	out.SourceLabels = united(root.SourceLabels, leaf.SourceLabels)
	out.Port = cmp.Or(leaf.Port, root.Port)
	out.SourceNamespace = cmp.Or(leaf.SourceNamespace, root.SourceNamespace)
	if len(out.Gateways) == 0 {
		out.Gateways = root.Gateways
	}
	return out
}

// united is the entries of both, those of leaf where both have one.
func united[V any](root, leaf map[string]V) map[string]V {
	if len(root) == 0 {
		return leaf
	}
	out := maps.Clone(root)
	maps.Copy(out, leaf)
	return out
}

// conflict reports whether leaf asks for something that root does not allow
// (Istio: hasConflict).
func conflict(root, leaf *networking.HTTPMatchRequest) bool {
	texts := func(a, b map[string]*networking.StringMatch) bool {
		for name, m := range b {
			if textConflict(a[name], m) {
				return true
			}
		}
		return false
	}
	switch {
	case textConflict(root.Uri, leaf.Uri), textConflict(root.Scheme, leaf.Scheme),
		textConflict(root.Method, leaf.Method), textConflict(root.Authority, leaf.Authority),
		texts(root.Headers, leaf.Headers), texts(root.WithoutHeaders, leaf.WithoutHeaders),
		texts(root.QueryParams, leaf.QueryParams),
		root.IgnoreUriCase != leaf.IgnoreUriCase,
		root.Port > 0 && leaf.Port > 0 && root.Port != leaf.Port,
		root.SourceNamespace != "" && leaf.SourceNamespace != root.SourceNamespace:
		return true
	}
	for name, value := range leaf.SourceLabels {
		if v, ok := root.SourceLabels[name]; ok && v != value {
			return true
		}
	}
	if len(root.Gateways) == 0 || len(leaf.Gateways) == 0 {
		return false
	}
	return len(root.Gateways) < len(leaf.Gateways) || slices.ContainsFunc(leaf.Gateways, func(g string) bool {
		return !slices.Contains(root.Gateways, g)
	})
}

// textConflict reports whether leaf is no part of root (Istio:
// stringMatchConflict).
func textConflict(root, leaf *networking.StringMatch) bool {
	switch {
	case root == nil || leaf == nil:
		return false
	case (root.GetRegex() != "" || leaf.GetRegex() != "") && hasText(root) && hasText(leaf):
		return true
	case root.GetExact() != "":
		return leaf.GetPrefix() != "" || leaf.GetExact() != root.GetExact()
	case root.GetPrefix() != "" && leaf.GetPrefix() != "":
		return !strings.HasPrefix(leaf.GetPrefix(), root.GetPrefix())
	case root.GetPrefix() != "" && leaf.GetExact() != "":
		return !strings.HasPrefix(leaf.GetExact(), root.GetPrefix())
	}
	return true
}

func hasText(m *networking.StringMatch) bool {
	return m.GetExact()+m.GetPrefix()+m.GetRegex() != ""
}
