package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// outputFlag lets a command print its data as a table, as JSON, or in what more it knows.
func (c *cli) outputFlag(cmd *cobra.Command, more ...string) *cobra.Command {
	formats := append([]string{"table", "json"}, more...)
	last := len(formats) - 1
	named := strings.Join(formats[:last], ", ") + " or " + formats[last]
	cmd.Flags().StringVarP(&c.format, "output", "o", "table", "`format` of the data: "+named)
	inner := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if limit, err := cmd.Flags().GetInt("limit"); err == nil && limit < 1 {
			return fmt.Errorf("%w: --limit %d is not 1 or more\nhint: `%s --help` lists its flags", errUsage, limit, cmd.CommandPath())
		}
		if !slices.Contains(formats, c.format) {
			return fmt.Errorf("%w: -o %q is not %s\nhint: leave it out for a table", errUsage, c.format, named)
		}
		return inner(cmd, args)
	}
	return cmd
}

// table is data with a heading.
type table struct {
	head []string
	rows [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// print writes the data: as JSON the value, one document; else the table.
func (c *cli) print(value any, t table) error {
	if c.format == "json" {
		return printJSON(c.out, value)
	}
	return t.write(c.out)
}

// limited returns the first rows of an answer that was asked for one more than the limit, and tells of those left out.
func limited[T any](c *cli, rows []T, limit int) []T {
	switch {
	case len(rows) == 0:
		c.say("none")
	case len(rows) > limit:
		c.say("%d shown, there are more: --limit", limit)
		return rows[:limit]
	}
	return rows
}

// printJSON writes one document. What steers terminals stands in it escaped, which JSON does by itself for a part of it only.
func printJSON(out io.Writer, value any) error {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(value); err != nil {
		return err
	}
	var safe strings.Builder
	for _, r := range text.String() {
		if r != '\n' && steers(r) {
			fmt.Fprintf(&safe, `\u%04x`, r)
			continue
		}
		safe.WriteRune(r)
	}
	_, err := io.WriteString(out, safe.String())
	return err
}

// writeCSV writes a line of names and a line a row, quoted as RFC 4180 has it and ended by CRLF, for whoever opens them in a
// spreadsheet. A cell that a spreadsheet would take for a formula begins with an apostrophe more, as OWASP advises, and one that
// is taken for a terminal's orders has them replaced. What is absent is an empty cell.
// Source: https://owasp.org/www-community/attacks/CSV_Injection
func writeCSV(w io.Writer, header []string, rows [][]string) error {
	out := csv.NewWriter(w)
	out.UseCRLF = true
	if err := out.Write(header); err != nil {
		return err
	}
	for _, row := range rows {
		safe := make([]string, len(row))
		for i, cell := range row {
			safe[i] = inert(cell)
		}
		if err := out.Write(safe); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

// inert is the cell as text and nothing else: no formula, also after what a spreadsheet trims, and nothing that steers.
func inert(cell string) string {
	first, _ := utf8.DecodeRuneInString(strings.TrimLeftFunc(cell, trimmed))
	if strings.HasPrefix(cell, "\t") || strings.HasPrefix(cell, "\r") || strings.ContainsRune("=+-@＝＋－＠", first) {
		cell = "'" + cell
	}
	lines := strings.Split(cell, "\n")
	for i, line := range lines {
		lines[i] = printable(strings.TrimSuffix(line, "\r"))
	}
	return strings.Join(lines, "\n")
}

// trimmed reports whether the character is nothing that is seen.
func trimmed(r rune) bool { return unicode.IsSpace(r) || steers(r) || unicode.Is(unicode.Cf, r) }

func (t table) write(out io.Writer) error {
	var text bytes.Buffer
	w := tabwriter.NewWriter(&text, 0, 4, 2, ' ', 0)
	if len(t.head) > 0 {
		_, _ = fmt.Fprintln(w, strings.Join(t.head, "\t"))
	}
	for _, row := range t.rows {
		for i := range row {
			row[i] = printable(row[i])
		}
		_, _ = fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	_ = w.Flush() // into memory
	for line := range strings.Lines(text.String()) {
		if _, err := fmt.Fprintln(out, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

// printable keeps what came from outside from steering the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if steers(r) {
			return '�'
		}
		return r
	}, s)
}

// steers reports whether a terminal may obey the character rather than show it.
func steers(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) }

// when writes a time for a table.
func when(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z")
}
