package compare

import "fmt"

// What makes a place noise.
const (
	// noiseShare of the pairs that were looked at must differ there: what
	// differs now and then may be a defect that shows now and then.
	noiseShare = 0.9
	// noiseRepeats is how often production must have contradicted itself.
	noiseRepeats = 3
)

// Noise is a place that is not held against the shadow, because production does
// not repeat itself there: asked the same again, it answered something else,
// nearly every time, and the answers of both differ there in nearly every pair.
// Both values have the same form (see ChangeForm), so an id that is missing, or
// an error in its place, is no noise.
type Noise struct {
	Mirror string `json:"mirror"`
	Rule   string `json:"rule"`
	Method string `json:"method"`
	Class  string `json:"class"`
	Part   string `json:"part"`
	Path   string `json:"path"`
	// Pairs is how many pairs of the route differ there.
	Pairs uint64 `json:"pairs"`
	// Why is the evidence in words.
	Why string `json:"why"`
}

// noise returns the places of the route that are noise, by id.
func (r *Route) noise() map[uint64]Noise {
	found := map[uint64]Noise{}
	for _, p := range r.Places {
		if p.Change != ChangeValue {
			continue
		}
		if why, ok := r.variesAt(p.id()); ok {
			found[p.id()] = Noise{r.Mirror, r.Rule, r.Method, r.Class, p.Part, p.Path, p.Pairs, why}
		}
	}
	return found
}

// variesAt reports whether production does not repeat itself at a place, and why
// it is thought so. It looks at those requests of the sample whose pairs differ
// there.
func (r *Route) variesAt(place uint64) (why string, ok bool) {
	var pairs, differ, repeated, varied, contradictions uint64
	for _, s := range r.Requests {
		e := s.Places[place]
		if e == nil {
			continue
		}
		pairs += s.Pairs
		differ += e.Pairs
		if e.Pairs < 2 {
			continue
		}
		repeated++
		// More than maxValues are not kept, so no more can be asked for.
		if values := uint64(len(e.Values)); values >= min(e.Pairs, maxValues) {
			varied++
			contradictions += values - 1
		}
	}
	if float64(differ) < noiseShare*float64(pairs) || float64(varied) < noiseShare*float64(repeated) || contradictions < noiseRepeats {
		return "", false
	}
	return fmt.Sprintf("%d of %d requests that were repeated got another answer from production each time; %d of their %d pairs differ here",
		varied, repeated, differ, pairs), true
}

// onlyNoise returns how many pairs of the route differ in nothing but noise.
func (r *Route) onlyNoise(noise map[uint64]Noise) (n uint64) {
	for _, c := range r.Combinations {
		if allIn(noise, c.Places) {
			n += c.Pairs
		}
	}
	return min(n, r.Different)
}

func allIn(noise map[uint64]Noise, places []uint64) bool {
	for _, id := range places {
		if _, ok := noise[id]; !ok {
			return false
		}
	}
	return len(places) > 0
}
