package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

// lineJSON is a change with what came of it. Of the feed, Cursor is where to go on after it.
type lineJSON struct {
	Cursor    string          `json:"cursor,omitempty"`
	Seq       int64           `json:"seq"`
	Kind      string          `json:"kind"`
	Source    string          `json:"source"`
	Directory string          `json:"directory"`
	Account   string          `json:"account,omitempty"`
	AppID     string          `json:"app_id,omitempty"`
	Group     string          `json:"group,omitempty"`
	Role      string          `json:"role,omitempty"`
	Event     string          `json:"event"`
	Occurred  time.Time       `json:"occurred"`
	At        time.Time       `json:"at"`
	Before    *directory.Face `json:"before,omitempty"`
	After     *directory.Face `json:"after,omitempty"`
	Bound     *boundJSON      `json:"bound,omitempty"` // absent while it waits
}

type boundJSON struct {
	At     time.Time `json:"at"`
	Result string    `json:"result"`
	Rows   int64     `json:"rows"`
	Digest string    `json:"digest,omitempty"`
}

// linesOf adds to changes who they are in the application, and what came of them.
func linesOf(ctx context.Context, s store.Store, rows []store.ChangeRow) ([]lineJSON, error) {
	lanes := make([]store.Lane, 0, len(rows))
	for _, r := range rows {
		if r.Account != "" {
			lanes = append(lanes, r.Lane())
		}
	}
	settled, err := s.Settled(ctx, store.Seqs(rows))
	if err != nil {
		return nil, err
	}
	links, err := s.LinksOf(ctx, nil, lanes)
	if err != nil {
		return nil, err
	}
	lines := make([]lineJSON, len(rows))
	for i, r := range rows {
		lines[i] = lineJSON{
			Seq: r.Seq, Kind: string(r.Kind), Source: r.Source, Directory: r.Directory, Account: r.Account, AppID: links[r.Lane()].AppID, Group: r.Group, Role: r.Role,
			Event: r.Event, Occurred: r.Occurred, At: r.At, Before: r.Before, After: r.After,
		}
		if b, ok := settled[r.Seq]; ok {
			lines[i].Bound = &boundJSON{At: b.At, Result: b.Result, Rows: b.Rows, Digest: b.Digest}
		}
	}
	return lines, nil
}

func (c *cli) changes() *cobra.Command {
	return group("changes", "What the application is told, and what came of it", c.changesList(), c.changesTail())
}

func (c *cli) changesList() *cobra.Command {
	var f store.ChangeFilter
	cmd := &cobra.Command{
		Use: "list", Short: "List the newest changes by their sequence, or with --after those that follow", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.Newest = !cmd.Flags().Changed("after")
			return c.withStore(cmd.Context(), func(s store.Store) error { return c.listChanges(cmd.Context(), s, f) })
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.Source, "source", "", "only changes of this `source`")
	flags.StringVar(&f.Directory, "directory", "", "only changes of this `directory`")
	flags.StringVar(&f.Account, "account", "", "only changes of the account with this `key`, its grants and roles")
	flags.StringVar(&f.Event, "event", "", "only changes that this `event` caused")
	flags.Int64Var(&f.After, "after", 0, "only changes after this `sequence`, the oldest first; 0 is from the first")
	flags.IntVar(&f.Limit, "limit", 50, "at most so many")
	return c.outputFlag(cmd)
}

func (c *cli) listChanges(ctx context.Context, s store.Store, f store.ChangeFilter) error {
	limit := f.Limit
	f.Limit++
	rows, err := s.Changes(ctx, f)
	if err != nil {
		return err
	}
	if f.Newest { // the one that was asked for to know whether there are more is the first
		slices.Reverse(rows)
	}
	rows = limited(c, rows, limit)
	if f.Newest {
		slices.Reverse(rows)
	}
	lines, err := linesOf(ctx, s, rows)
	if err != nil {
		return err
	}
	t := table{head: []string{"SEQ", "AT", "CHANGE", "ACCOUNT", "OF", "APP ID", "RESULT", "ROWS", "DIRECTORY"}}
	for _, l := range lines {
		result, touched := "waits", ""
		if l.Bound != nil {
			result, touched = l.Bound.Result, strconv.FormatInt(l.Bound.Rows, 10)
		}
		t.add(strconv.FormatInt(l.Seq, 10), when(l.At), l.Kind, l.Account, l.of(), l.AppID, result, touched, l.Directory)
	}
	return c.print(lines, t)
}

