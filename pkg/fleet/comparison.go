package fleet

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"text/tabwriter"

	"github.com/shadowtap/shadowtap/pkg/compare"
)

// errNotComparing is fetchReport's for an agent that has no report.
var errNotComparing = errors.New("not comparing: it runs without --compare")

// Compared is what one agent compared, or why it has no report.
type Compared struct {
	// Agent is its Agent.Name.
	Agent string `json:"agent"`
	// Error is why it did not answer, or that what it answered cannot be
	// merged.
	Error string `json:"error,omitempty"`
	// Comparing is whether it compares at all.
	Comparing bool `json:"comparing"`
	// Pairs are those in its report.
	Pairs uint64 `json:"pairs"`
}

// Comparison is the merged reports of many agents.
type Comparison struct {
	*compare.Judgement
	// Agents are all that were asked, by name.
	Agents []Compared `json:"agents"`
	// Report is what the agents counted, merged.
	Report *compare.Report `json:"report"`
}

// Compare asks all agents for their reports and judges the sum. An agent that
// does not answer before ctx ends is listed with the reason; that is no error,
// but then no shadow is called safe.
func Compare(ctx context.Context, client *http.Client, agents []Agent, limits compare.Limits) *Comparison {
	reports := make([]*compare.Report, len(agents))
	errs := make([]error, len(agents))
	each(agents, func(i int, a Agent) { reports[i], errs[i] = fetchReport(ctx, client, a) })

	c := &Comparison{Agents: []Compared{}, Report: compare.NewReport()}
	silent := 0
	for i, a := range agents {
		said := Compared{Agent: a.Name, Comparing: !errors.Is(errs[i], errNotComparing)}
		err := errs[i]
		if err == nil {
			err = c.Report.Merge(reports[i])
		}
		switch {
		case !said.Comparing:
		case err != nil:
			said.Error = err.Error()
			silent++
		default:
			for _, m := range reports[i].Mirrors {
				said.Pairs += m.Pairs
			}
		}
		c.Agents = append(c.Agents, said)
	}
	slices.SortFunc(c.Agents, func(a, b Compared) int { return cmp.Compare(a.Agent, b.Agent) })
	c.Judgement = c.Report.Judge(limits)
	if silent > 0 {
		c.Withhold(fmt.Sprintf("%d of %d agents have no report to add", silent, len(agents)))
	}
	if n := c.notComparing(); n > 0 && n == len(agents) {
		c.Withhold("no agent compares: run them with --compare")
	}
	return c
}

// notComparing returns how many agents compare nothing.
func (c *Comparison) notComparing() (n int) {
	for _, a := range c.Agents {
		if !a.Comparing {
			n++
		}
	}
	return n
}

func fetchReport(ctx context.Context, client *http.Client, a Agent) (*compare.Report, error) {
	if a.File != "" {
		body, err := os.ReadFile(a.File)
		if err != nil {
			return nil, err
		}
		return parseReport(body)
	}
	body, err := get(ctx, client, a.URL, "/api/v1/report")
	var refused statusError
	if errors.As(err, &refused) && refused.code == http.StatusNotFound {
		return nil, errNotComparing
	}
	if err != nil {
		return nil, err
	}
	return parseReport(body)
}

func parseReport(body []byte) (*compare.Report, error) {
	r := compare.NewReport()
	r.Format = 0 // a text without one must not pass for a report
	if err := json.Unmarshal(body, r); err != nil {
		return nil, fmt.Errorf("not the report of an agent: %w", err)
	}
	return r, nil
}

// WriteText writes the comparison for people, the verdict first.
func (c *Comparison) WriteText(w io.Writer) error {
	if err := c.Judgement.WriteText(w); err != nil {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nAGENT\tPAIRS")
	for _, a := range c.Agents {
		switch {
		case !a.Comparing:
			fmt.Fprintf(t, "%s\t%s\n", printable(a.Agent), errNotComparing)
		case a.Error != "":
			fmt.Fprintf(t, "%s\tno report: %s\n", printable(a.Agent), printable(a.Error))
		default:
			fmt.Fprintf(t, "%s\t%d\n", printable(a.Agent), a.Pairs)
		}
	}
	return t.Flush()
}
