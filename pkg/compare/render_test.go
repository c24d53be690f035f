package compare

import (
	"encoding/xml"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// rendered is a judgement with something of everything.
func rendered(t *testing.T) *Judgement {
	t.Helper()
	c := newComparer(t, Options{ShowValues: true})
	for i := range 500 {
		v1 := answer(fmt.Sprintf(`{"id":"%s","price":10}`, uuid(i)))
		v2 := answer(fmt.Sprintf(`{"id":"%s","price":%d}`, uuid(i+1000), 10+i%5/4))
		v2.Latency = 2 * time.Millisecond
		p := pair(v1, v2)
		p.Mirror, p.Rule, p.Request = "shop|v2|80", "VirtualService default/shop", 1
		p.Time = start.Add(time.Duration(i) * time.Second)
		p.Target = "/a|b?<script>\x1b[31m"
		if i%50 == 0 {
			p.Shadow, p.Failure = nil, "timeout"
		}
		c.Add(p)
		p.Missed = Gap
		c.Add(p)
		p.Mirror, p.Missed, p.Shadow = "same|v2|80", Compared, v1
		c.Add(p)
	}
	return c.Report().Judge(DefaultLimits())
}

func TestText(t *testing.T) {
	var b strings.Builder
	if err := rendered(t).WriteText(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"UNSAFE\n  shop|v2|80: 100 of 490 answers differ (20.4 %), more than 1 %\n",
		"MIRROR      VERDICT  PAIRS  SAME  BUT FOR NOISE  DIFFERENT  FAILED           MISSED\n" +
			"same|v2|80  safe     500    500   0              0          0                0\n" +
			"shop|v2|80  unsafe   1000   0     390            100        10 (timeout 10)  500 (gap 500)\n",
		"LATENCY (rounded up by 12.5 % at most)  P50",
		"1.024ms -> 2.048ms (2x)",
		"WHERE ANSWERS DIFFER",
		"body $.price: value   100    GET 2xx of VirtualService default/shop  10          11       GET /a|b?<script>\uFFFD[31m\n",
		"failure timeout       10     GET 2xx of VirtualService default/shop  200         timeout",
		"NOISE, NOT COUNTED AS DIFFERENT  PAIRS  ROUTE                                   BECAUSE\n" +
			"body $.id                        490    GET 2xx of VirtualService default/shop  1 of 1 requests that were repeated got another answer from production each time; 490 of their 490 pairs differ here\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no\n%s\nin\n%s", want, b.String())
		}
	}
}

func TestMarkdown(t *testing.T) {
	var b strings.Builder
	if err := rendered(t).WriteMarkdown(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"### shadowtap: unsafe\n\n- shop\\|v2\\|80\\: 100 of 490 answers differ \\(20.4 %\\), more than 1 %\n",
		"| `shop\\|v2\\|80` | unsafe | 1000 | 0 | 390 | 100 | 10 \\(timeout 10\\) | 500 \\(gap 500\\) |",
		"| `body $.price: value` | 100 | GET 2xx of VirtualService default/shop | `10` | `11` | `GET /a\\|b?<script>\uFFFD[31m` |",
		"<summary>Noise, not counted as different</summary>",
		"| `body $.id` | 490 |",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no\n%s\nin\n%s", want, b.String())
		}
	}
}

func TestCode(t *testing.T) {
	for s, want := range map[string]string{
		"a|b":   "`a\\|b`",
		`a\|b`:  "`a\\ \\|b`",
		`a\\|b`: "`a\\\\ \\|b`",
		"`a`":   "`'a'`",
		"a\nb":  "`a\uFFFDb`",
	} {
		if got := code(s); got != want {
			t.Errorf("%q: %s, want %s", s, got, want)
		}
	}
}

func TestJUnit(t *testing.T) {
	j := rendered(t)
	parse := func() (s junitSuites) {
		var b strings.Builder
		if err := j.WriteJUnit(&b); err != nil {
			t.Fatal(err)
		}
		if err := xml.Unmarshal([]byte(b.String()), &s); err != nil {
			t.Fatalf("%v in\n%s", err, b.String())
		}
		return s
	}
	all := parse()
	if all.Tests != 4 || all.Failures != 2 || all.Errors != 0 || all.Skipped != 0 || len(all.Suites) != 2 {
		t.Errorf("%+v", all)
	}
	c := all.Suites[1].Cases[1]
	if c.Class != "shop|v2|80" || c.Name != "GET 2xx of VirtualService default/shop" || c.Failure == nil ||
		!strings.Contains(c.Failure.Message, "100 of 490 answers differ") || !strings.Contains(c.Failure.Text, "body $.price: value in 100 pairs: 11, want 10") {
		t.Errorf("%+v", c)
	}

	j = counted(1000, 0, 0, 0).Judge(DefaultLimits())
	j.Withhold("1 of 2 agents did not answer")
	all = parse()
	last := all.Suites[len(all.Suites)-1].Cases[0]
	if all.Tests != 3 || all.Errors != 1 || last.Error == nil || last.Error.Message != "1 of 2 agents did not answer" || j.Verdict != Unknown {
		t.Errorf("%s %+v", j.Verdict, all)
	}
	j = counted(10, 0, 0, 0).Judge(DefaultLimits())
	if all = parse(); all.Errors != 1 || all.Skipped != 1 || all.Tests != 2 {
		t.Errorf("of few pairs: %+v", all)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space") }

func TestRenderingFails(t *testing.T) {
	j := rendered(t)
	for name, err := range map[string]error{"text": j.WriteText(full{}), "markdown": j.WriteMarkdown(full{}), "junit": j.WriteJUnit(full{})} {
		if err == nil {
			t.Errorf("%s: a failed write is no error", name)
		}
	}
}
