package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rollcallhq/rollcall/internal/app"
	"github.com/rollcallhq/rollcall/internal/config"
	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/status"
	"github.com/rollcallhq/rollcall/internal/store"
)

func (c *cli) status() *cobra.Command {
	var quick bool
	cmd := c.outputFlag(&cobra.Command{
		Use:   "status",
		Short: "Show whether the application follows its directories, and what to do where it does not",
		Long: `One screen, the verdict first. Green: the application follows. Yellow: it does, and something
wants to be looked at. Red: somebody may have access who should not, or nothing is done any
more. Each reason says what to do.

Then the figures: how far each directory's events are behind the provider's own time when they
are folded and bound (median and most of the last hour, worst of the last day), how long
leavers kept access, how far the providers' logs are read, when directories were compared
with their listings and what was found, what waits, what is held, how old the secrets are.

It asks the database, and what else can be reached from here. What cannot is named, and is
never taken for well. It changes nothing.

Exits 0 when green, 5 when red, 7 when green as far as can be seen from here, 8 when yellow.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withConfiguredStore(cmd.Context(), func(l config.Loaded, s store.Store) error {
				look, err := app.LookAt(cmd.Context(), l.Config, s, quick)
				if err != nil {
					return err
				}
				return c.printStatus(look)
			})
		},
	})
	cmd.Flags().BoolVar(&quick, "quick", false, "do not compare the application's listing, which reads all of it")
	return cmd
}

// printStatus prints a look and what it means, and fails unless it is green.
func (c *cli) printStatus(l status.Look) error {
	v := status.Judge(l)
	if c.format == "json" {
		if err := printJSON(c.out, newStatusJSON(l, v)); err != nil {
			return err
		}
	} else if err := c.writeStatus(l, v); err != nil {
		return err
	}
	switch {
	case v.Color == status.Red:
		return fmt.Errorf("%w: red", errCheck)
	case v.Color == status.Yellow:
		return errWarn
	case len(l.Unseen) > 0:
		if len(l.Unseen) == 1 {
			return fmt.Errorf("%w: 1 thing is not visible from here", errUntold)
		}
		return fmt.Errorf("%w: %d things are not visible from here", errUntold, len(l.Unseen))
	}
	return nil
}

// writeStatus writes the screen.
func (c *cli) writeStatus(l status.Look, v status.Verdict) error {
	head := table{}
	verdict := strings.ToUpper(string(v.Color))
	if v.Color == status.Green && len(l.Unseen) > 0 {
		verdict += ", as far as can be seen"
	}
	head.add(verdict, l.Environment+" at "+when(l.At))
	for _, r := range v.Reasons {
		head.add(string(r.Color), r.What)
		head.add("", "→ "+r.Do)
	}
	for _, u := range l.Unseen {
		head.add("not seen", u.What+": "+u.Why)
	}
	for i, t := range []table{head, directoriesTable(l), leaversTable(l), pollsTable(l), restTable(l)} {
		if len(t.rows) == 0 {
			continue
		}
		if i > 0 {
			_, _ = fmt.Fprintln(c.out)
		}
		if err := t.write(c.out); err != nil {
			return err
		}
	}
	return nil
}

// directoriesTable is a line a directory.
func directoriesTable(l status.Look) table {
	t := table{head: []string{"DIRECTORY", "NAME", "STATE", "MODE", "ACTIVE", "HEARD", "FOLDED", "BOUND", "COMPARED", "DRIFT", "SOURCE"}}
	lags := map[directory.Scope]store.Lag{}
	for _, g := range l.Lags {
		lags[g.Scope] = g
	}
	for _, d := range l.Directories {
		g := lags[d.Scope]
		compared, drift := comparedOf(l, d.Scope)
		t.add(d.Directory, d.Name, stateOf(d), string(d.Mode), number(d.Active), since(l.At, g.Heard), span(g.Folded), span(g.Bound), compared, drift, d.Source)
	}
	return t
}

func stateOf(d store.DirectoryTally) string {
	switch {
	case d.Ended:
		return "ended"
	case d.Held():
		return "held"
	}
	return d.State
}

// span is the median and the most of the last hour, and the worst of the last day.
func span(s store.Span) string {
	if s.Recent == 0 && s.Worst == 0 {
		return "-"
	}
	lately := "-"
	if s.Recent > 0 {
		lately = status.Short(s.Median) + " / " + status.Short(s.Most)
	}
	return lately + " / " + status.Short(s.Worst)
}

// since is how long ago something was.
func since(now, t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return status.Short(max(now.Sub(t), 0)) + " ago"
}

// comparedOf is when a directory was compared with its whole listing last, and what was found.
func comparedOf(l status.Look, scope directory.Scope) (compared, drift string) {
	compared, drift = "-", "-"
	for _, run := range l.Runs {
		if run.Scope != scope || !run.Complete {
			continue
		}
		var kinds []string
		for _, kind := range store.DriftKinds {
			if n := run.Kinds[kind].Found; n > 0 {
				kinds = append(kinds, fmt.Sprintf("%d %s", n, kind))
			}
		}
		compared, drift = since(l.At, run.Ended), "none"
		if len(kinds) > 0 {
			drift = fmt.Sprintf("%s; %d open", strings.Join(kinds, ", "), run.Open())
		}
	}
	return compared, drift
}

// leaversTable is a line a directory that somebody left, or leaves.
func leaversTable(l status.Look) table {
	t := table{head: []string{"LEAVERS OF", "DONE", "MEDIAN", "WORST", "WHO", "EVENT", "FOLDED AFTER", "BOUND AFTER", "WAITING", "OLDEST"}}
	for _, d := range l.Leavers {
		row := []string{d.Directory, number(d.Done), "-", "-", "", "", "", "", number(d.Waiting), "-"}
		if w := d.Worst; d.Done > 0 {
			row = []string{
				d.Directory, number(d.Done), status.Short(d.Median), status.Short(w.Took(l.At)), leaver(w), w.Event, status.Short(w.Folded.Sub(w.Occurred)),
				status.Short(w.Bound.Sub(w.Folded)), number(d.Waiting), "-",
			}
		}
		if d.Waiting > 0 {
			row[len(row)-1] = fmt.Sprintf("%s, %s", leaver(d.Oldest), status.Short(max(l.At.Sub(d.Oldest.Folded), 0)))
		}
		t.add(row...)
	}
	return t
}

func leaver(l store.Leaver) string {
	if l.Email != "" {
		return l.Email
	}
	return l.Account
}

// pollsTable is a line a source whose log is read.
func pollsTable(l status.Look) table {
	t := table{head: []string{"SOURCE", "LOG READ UP TO", "WHOLE", "WEBHOOKS MISSED", "READER", "CURSOR", "LAST ERROR"}}
	for _, p := range l.Polls {
		reader := "nobody"
		if p.Held() {
			reader = p.Holder
		}
		failed := ""
		if p.Error != "" {
			failed = fmt.Sprintf("%s, since %s", oneLine(p.Error), since(l.At, p.Failed))
		}
		t.add(p.Source, since(l.At, p.Watermark), since(l.At, p.CaughtUp), number(p.Missed), reader, p.After, failed)
	}
	return t
}

// restTable is what is not of a directory.
func restTable(l status.Look) table {
	t := table{}
	if q := l.Queue; q.Durability != "" {
		t.add("queue", fmt.Sprintf("%d deliveries wait%s; %s, %s", q.Depth, oldestSince(l.At, q.Oldest), q.Backend, q.Durability))
	}
	for _, track := range []store.Track{store.Bound, store.Posted} {
		waiting, paused := l.Backlog.Waiting[track], l.Backlog.Paused[track]
		if track == store.Posted && waiting == 0 && paused == 0 {
			continue // of an application that takes no POSTs, as a rule
		}
		t.add("to be "+string(track), fmt.Sprintf("%d changes wait%s; %d paused", waiting, oldestSince(l.At, l.Backlog.Oldest[track]), paused))
	}
	for _, d := range l.Dead {
		t.add("dead events", fmt.Sprintf("%d of %s, %s%s; %d deferred", d.Count, d.Source, d.Class, oldestSince(l.At, d.Oldest), d.Deferred))
	}
	for _, e := range l.Ended {
		t.add("held directory", e.Directory+prefixed(", since ", known(since(l.At, e.Since))))
	}
	for _, h := range l.Links {
		t.add("held links", fmt.Sprintf("%d of %s, %s, the oldest since %s", h.Count, h.Directory, h.State, since(l.At, h.Since)))
	}
	if i := l.Inventory; i != nil {
		t.add("inventory", fmt.Sprintf("%d orphans, %d reactivated, %d extra memberships, %d missing, %d not judged", i.Orphans, i.Reactivated, i.Extra, i.Missing, i.Unknown))
	}
	for _, s := range l.Secrets {
		age := "age not known"
		if !s.Created.IsZero() {
			age = "written " + since(l.At, s.Created)
		}
		t.add("secret", fmt.Sprintf("%s, version %s, %s", s.Name, s.Version, age))
	}
	return t
}

// oldestSince is since when the oldest of what waits does; nothing when that is not known, or nothing waits.
func oldestSince(now, t time.Time) string {
	return prefixed(", the oldest since ", known(since(now, t)))
}

// known is a text without the dash of what is not.
func known(text string) string {
	if text == "-" {
		return ""
	}
	return text
}
