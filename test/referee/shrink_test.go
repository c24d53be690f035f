package referee

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/shadowtap/shadowtap/test/referee/envoy"
)

// shrink makes a world and a request smaller as long as holds stays true of
// them, by at most so many trials.
func shrink(w *world, r *envoy.Request, trials int, holds func(*world, *envoy.Request) bool) (*world, *envoy.Request) {
	for progress := true; progress; {
		progress = false
		for i := 0; trials > 0; trials-- {
			smaller := smallerRequest(r, i)
			if smaller == nil {
				break
			}
			if holds(w, smaller) {
				r, progress = smaller, true
			} else {
				i++
			}
		}
		for i := 0; trials > 0; trials-- {
			smaller := w.clone()
			if !smaller.remove(i) {
				break
			}
			if holds(smaller, r) {
				w, progress = smaller, true
			} else {
				i++
			}
		}
	}
	return w, r
}

// smallerRequest is the i-th request that is one step smaller, nil if there
// are no more.
func smallerRequest(r *envoy.Request, i int) *envoy.Request {
	out := new(*r)
	out.Fields = slices.Clone(r.Fields)
	if i < len(r.Fields)-1 {
		out.Fields = slices.Delete(out.Fields, i+1, i+2) // Host, which is first, stays
		return out
	}
	i -= len(r.Fields) - 1
	path, query, _ := strings.Cut(r.Target, "?")
	for _, step := range []struct {
		applies bool
		do      func()
	}{
		{r.Method != "GET", func() { out.Method = "GET" }},
		{query != "", func() { out.Target = path }},
		{path != "/", func() { out.Target = "/" + strings.TrimPrefix(r.Target, path) }},
	} {
		if !step.applies {
			continue
		}
		if i == 0 {
			step.do()
			return out
		}
		i--
	}
	if i < len(r.Target) && len(r.Target) > 1 {
		out.Target = r.Target[:i] + r.Target[i+1:]
		return out
	}
	return nil
}

// remove removes the i-th thing of a world that can be removed: a rule, or a
// field, list item or map entry of one.
func (w *world) remove(i int) bool {
	if len(w.rules) > 1 {
		if i < len(w.rules) {
			w.rules = slices.Delete(w.rules, i, i+1)
			return true
		}
		i -= len(w.rules)
	}
	for _, r := range w.rules {
		if removeFrom(r.spec.ProtoReflect(), &i) {
			return true
		}
	}
	return false
}

// removeFrom removes the i-th thing in m, and counts i down by what there is
// if that is less.
func removeFrom(m protoreflect.Message, i *int) bool {
	take := func() bool { *i--; return *i < 0 }
	var set []protoreflect.FieldDescriptor
	m.Range(func(fd protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		set = append(set, fd)
		return true
	})
	slices.SortFunc(set, func(a, b protoreflect.FieldDescriptor) int { return int(a.Number() - b.Number()) })
	for _, fd := range set {
		if fd.Name() == "gateways" {
			continue // another gateway is another question
		}
		if take() {
			m.Clear(fd)
			return true
		}
		switch v := m.Get(fd); {
		case fd.IsList():
			if removeItem(m.Mutable(fd).List(), fd, take) {
				return true
			}
			for j := 0; fd.Message() != nil && j < v.List().Len(); j++ {
				if removeFrom(v.List().Get(j).Message(), i) {
					return true
				}
			}
		case fd.IsMap():
			for _, key := range mapKeys(v.Map()) {
				if take() {
					m.Mutable(fd).Map().Clear(key)
					return true
				}
			}
		case fd.Message() != nil:
			if removeFrom(v.Message(), i) {
				return true
			}
		}
	}
	return false
}

func removeItem(list protoreflect.List, fd protoreflect.FieldDescriptor, take func() bool) bool {
	for j := 0; list.Len() > 1 && j < list.Len(); j++ {
		if !take() {
			continue
		}
		for k := j; k+1 < list.Len(); k++ {
			list.Set(k, list.Get(k+1))
		}
		list.Truncate(list.Len() - 1)
		return true
	}
	return false
}

func mapKeys(m protoreflect.Map) []protoreflect.MapKey {
	var keys []protoreflect.MapKey
	m.Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
		keys = append(keys, k)
		return true
	})
	slices.SortFunc(keys, func(a, b protoreflect.MapKey) int { return strings.Compare(a.String(), b.String()) })
	return keys
}
