package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/rollcallhq/rollcall/internal/reconcile"
	"github.com/rollcallhq/rollcall/internal/store"
)

// deadJSON is an event that could not be folded. Body is the JSON that was received, or BodyBase64 its bytes.
type deadJSON struct {
	Source     string          `json:"source"`
	ID         string          `json:"id"`
	Type       string          `json:"type,omitempty"`
	Directory  string          `json:"directory,omitempty"`
	Class      string          `json:"class"`
	Error      string          `json:"error"`
	Origin     string          `json:"origin"`
	Received   time.Time       `json:"received"`
	Parked     time.Time       `json:"parked"`
	Due        *time.Time      `json:"due,omitempty"`
	KeyVersion string          `json:"key_version,omitempty"`
	SignedAt   *time.Time      `json:"signed_at,omitempty"`
	Body       json.RawMessage `json:"body,omitempty"`
	BodyBase64 string          `json:"body_base64,omitempty"`
}

func deadOf(d store.Dead) deadJSON {
	out := deadJSON{
		Source: d.Source, ID: d.ID, Type: d.Type, Directory: d.Directory, Class: d.Class, Error: d.Error, Origin: d.Origin,
		Received: d.Received, Parked: d.Parked, Due: optional(d.Due), KeyVersion: d.KeyVersion, SignedAt: optional(d.SignedAt),
	}
	switch {
	case len(d.Body) == 0:
	case json.Valid(d.Body) && utf8.Valid(d.Body):
		out.Body = d.Body
	default:
		out.BodyBase64 = base64.StdEncoding.EncodeToString(d.Body)
	}
	return out
}

// deadClasses are what may be wrong with a parked event. Those of class operator and reconcile wait for a worker.
var deadClasses = []string{"undecodable", "invalid", "data", "future", "unconfigured", "operator", reconcile.Class}

func (c *cli) dead() *cobra.Command {
	return group("dead", "Events that could not be folded, kept whole", c.deadList(), c.deadShow(), c.deadReplay(), c.deadDrop())
}

func (c *cli) deadList() *cobra.Command {
	var f store.EventFilter
	cmd := &cobra.Command{
		Use: "list", Short: "List parked events, newest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOf("--class", f.Class, deadClasses...); err != nil {
				return err
			}
			return c.withStore(cmd.Context(), func(s store.Store) error { return c.listDead(cmd.Context(), s, f) })
		},
	}
	eventFlags(cmd.Flags(), &f)
	cmd.Flags().StringVar(&f.Class, "class", "", "only ones of this `class`: "+strings.Join(deadClasses, ", "))
	return c.outputFlag(cmd)
}

func (c *cli) listDead(ctx context.Context, s store.Store, f store.EventFilter) error {
	limit := f.Limit
	f.Limit++
	rows, err := s.DeadEvents(ctx, f)
	if err != nil {
		return err
	}
	out, t := []deadJSON{}, table{head: []string{"PARKED", "EVENT", "TYPE", "CLASS", "ERROR"}}
	for _, d := range limited(c, rows, limit) {
		out = append(out, deadOf(d))
		t.add(when(d.Parked), d.ID, d.Type, d.Class, d.Error)
	}
	return c.print(out, t)
}

func (c *cli) deadShow() *cobra.Command {
	var source string
	cmd := &cobra.Command{
		Use: "show EVENT", Short: "Show a parked event with the body that was received", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withStore(cmd.Context(), func(s store.Store) error { return c.showDead(cmd.Context(), s, source, args[0]) })
		},
	}
	cmd.Flags().StringVar(&source, "source", "", "the event's `source`, where several have one of this id")
	return c.outputFlag(cmd)
}

func (c *cli) showDead(ctx context.Context, s store.Store, source, id string) error {
	d, err := s.DeadEvent(ctx, source, id)
	if err != nil {
		return fmt.Errorf("%w\nhint: `rollcall dead list` shows all that are parked", err)
	}
	out := deadOf(d)
	var body bytes.Buffer
	if out.Body != nil {
		_ = json.Compact(&body, out.Body) // it is valid
	}
	body.WriteString(prefixed("base64 ", out.BodyBase64))
	var t table
	for _, row := range [][2]string{
		{"event", d.ID}, {"source", d.Source}, {"type", d.Type}, {"directory", d.Directory}, {"class", d.Class}, {"error", d.Error},
		{"by way of", d.Origin}, {"signed", when(d.SignedAt)}, {"received", when(d.Received)}, {"parked", when(d.Parked)}, {"due", when(d.Due)},
		{"key version", d.KeyVersion}, {"body", body.String()},
	} {
		t.add(row[0], row[1])
	}
	return c.print(out, t)
}
