package referee

import "github.com/shadowtap/shadowtap/test/referee/envoy"

// deviation is a way in which the product differs from Istio and Envoy on
// purpose.
type deviation struct {
	name, reason string
	// covers reports whether a difference is of this kind, and only of this
	// kind.
	covers func(w *world, r *envoy.Request, theirs, ours *verdict) bool
}

func deviations() []deviation {
	return []deviation{}
}
