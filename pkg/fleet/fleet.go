// Package fleet asks many agents how they are and adds up what they say: the
// account of a whole DaemonSet in one place. Agents know nothing of each other
// and there is no leader: whoever asks does the sum.
package fleet

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/shadowtap/shadowtap/pkg/agent"
)

const (
	// atOnce is how many agents are asked at a time.
	atOnce = 32
	// largestAnswer bounds an agent's answer, in bytes. A full report of what was
	// compared has 24 MiB, and more where names are written with escapes.
	largestAnswer = 64 << 20
)

// Agent is one agent that can be asked.
type Agent struct {
	// Name is what it is called in answers: NODE: NAMESPACE/POD, the host of a
	// URL, or a file.
	Name string
	// URL is the root of its admin API: http://HOST:PORT or https://HOST:PORT.
	URL string
	// File, if set, is what Compare reads the agent's report from instead.
	File string
}

// Answer is what one agent said, or why it said nothing.
type Answer struct {
	// Agent is its Agent.Name.
	Agent string `json:"agent"`
	// Error is why it is not in the sum; Status is nil then, and only then.
	Error  string        `json:"error,omitempty"`
	Status *agent.Status `json:"status,omitempty"`
}

// Status is the sum of what many agents said: shadowtap status, as JSON.
type Status struct {
	// Agents are all that were asked, by name.
	Agents []Answer `json:"agents"`
	// Account and Mirrors, by name, are the sums over those that answered.
	Account agent.Account                  `json:"account"`
	Mirrors map[string]agent.MirrorAccount `json:"mirrors"`
	// Problems are those of the rules, each once, with how many agents report
	// it.
	Problems []Problem `json:"problems"`
}

// Problem is one problem of the rules.
type Problem struct {
	Message string `json:"message"`
	Agents  int    `json:"agents"`
}

// Ask asks all agents at once and adds up their answers. An agent that does
// not answer before ctx ends is in the result with the reason; that is no
// error.
func Ask(ctx context.Context, client *http.Client, agents []Agent) Status {
	answers := make([]Answer, len(agents))
	each(agents, func(i int, a Agent) { answers[i] = ask(ctx, client, a) })
	return sumUp(answers)
}

// each calls f for every agent, for atOnce of them at a time, and waits.
func each(agents []Agent, f func(int, Agent)) {
	slots := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for i, a := range agents {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			f(i, a)
		})
	}
	wg.Wait()
}

func ask(ctx context.Context, client *http.Client, a Agent) Answer {
	status, err := fetch(ctx, client, a.URL)
	if err != nil {
		return Answer{Agent: a.Name, Error: err.Error()}
	}
	return Answer{Agent: a.Name, Status: status}
}

func fetch(ctx context.Context, client *http.Client, root string) (*agent.Status, error) {
	body, err := get(ctx, client, root, "/api/v1/status")
	if err != nil {
		return nil, err
	}
	var s agent.Status
	if err := json.Unmarshal(body, &s); err != nil {
		return nil, fmt.Errorf("the answer is not the status of an agent: %w", err)
	}
	return &s, nil
}

// statusError is an answer other than 200.
type statusError struct {
	code int
	text string
}

func (e statusError) Error() string { return e.text }

// get returns what an agent answers to a request of its admin API.
func get(ctx context.Context, client *http.Client, root, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(root, "/")+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, largestAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, statusError{resp.StatusCode, fmt.Sprintf("%s: %.200s", resp.Status, strings.TrimSpace(string(body)))}
	}
	if len(body) > largestAnswer {
		return nil, fmt.Errorf("the answer is larger than %d bytes", largestAnswer)
	}
	return body, nil
}

func sumUp(answers []Answer) Status {
	slices.SortFunc(answers, func(a, b Answer) int { return cmp.Compare(a.Agent, b.Agent) })
	r := Status{Agents: answers, Mirrors: map[string]agent.MirrorAccount{}, Problems: []Problem{}}
	r.Account = agent.Account{}.Add(agent.Account{}) // no nil maps: {} and not null for scripts
	reports := map[string]int{}
	for i := range r.Agents {
		a := &r.Agents[i]
		if a.Status == nil {
			continue
		}
		mirrors, err := addMirrors(r.Mirrors, a.Status.Mirrors)
		if err != nil {
			// Its account without its mirrors would be a sum that does not add up.
			a.Error, a.Status = err.Error(), nil
			continue
		}
		r.Mirrors = mirrors
		r.Account = r.Account.Add(a.Status.Account)
		for _, p := range a.Status.Problems {
			reports[p]++
		}
	}
	for message, n := range reports {
		r.Problems = append(r.Problems, Problem{message, n})
	}
	slices.SortFunc(r.Problems, func(a, b Problem) int { return cmp.Compare(a.Message, b.Message) })
	return r
}

// addMirrors returns the sums of both by name. Neither is changed.
func addMirrors(a, b map[string]agent.MirrorAccount) (map[string]agent.MirrorAccount, error) {
	all := make(map[string]agent.MirrorAccount, max(len(a), len(b)))
	for name, m := range a {
		all[name] = m
	}
	for name, m := range b {
		s, err := all[name].Add(m)
		if err != nil {
			return nil, fmt.Errorf("mirror %s: %w", name, err)
		}
		all[name] = s
	}
	return all, nil
}

// Failed returns how many agents did not answer.
func (r *Status) Failed() (n int) {
	for _, a := range r.Agents {
		if a.Status == nil {
			n++
		}
	}
	return n
}

// Balanced reports whether every packet, request and copy of those agents that
// answered is accounted for.
func (r *Status) Balanced() bool {
	if responses := r.Account.Responses; responses != nil && !responses.Balanced() {
		return false
	}
	return r.Account.Packets.Balanced() && r.Account.Requests.Balanced() && r.Account.Shadow.Balanced()
}
