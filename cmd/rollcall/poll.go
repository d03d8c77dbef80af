package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rollcallhq/rollcall/internal/config"
	"github.com/rollcallhq/rollcall/internal/store"
)

// pollJSON is how far the log of a source is read.
type pollJSON struct {
	Source    string     `json:"source"`
	OK        bool       `json:"ok"`
	Trouble   string     `json:"trouble,omitempty"`
	Hint      string     `json:"hint,omitempty"`
	Cursor    string     `json:"cursor,omitempty"`
	Since     *time.Time `json:"since,omitempty"` // where it begins without a cursor
	Began     *time.Time `json:"began,omitempty"`
	Watermark *time.Time `json:"watermark,omitempty"`
	CaughtUp  *time.Time `json:"caught_up,omitempty"`
	Paged     *time.Time `json:"paged,omitempty"`
	Moved     *time.Time `json:"moved,omitempty"`
	Holder    string     `json:"holder,omitempty"`
	Missed    int64      `json:"webhooks_missed"`
	Failed    *time.Time `json:"failing_since,omitempty"`
	Restarts  int64      `json:"restarts"`
	Restarted *time.Time `json:"restarted,omitempty"`
	From      string     `json:"restarted_from,omitempty"`
	Rewound   *time.Time `json:"rewound,omitempty"`
	RewoundBy string     `json:"rewound_by,omitempty"`
}

func (c *cli) poll() *cobra.Command {
	return group("poll", "How far the provider's log of events is read", c.pollStatus(), c.pollRewind())
}

