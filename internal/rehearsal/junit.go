package rehearsal

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
)

// The elements of a report in the form that JUnit's XML has come to have.
// Source: https://github.com/testmoapp/junitxml
type (
	suites struct {
		XMLName xml.Name `xml:"testsuites"`
		Suites  []suite  `xml:"testsuite"`
	}
	suite struct {
		Name     string     `xml:"name,attr"`
		Tests    int        `xml:"tests,attr"`
		Failures int        `xml:"failures,attr"`
		Time     string     `xml:"time,attr"`
		Cases    []testcase `xml:"testcase"`
	}
	testcase struct {
		Name    string   `xml:"name,attr"`
		Class   string   `xml:"classname,attr"`
		Time    string   `xml:"time,attr"`
		Failure *failure `xml:"failure,omitempty"`
	}
	failure struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

// JUnit writes the cases for whatever reads reports of tests.
func JUnit(out io.Writer, cases []Case) error {
	s := suite{Name: "rollcall bindings", Tests: len(cases)}
	total := 0.0
	for _, c := range cases {
		total += c.Took.Seconds()
		t := testcase{Name: c.Name, Class: "rollcall.bindings", Time: fmt.Sprintf("%.3f", c.Took.Seconds())}
		if c.Err != nil {
			s.Failures++
			first, _, _ := strings.Cut(c.Err.Error(), "\n")
			t.Failure = &failure{Message: first, Text: c.Err.Error() + "\n" + c.Story()}
		}
		s.Cases = append(s.Cases, t)
	}
	s.Time = fmt.Sprintf("%.3f", total)
	if _, err := io.WriteString(out, xml.Header); err != nil {
		return err
	}
	enc := xml.NewEncoder(out)
	enc.Indent("", "  ")
	if err := enc.Encode(suites{Suites: []suite{s}}); err != nil {
		return err
	}
	_, err := io.WriteString(out, "\n")
	return err
}

// Story is what took effect, a line a change.
func (c Case) Story() string {
	var b strings.Builder
	for _, s := range c.Steps {
		fmt.Fprintf(&b, "%s: %s", s.Kind, s.Result)
		if s.Rows > 0 {
			fmt.Fprintf(&b, ", %d rows", s.Rows)
		}
		if s.Error != "" {
			fmt.Fprintf(&b, ": %s", s.Error)
		}
		for _, v := range s.Probes {
			fmt.Fprintf(&b, "; %s %s", v.Probe, v.Result)
		}
		b.WriteByte('\n')
	}
	return b.String()
}
