package compare

import (
	"strconv"
	"time"
)

// Format is the version of Report's form and bounds. Reports of other formats
// cannot be merged.
const Format = 1

// Report is what a Comparer found: counters and bounded tables, as JSON. What
// it means is for Judge to say.
type Report struct {
	// Format is the constant of that name in the version that made the report.
	Format int `json:"format"`
	// Since and Until are the times of the first and the last pair.
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`
	// Mirrors are the totals of each mirror, by its name. Those of mirrors
	// beyond the 64th are under "other".
	Mirrors map[string]*Mirror `json:"mirrors"`
	// Routes are the pairs that were answered by production, 128 of them at
	// most, by Route.key. The totals hold for all.
	Routes map[string]*Route `json:"routes"`
}

// Mirror says what became of the pairs of one mirror:
//
//	Pairs = Same + Different + sum(Failed) + sum(Missed)
type Mirror struct {
	Pairs uint64 `json:"pairs"`
	// Same and Different are the pairs with two answers. Whether what differs
	// is only noise is for Judge to say.
	Same      uint64 `json:"same"`
	Different uint64 `json:"different"`
	// Failed are the pairs that production answered and the shadow did not, by
	// Pair.Failure.
	Failed map[string]uint64 `json:"failed"`
	// Missed are those that cannot be compared, by Reason.
	Missed map[string]uint64 `json:"missed"`
	// Status are the pairs with two answers by both status codes: "200 -> 503".
	Status map[string]uint64 `json:"status"`
	// Production and Shadow are the latencies of pairs where both are known.
	Production Histogram `json:"production"`
	Shadow     Histogram `json:"shadow"`
}

// Route is the pairs of one mirror, rule, method, and class of the status that
// production answered.
type Route struct {
	Mirror string `json:"mirror"`
	Rule   string `json:"rule"`
	// Method is a well-known one or "other".
	Method string `json:"method"`
	// Class is 1xx to 5xx.
	Class string `json:"class"`
	// Same, Different and Failed are as in Mirror.
	Same      uint64 `json:"same"`
	Different uint64 `json:"different"`
	Failed    uint64 `json:"failed"`
	// Places are where pairs differ, 32 at most: those with the shortest paths.
	Places map[string]*Place `json:"places"`
	// Combinations are the sets of places in which pairs differ, 48 at most:
	// the smallest. A different pair that is in none of them is never noise.
	Combinations map[string]*Combination `json:"combinations"`
	// Requests are a sample of 32 of the different requests, by a hash.
	Requests map[uint64]*Sample `json:"requests"`
}

// Place is where an answer differs, and how.
type Place struct {
	// Part is one of Part..., Path where in it: "200 -> 503", a field name,
	// "$.items[].id"; Change one of Change..., or none where the path says it.
	Part   string `json:"part"`
	Path   string `json:"path"`
	Change string `json:"change"`
	// Pairs is how many pairs differ here.
	Pairs uint64 `json:"pairs"`
	// Examples are two of them at most.
	Examples []Example `json:"examples"`
}

// Example is one of the pairs that differ at a place.
type Example struct {
	// Time is when the request was seen; Method, Host and Target are its own,
	// without the values of the query unless Options.ShowValues is set.
	Time   time.Time `json:"time"`
	Method string    `json:"method"`
	Host   string    `json:"host"`
	Target string    `json:"target"`
	// Production and Shadow are the two values at the place, redacted unless
	// Options.ShowValues is set.
	Production string `json:"production"`
	Shadow     string `json:"shadow"`
	// Rank is a hash of the pair. The examples of lowest rank are kept, so that
	// it does not matter which came first.
	Rank uint64 `json:"rank"`
}

// Combination is a set of places and how many pairs differ in these and no
// others.
type Combination struct {
	// Places are the hashes of places; see Place.id.
	Places []uint64 `json:"places"`
	Pairs  uint64   `json:"pairs"`
}

// Sample is one of the requests of a route, however often it was made.
type Sample struct {
	// Pairs are those with two answers of the same status.
	Pairs uint64 `json:"pairs"`
	// Places are those of change "value" in which such pairs differ, by the
	// hashes of places, 8 at most.
	Places map[uint64]*Evidence `json:"places"`
}

// Evidence is what production answers to one request at one place.
type Evidence struct {
	// Pairs is how many pairs differ here.
	Pairs uint64 `json:"pairs"`
	// Values are hashes of production's different values, 4 at most.
	Values []uint64 `json:"values"`
}

// NewReport returns an empty report to merge others into.
func NewReport() *Report {
	return &Report{Format: Format, Mirrors: map[string]*Mirror{}, Routes: map[string]*Route{}}
}

func newMirror() *Mirror {
	return &Mirror{
		Failed: map[string]uint64{}, Missed: map[string]uint64{}, Status: map[string]uint64{},
		Production: newHistogram(), Shadow: newHistogram(),
	}
}

func newRoute() *Route {
	return &Route{Places: map[string]*Place{}, Combinations: map[string]*Combination{}, Requests: map[uint64]*Sample{}}
}

func newSample() *Sample { return &Sample{Places: map[uint64]*Evidence{}} }

// Balanced reports whether every pair is accounted for.
func (m *Mirror) Balanced() bool {
	return m.Pairs == m.Same+m.Different+sum(m.Failed)+sum(m.Missed)
}

func (r *Route) key() string { return r.Mirror + "\t" + r.Rule + "\t" + r.Method + "\t" + r.Class }

// key is that of Route.Places.
func (p *Place) key() string { return placeKey(p.Part, p.Path, p.Change) }

func placeKey(part, path, change string) string {
	if change == "" {
		return part + " " + path
	}
	return part + " " + path + ": " + change
}

// id is the hash by which places are referred to.
func (p *Place) id() uint64 { return placeID(p.Part, p.Path, p.Change) }

func placeID[T ~string | ~[]byte](part string, path T, change string) uint64 {
	return mix(hash(hash(hash(hashSeed, part), path), change))
}

// rankPlace prefers short paths: below an object with many names there may be
// any number of long ones.
func rankPlace(path string, id uint64) uint64 { return uint64(min(len(path), 255))<<56 | id>>8 }

// rankCombination prefers small sets: what varies by itself does so in a few
// places together, and every defect beside it makes the set larger.
func rankCombination(ids []uint64) uint64 {
	return uint64(len(ids))<<56 | hashIDs(ids)>>8
}

// combinationKey is that of Route.Combinations.
func combinationKey(ids []uint64) string { return strconv.FormatUint(hashIDs(ids), 16) }

func hashIDs(ids []uint64) uint64 {
	h := hashSeed
	for _, id := range ids {
		h = hashInt(h, id)
	}
	return h
}

func sum(parts map[string]uint64) (n uint64) {
	for _, v := range parts {
		n += v
	}
	return n
}
