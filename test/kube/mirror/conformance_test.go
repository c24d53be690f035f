package mirror

import (
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// How the suite counts: RequiredConsecutiveSuccesses of utils/config, and the
// constants of tests/httproute-request-percentage-mirror.go.
const (
	consecutive   = 3
	manyRequests  = 500
	atOnce        = 10 // of those
	deviations    = 3  // that a percentage may be missed by
	distributions = 5  // of which one must not miss it
)

const (
	v1Backend = "infra-backend-v1"
	v2Backend = "infra-backend-v2"
	v3Backend = "infra-backend-v3"
)

// mirrorTest is a request of the suite: v1 answers, and so many percent of the
// requests are mirrored to each of the others.
type mirrorTest struct {
	path    string
	mirrors []string
	percent float64
	// delivered is how the request may come to v1.
	delivered []delivery
}

// delivery is the header with which a request comes to v1, and with which its
// copy is to come to a mirror. removed must not come to one.
type delivery struct {
	name    string
	header  http.Header
	copied  http.Header
	removed string
}

// mirrorTests are the tests of request mirroring by their manifest. The suite
// has none for the mesh.
func mirrorTests() map[string][]mirrorTest {
	plain := []delivery{{name: "as sent"}}
	sent := http.Header{"X-Header-Remove": {"remove-val"}, "X-Header-Add-Append": {"append-val-1"}}
	filtered := http.Header{
		"X-Header-Set":        {"set-overwrites-values"},
		"X-Header-Add":        {"header-val-1"},
		"X-Header-Add-Append": {"append-val-1", "header-val-2"},
	}
	twice := http.Header{
		"X-Header-Set":        {"set-overwrites-values"},
		"X-Header-Add":        {"header-val-1", "header-val-1"},
		"X-Header-Add-Append": {"append-val-1", "header-val-2", "header-val-2"},
	}
	modified := []delivery{
		{"as sent", sent, filtered, "X-Header-Remove"},
		// Nothing tells that a data plane has added a field, so it is added to
		// the copy again; what is set and removed shows no difference.
		{"as a data plane delivers it", filtered, twice, "X-Header-Remove"},
	}
	both := []string{v2Backend, v3Backend}
	return map[string][]mirrorTest{
		"httproute-request-mirror": {
			{"/mirror", both[:1], 100, plain},
			{"/mirror-and-modify-headers", both[:1], 100, modified},
		},
		"httproute-request-multiple-mirrors": {
			{"/multi-mirror", both, 100, plain},
			{"/multi-mirror-and-modify-request-headers", both, 100, modified},
		},
		"httproute-request-percentage-mirror": {
			{"/percent-mirror", both[:1], 20, plain},
			{"/percent-mirror-fraction", both[:1], 50, plain},
			{"/percent-mirror-and-modify-headers", both[:1], 35, modified},
		},
	}
}

// TestConformance applies what the conformance tests of the Gateway API for
// request mirroring apply, sends what they send, and counts copies as they do.
//
// They send it to a Gateway. There is no data plane here, so the test sends to
// v1 what one would deliver there. No filter of these routes changes the
// request-target; where one changes header fields, requests are sent both as the
// client of the suite does, as in a cluster that has rules and no data plane,
// and as the filter leaves them.
func TestConformance(t *testing.T) {
	needCluster(t)
	defineRules(t)
	install(t, plainManifests(t))
	dir := conformanceDir(t)
	backends := deployConformance(t, dir)
	for manifest, tests := range mirrorTests() {
		t.Run(manifest, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join(dir, "tests", manifest+".yaml"))
			must(t, err)
			apply(t, string(text))
			t.Cleanup(func() {
				if _, err := tryKubectl(string(text), "delete", "-f", "-"); err != nil {
					t.Error(err)
				}
				eventuallyCaptured(t, nil, 0)
			})
			shadows := 0
			for _, name := range tests[0].mirrors {
				shadows += len(backends[name])
			}
			eventuallyCaptured(t, backends[v1Backend], shadows)
			for _, test := range tests {
				for _, d := range test.delivered {
					t.Run(strings.Trim(test.path, "/")+" "+d.name, func(t *testing.T) { test.run(t, backends, d) })
				}
			}
		})
	}
}

// run sends as many requests as the suite does, until so many of them were
// mirrored as it asks for.
func (m *mirrorTest) run(t *testing.T, backends map[string][]pod, d delivery) {
	requests, attempts, margin := consecutive, 1, 0.0
	share := m.percent / 100
	if share < 1 {
		requests, attempts = manyRequests, distributions
		margin = deviations * math.Sqrt(manyRequests*share*(1-share))
	}
	for attempt := range attempts {
		id := strings.ReplaceAll(fmt.Sprintf("%s-%d", d.name, attempt), " ", "-")
		path := m.path + "?gateway-api-conformance-request-id=" + id
		before := mirroredBy(t)
		sendEcho(t, backends[v1Backend], path, d.header, requests)
		settle(t)
		within := true
		for _, name := range m.mirrors {
			got := echoes(t, backends[name], path)
			t.Logf("%s got %d copies of %d requests, expected %.0f, %.1f more or less", name, len(got), requests, share*float64(requests), margin)
			within = within && math.Abs(float64(len(got))-share*float64(requests)) <= margin
			for _, e := range got {
				m.check(t, e, d)
			}
			// One draw for all mirrors: what one got is what was mirrored.
			if mirrored := mirroredBy(t) - before; mirrored != len(got) {
				t.Errorf("the agents say that they mirrored %d requests, %s got %d", mirrored, name, len(got))
			}
		}
		if within {
			return
		}
	}
	t.Errorf("%g %% were not mirrored, %d times", m.percent, attempts)
}

// check holds a copy to what is wanted of one.
func (m *mirrorTest) check(t *testing.T, e echo, d delivery) {
	t.Helper()
	if e.Method != http.MethodGet || e.Host != gatewayAddress || e.Headers.Get("X-Shadowtap") == "" || e.Headers.Get(d.removed) != "" {
		t.Errorf("%s got %+v", e.Pod, e)
	}
	for name, want := range d.copied {
		if got := e.Headers.Values(name); !slices.Equal(got, want) {
			t.Errorf("%s got %s: %q, want %q", e.Pod, name, got, want)
		}
	}
}
