package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rollcallhq/rollcall/internal/app"
)

// findingJSON is what the doctor says of one thing.
type findingJSON struct {
	Name    string `json:"name"`
	OK      bool   `json:"ok"`
	Skipped bool   `json:"skipped,omitempty"` // not examined; detail says what it needs
	Detail  string `json:"detail,omitempty"`
	Error   string `json:"error,omitempty"`
	Hint    string `json:"hint,omitempty"`
}

func (c *cli) doctor() *cobra.Command {
	return c.outputFlag(&cobra.Command{
		Use:   "doctor",
		Short: "Examine everything that a process of this configuration needs",
		Long: `Looks at the sources, the certificate, the ports, Vault, every secret, the queue and how
durable it is, the database and the clock, and says what to do where something is wrong.
It changes nothing. Exits 0 when all is well and 5 when something is not.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := c.load()
			if err != nil {
				return err
			}
			out := []findingJSON{{Name: "configuration", OK: true, Detail: fmt.Sprintf("environment %s, digest %s", l.Environment, l.Digest())}}
			for _, f := range app.Doctor(cmd.Context(), l.Config, version) {
				out = append(out, findingOf(f))
			}
			return c.printFindings(out)
		},
	})
}

func findingOf(f app.Finding) findingJSON {
	out := findingJSON{Name: f.Name, OK: f.Err == nil && f.Needs == "", Skipped: f.Needs != "", Detail: f.Detail + prefixed("needs ", f.Needs)}
	if f.Err != nil {
		out.Error, out.Hint, _ = strings.Cut(f.Err.Error(), "\nhint: ")
	}
	return out
}

func (c *cli) printFindings(findings []findingJSON) error {
	var t table
	wrong := 0
	for _, f := range findings {
		state := "ok"
		switch {
		case f.Skipped:
			state = "skipped"
		case !f.OK:
			state = "WRONG"
			wrong++
		}
		t.add(state, f.Name, f.Detail+prefixed(separator(f.Detail), oneLine(f.Error)))
		if f.Hint != "" {
			t.add("", "", "hint: "+strings.ReplaceAll(f.Hint, "\n", " "))
		}
	}
	if err := c.print(findings, t); err != nil {
		return err
	}
	if wrong > 0 {
		return fmt.Errorf("%w: %d of %d", errCheck, wrong, len(findings))
	}
	return nil
}

func oneLine(text string) string {
	return strings.ReplaceAll(strings.ReplaceAll(text, "\n", "; "), "\t", "")
}

func separator(before string) string {
	if before == "" {
		return ""
	}
	return ": "
}
