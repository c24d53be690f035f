package agent

import (
	"encoding/json"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/shadowtap/shadowtap/pkg/rules"
)

// RulesStatus is what /api/v1/rules answers.
type RulesStatus struct {
	// LoadedAt is when the last attempt to load the rules was made. Problems
	// are what it found; with Failed the rules in use are older.
	LoadedAt time.Time `json:"loaded_at"`
	Failed   bool      `json:"failed"`
	Problems []string  `json:"problems"`
	// Rules are the routes in use.
	Rules []rules.Rule `json:"rules"`
	// Targets are the captured endpoints, Mirrors the shadow destinations.
	Targets []netip.AddrPort `json:"targets"`
	Mirrors []MirrorStatus   `json:"mirrors"`
	// Interfaces is where capture is attached.
	Interfaces []InterfaceStatus `json:"interfaces"`
}

// MirrorStatus is one shadow destination.
type MirrorStatus struct {
	// Host, Subset, Port and Endpoints are those of rules.Mirror; an endpoint
	// is host:port.
	Host      string   `json:"host"`
	Subset    string   `json:"subset,omitempty"`
	Port      uint32   `json:"port,omitempty"`
	Endpoints []string `json:"endpoints"`
	// Unavailable are the endpoints that get no copies now, up to 64 of them.
	Unavailable []EndpointStatus `json:"unavailable,omitempty"`
}

// EndpointStatus is why an endpoint gets no copies; see replay.State.
type EndpointStatus struct {
	// Address is host:port, State a replay.State other than StateClosed.
	Address string `json:"address"`
	State   string `json:"state"`
	// Error is what copies to it met with last.
	Error string `json:"error,omitempty"`
}

// InterfaceStatus is one place where the TC program is attached.
type InterfaceStatus struct {
	// Name and Index are those of the interface in its network namespace.
	Name  string `json:"name"`
	Index int    `json:"index"`
	// Namespace is the network namespace, if it is not the agent's own.
	Namespace string `json:"namespace,omitempty"`
	// Direction is "ingress" or "egress", Attach "tcx" or "clsact", and Since
	// when it was attached, in UTC.
	Direction string    `json:"direction"`
	Attach    string    `json:"attach"`
	Since     time.Time `json:"since"`
}

// RulesStatus returns what is loaded and where it is captured.
func (a *Agent) RulesStatus() RulesStatus {
	current, loaded := a.current.Load(), a.loaded.Load()
	program := current.program
	s := RulesStatus{
		LoadedAt:   loaded.Time.UTC(),
		Failed:     loaded.Failed,
		Problems:   []string{},
		Rules:      program.Rules(),
		Targets:    a.targets(current),
		Mirrors:    []MirrorStatus{},
		Interfaces: []InterfaceStatus{},
	}
	for _, p := range loaded.Problems {
		s.Problems = append(s.Problems, p.Error())
	}
	states := a.mirrors.endpoints()
	for _, m := range program.Mirrors() {
		ms := MirrorStatus{Host: m.Host, Subset: m.Subset, Port: m.Port, Endpoints: []string{}}
		for _, e := range m.Endpoints {
			ms.Endpoints = append(ms.Endpoints, e.Address)
		}
		ms.Unavailable = unavailable(states[m.Key()])
		s.Mirrors = append(s.Mirrors, ms)
	}
	for _, h := range a.source.Hooks() {
		s.Interfaces = append(s.Interfaces, InterfaceStatus{
			Name: h.Name, Index: h.Ifindex, Namespace: h.Namespace, Direction: h.Direction.String(), Attach: h.Mode.String(), Since: h.Since.UTC(),
		})
	}
	return s
}

// waitingForPredecessor is what waitingFor says when everything else is ready.
const waitingForPredecessor = "another agent is being taken over from"

// waitingFor says what is not ready yet, empty if everything is.
func (a *Agent) waitingFor() string {
	if a.given.Load() {
		return "another agent has taken over"
	}
	if a.cluster != nil {
		select {
		case <-a.cluster.synced:
		default:
			st := a.cluster.source.Status()
			if !st.Reached {
				return "the API server cannot be reached"
			}
			return "the rules are being loaded from the cluster: " + strings.Join(st.Missing, ", ")
		}
	}
	select {
	case <-a.source.Ready():
	default:
		return "capture is not attached yet"
	}
	select {
	case <-a.established:
		return ""
	default:
		return waitingForPredecessor
	}
}

// publicHandler serves what probes and Prometheus ask for: it counts and names,
// and says nothing of rules but the hosts of mirrors.
func (a *Agent) publicHandler() *http.ServeMux {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.registry(), promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if waiting := a.waitingFor(); waiting != "" {
			http.Error(w, waiting, http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n"))
	})
	return mux
}

// adminHandler serves the admin API.
func (a *Agent) adminHandler() http.Handler {
	mux := a.publicHandler()
	mux.HandleFunc("GET /api/v1/account", func(w http.ResponseWriter, _ *http.Request) {
		account, err := a.Account()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		writeJSON(w, account)
	})
	mux.HandleFunc("GET /api/v1/status", func(w http.ResponseWriter, _ *http.Request) {
		status, err := a.Status()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		writeJSON(w, status)
	})
	mux.HandleFunc("GET /api/v1/report", func(w http.ResponseWriter, _ *http.Request) {
		report := a.Report()
		if report == nil {
			http.Error(w, "this agent does not compare answers: it runs without --compare", http.StatusNotFound)
			return
		}
		writeJSON(w, report)
	})
	mux.HandleFunc("GET /api/v1/rules", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, a.RulesStatus()) })
	if a.cfg.Pprof {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return mux
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	// An error here is the client's connection failing.
	_ = enc.Encode(v)
}
