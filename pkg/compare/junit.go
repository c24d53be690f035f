package compare

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
)

type junitSuites struct {
	XMLName  xml.Name     `xml:"testsuites"`
	Tests    int          `xml:"tests,attr"`
	Failures int          `xml:"failures,attr"`
	Errors   int          `xml:"errors,attr"`
	Skipped  int          `xml:"skipped,attr"`
	Suites   []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Errors   int         `xml:"errors,attr"`
	Skipped  int         `xml:"skipped,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Name    string      `xml:"name,attr"`
	Class   string      `xml:"classname,attr"`
	Failure *junitCause `xml:"failure"`
	Error   *junitCause `xml:"error"`
	Skipped *junitCause `xml:"skipped"`
}

type junitCause struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// WriteJUnit writes the judgement as JUnit's XML, as CI systems read it: a suite
// for each mirror, with a case for all of its pairs and one for each route. What
// is unsafe has failed. A mirror of which too little is known is an error, as
// its verdict is none; such a route is skipped.
func (j *Judgement) WriteJUnit(w io.Writer) error {
	var all junitSuites
	for _, m := range j.Mirrors {
		s := junitSuite{Name: m.Mirror}
		s.add(junitCase{Name: "all pairs", Class: m.Mirror}, m.Verdict, m.Reasons, "", false)
		for _, r := range j.Routes {
			if r.Mirror == m.Mirror {
				s.add(junitCase{Name: route(r.Rule, r.Method, r.Class), Class: m.Mirror}, r.Verdict, r.Reasons, j.differences(&r), true)
			}
		}
		all.Suites = append(all.Suites, s)
		all.Tests += s.Tests
		all.Failures += s.Failures
		all.Errors += s.Errors
		all.Skipped += s.Skipped
	}
	if j.Verdict != Safe && all.Failures+all.Errors == 0 {
		// What is wrong is wrong with none of the mirrors, see Withhold.
		s := junitSuite{Name: "shadowtap"}
		s.add(junitCase{Name: "verdict", Class: "shadowtap"}, j.Verdict, j.Reasons, "", false)
		all.Suites = append(all.Suites, s)
		all.Tests++
		all.Errors++
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	enc := xml.NewEncoder(w)
	enc.Indent("", "  ")
	if err := enc.Encode(all); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func (s *junitSuite) add(c junitCase, v Verdict, reasons []string, text string, mayBeUnknown bool) {
	cause := &junitCause{Message: printable(strings.Join(reasons, "; ")), Text: text}
	s.Tests++
	switch {
	case v == Unsafe:
		c.Failure = cause
		s.Failures++
	case v == Unknown && mayBeUnknown:
		c.Skipped = cause
		s.Skipped++
	case v == Unknown:
		c.Error = cause
		s.Errors++
	}
	c.Name, c.Class = printable(c.Name), printable(c.Class)
	s.Cases = append(s.Cases, c)
}

// differences are those of a route, a line for each.
func (j *Judgement) differences(r *RouteJudgement) string {
	var b strings.Builder
	for _, d := range j.Differences {
		if d.Mirror == r.Mirror && d.Rule == r.Rule && d.Method == r.Method && d.Class == r.Class {
			e := d.example1()
			b.WriteString(printable(fmt.Sprintf("%s in %d pairs: %s, want %s (%s)", d.key(), d.Pairs, e.Shadow, e.Production, e.request())))
			b.WriteByte('\n')
		}
	}
	return b.String()
}