func (c *cli) pollStatus() *cobra.Command {
	return c.outputFlag(&cobra.Command{
		Use:   "status",
		Short: "Show how far each source's log is read, and what is wrong",
		Long: `Shows for every source that is polled how far its provider's log of events is read: all events
through WATERMARK are in the ledger, and all that the log told was there at CAUGHT UP. MISSED
counts events whose webhook had not come when the log told of them. Exits 5 when a log is not
read as it should be.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withConfiguredStore(cmd.Context(), func(l config.Loaded, s store.Store) error {
				polls, err := s.Polls(cmd.Context())
				if err != nil {
					return err
				}
				return c.printPolls(withUnread(polls, polledSources(l.Config)))
			})
		},
	})
}

// polledSources are the sources whose log is read.
func polledSources(conf config.Config) (names []string) {
	for _, name := range slices.Sorted(maps.Keys(conf.Sources)) {
		if conf.Sources[name].Polled() {
			names = append(names, name)
		}
	}
	return names
}

// withUnread are the polls of the sources, those too that were never read.
func withUnread(polls []store.Poll, sources []string) (out []store.Poll) {
	for _, name := range sources {
		poll := store.Poll{Source: name}
		if i := slices.IndexFunc(polls, func(p store.Poll) bool { return p.Source == name }); i >= 0 {
			poll = polls[i]
		}
		out = append(out, poll)
	}
	return out
}

func (c *cli) printPolls(polls []store.Poll) error {
	if len(polls) == 0 {
		c.say("no source is polled; sources.NAME.api.key lets it be")
	}
	out, wrong := []pollJSON{}, 0
	t := table{head: []string{"SOURCE", "STATE", "WATERMARK", "CAUGHT UP", "CURSOR", "MISSED"}}
	for _, p := range polls {
		row := pollOf(p)
		out = append(out, row)
		state := "ok"
		if !row.OK {
			state = "WRONG"
			wrong++
		}
		t.add(p.Source, state, when(p.Watermark), when(p.CaughtUp), cursorText(p.PollCursor), fmt.Sprint(p.Missed))
		c.tell(row)
	}
	if err := c.print(out, t); err != nil {
		return err
	}
	if wrong > 0 {
		return fmt.Errorf("%w: %d of %d logs are not read as they should be", errCheck, wrong, len(polls))
	}
	return nil
}

func pollOf(p store.Poll) pollJSON {
	out := pollJSON{
		Source: p.Source, OK: true, Cursor: p.After, Began: optional(p.Began), Watermark: optional(p.Watermark),
		CaughtUp: optional(p.CaughtUp), Paged: optional(p.Paged), Moved: optional(p.Moved), Missed: p.Missed, Failed: optional(p.Failed),
		Restarts: p.Restarts, Restarted: optional(p.Restarted), From: p.RestartedFrom.After, Rewound: optional(p.Rewound), RewoundBy: p.RewoundBy,
	}
	if p.After == "" {
		out.Since = optional(p.Since)
	}
	if p.Held() {
		out.Holder = p.Holder
	}
	if err := p.Trouble(); err != nil {
		out.OK = false
		out.Trouble, out.Hint, _ = strings.Cut(err.Error(), "\nhint: ")
	}
	return out
}

// tell says what is wrong with a log, and what happened to its cursor.
func (c *cli) tell(p pollJSON) {
	if !p.OK {
		c.say("%s: %s%s", p.Source, printable(oneLine(p.Trouble)), prefixed("; hint: ", printable(oneLine(p.Hint))))
	}
	if p.Restarted != nil {
		c.say("%s: at %s the provider no longer knew the cursor %s, and its log was read again from the oldest that it keeps", p.Source, when(*p.Restarted), printable(p.From))
	}
	if p.Rewound != nil {
		c.say("%s: at %s %s moved the cursor", p.Source, when(*p.Rewound), printable(p.RewoundBy))
	}
}

// cursorText writes a cursor for a table.
func cursorText(c store.PollCursor) string {
	switch {
	case c.After != "":
		return c.After
	case !c.Since.IsZero():
		return "since " + when(c.Since)
	default:
		return "-"
	}
}

func (c *cli) pollRewind() *cobra.Command {
	var source, event string
	var to time.Time
	var d deciding
	cmd := &cobra.Command{
		Use:   "rewind",
		Short: "Read a provider's log again from an earlier place",
		Long: `Moves the cursor of a source's log, so that what follows is read again, by the service that runs:
for after the log lacked something when it was read. What the ledger has stays as it is, parked
and ignored events too; only what it lacks is folded. (` + "`rollcall replay`" + ` folds parked and ignored
events again.) It first says where the cursor is and would be; --yes moves it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if to.IsZero() == (event == "") {
				return fmt.Errorf("%w: where to is missing, or said twice\nhint: --to TIME reads what happened since, --event ID what follows that event", errUsage)
			}
			return c.withConfiguredStore(cmd.Context(), func(l config.Loaded, s store.Store) error {
				return c.rewind(cmd.Context(), l.Config, s, source, store.PollCursor{After: event, Since: to}, d)
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&source, "source", "", "the `source`, where several are polled")
	flags.StringVar(&event, "event", "", "read what follows this `event`, which the provider still knows")
	flags.Func("to", "read what happened since this RFC 3339 `time`, or in the last duration, such as 7d", func(text string) (err error) {
		to, err = parseSince(text, time.Now())
		return err
	})
	d.yesFlag(cmd)
	return cmd
}

func (c *cli) rewind(ctx context.Context, conf config.Config, s store.Store, source string, to store.PollCursor, d deciding) error {
	source, err := onePolled(conf, source)
	if err != nil {
		return err
	}
	polls, err := s.Polls(ctx)
	if err != nil {
		return err
	}
	at := withUnread(polls, []string{source})[0]
	if at.Moves == 0 {
		return fmt.Errorf("the log of %s: %w: it was never read\nhint: sources.%s.poll.since says where it begins", source, store.ErrNotFound, source)
	}
	if to.After != "" {
		e, err := s.Event(ctx, source, to.After)
		switch {
		case err == nil:
			to.Occurred = e.Occurred
		case !errors.Is(err, store.ErrNotFound):
			return err
		default:
			c.say("the ledger does not know %s; if the provider does not either, its log is read from the oldest that it keeps", printable(to.After))
		}
	}
	t := table{head: []string{"SOURCE", "CURSOR", "ITS EVENT", "MOVES TO", "ITS EVENT"}}
	t.add(source, cursorText(at.PollCursor), when(at.Occurred), cursorText(to), when(to.Occurred))
	if err := t.write(c.out); err != nil {
		return err
	}
	if err := d.consent(); err != nil {
		return err
	}
	by, err := operatorName()
	if err != nil {
		return err
	}
	if err := s.RewindPoll(ctx, source, to, by); err != nil {
		return err
	}
	c.say("moved; `rollcall poll status` shows how far it is read again")
	return nil
}

// onePolled is the source that is named, or the only one that is polled.
func onePolled(conf config.Config, source string) (string, error) {
	return oneOfSources(polledSources(conf), source, "polled")
}

// oneOfSources is the source that is named, or the only one there is. All of them are what is said.
func oneOfSources(names []string, source, what string) (string, error) {
	switch {
	case source == "" && len(names) == 1:
		return names[0], nil
	case len(names) == 0:
		return "", fmt.Errorf("no source is %s: %w\nhint: sources.NAME.api.key says where the provider's key is", what, store.ErrNotFound)
	case source == "":
		return "", fmt.Errorf("%w: several sources are %s\nhint: --source is one of %s", errUsage, what, strings.Join(names, ", "))
	case !slices.Contains(names, source):
		return "", fmt.Errorf("source %s is not %s: %w\nhint: there is %s", source, what, store.ErrNotFound, strings.Join(names, ", "))
	}
	return source, nil
}