// of is what else a change is of: a role, or a group.
func (l lineJSON) of() string {
	if l.Role != "" {
		return l.Role
	}
	return groupOf(changeJSON{Group: l.Group, Before: l.Before, After: l.After})
}

// tail is how the feed is followed.
type tail struct {
	after  string
	follow bool
	limit  int // lines; 0 is all
}

const (
	tailPage  = 100
	tailEvery = 500 * time.Millisecond
)

func (c *cli) changesTail() *cobra.Command {
	var how tail
	var format string
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Print changes as JSON lines, in an order that can be resumed",
		Long: `One change a line. Changes of one directory come in the order of their sequence, those of
different directories in the order in which they were committed: a sequence may be less than
the one before it, and none is ever missed.

Every line has the cursor to go on with: --after CURSOR. Keep it after whatever the line
said is done, and each change comes at least once; after an interruption, the last ones may
come again with the same sequence. "bound" is what had come of a change when it was printed.

With --follow it goes on until it is interrupted, which is a clean end.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if format != "json" {
				return fmt.Errorf("%w: -o %q is not json\nhint: `rollcall changes list` prints a table", errUsage, format)
			}
			if how.limit < 0 {
				return fmt.Errorf("%w: --limit %d is less than 0\nhint: leave it out for all", errUsage, how.limit)
			}
			return c.withStore(cmd.Context(), func(s store.Store) error { return c.tailChanges(cmd.Context(), s, how) })
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&format, "output", "o", "json", "`format` of the data: json")
	flags.StringVar(&how.after, "after", "", "go on after this `cursor`; else from the first change")
	flags.BoolVarP(&how.follow, "follow", "f", false, "wait for more")
	flags.IntVar(&how.limit, "limit", 0, "end after so many lines; 0 is no limit")
	return cmd
}

// tailChanges prints the feed. The end of the context is a clean end.
func (c *cli) tailChanges(ctx context.Context, s store.Store, how tail) error {
	ticker := time.NewTicker(tailEvery)
	defer ticker.Stop()
	for left := how.limit; ; {
		page := tailPage
		if how.limit > 0 {
			page = min(page, left)
		}
		n, err := c.tailPage(ctx, s, &how.after, page)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // whoever interrupts it has what they wanted
		}
		if err != nil {
			return err
		}
		left -= n
		if how.limit > 0 && left == 0 || n == 0 && !how.follow {
			return nil
		}
		if n > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// tailPage prints changes after the cursor, and moves it.
func (c *cli) tailPage(ctx context.Context, s store.Store, cursor *string, limit int) (int, error) {
	rows, err := s.Feed(ctx, *cursor, limit)
	if errors.Is(err, store.ErrNotFound) {
		return 0, noCursor(err)
	}
	if err != nil {
		return 0, err
	}
	changes := make([]store.ChangeRow, len(rows))
	for i, r := range rows {
		changes[i] = r.ChangeRow
	}
	lines, err := linesOf(ctx, s, changes)
	if err != nil {
		return 0, err
	}
	for i, l := range lines {
		l.Cursor = rows[i].Cursor
		if err := c.printLine(l); err != nil {
			return 0, err
		}
		*cursor = l.Cursor
	}
	return len(lines), nil
}

func noCursor(err error) error {
	hint := ""
	if !strings.Contains(err.Error(), "\nhint: ") {
		hint = "\nhint: it is the \"cursor\" of a line that was printed, of this database"
	}
	return fmt.Errorf("%w: --after: %w%s", errUsage, err, hint)
}

// printLine writes a value as one line of JSON.
func (c *cli) printLine(value any) error {
	var document, line bytes.Buffer
	if err := printJSON(&document, value); err != nil {
		return err
	}
	if err := json.Compact(&line, document.Bytes()); err != nil {
		return err
	}
	line.WriteByte('\n')
	_, err := c.out.Write(line.Bytes())
	return err
}
