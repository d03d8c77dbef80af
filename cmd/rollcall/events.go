package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/rollcallhq/rollcall/internal/config"
	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

// eventJSON is a line of the ledger.
type eventJSON struct {
	Source       string     `json:"source"`
	ID           string     `json:"id"`
	Type         string     `json:"type"`
	Subject      string     `json:"subject"`
	Directory    string     `json:"directory"`
	Organization string     `json:"organization,omitempty"`
	Occurred     *time.Time `json:"occurred,omitempty"`
	Received     time.Time  `json:"received"`
	Folded       time.Time  `json:"folded"`
	Origin       string     `json:"origin"`
	Outcome      string     `json:"outcome"`
	Reason       string     `json:"reason,omitempty"`
	KeyVersion   string     `json:"key_version,omitempty"`
	SignedAt     *time.Time `json:"signed_at,omitempty"`
	BodySHA256   string     `json:"body_sha256"`
	Binary       string     `json:"binary_version"`
	Config       string     `json:"config_digest"`

	Changes []changeJSON `json:"changes,omitempty"`
}

// changeJSON is what an event did.
type changeJSON struct {
	Seq     int64           `json:"seq"`
	At      time.Time       `json:"at"`
	Kind    string          `json:"kind"`
	Account string          `json:"account,omitempty"`
	Group   string          `json:"group,omitempty"`
	Role    string          `json:"role,omitempty"`
	Event   string          `json:"event"`
	Before  *directory.Face `json:"before,omitempty"`
	After   *directory.Face `json:"after,omitempty"`
}

func eventOf(e store.Entry) eventJSON {
	return eventJSON{
		Source: e.Source, ID: e.ID, Type: e.Type, Subject: e.Subject, Directory: e.Directory, Organization: e.Organization,
		Occurred: optional(e.Occurred), Received: e.Received, Folded: e.Folded, Origin: e.Origin, Outcome: string(e.Outcome),
		Reason: e.Reason, KeyVersion: e.KeyVersion, SignedAt: optional(e.SignedAt), BodySHA256: e.BodySHA256, Binary: e.Binary, Config: e.Config,
	}
}

func changesOf(rows []store.ChangeRow) []changeJSON {
	out := make([]changeJSON, 0, len(rows))
	for _, r := range rows {
		out = append(out, changeJSON{
			Seq: r.Seq, At: r.At, Kind: string(r.Kind), Account: r.Account, Group: r.Group, Role: r.Role, Event: r.Event, Before: r.Before, After: r.After,
		})
	}
	return out
}

func optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func (c *cli) events() *cobra.Command {
	return group("events", "The ledger: every verified event and what came of it", c.eventsList(), c.eventsShow())
}

func (c *cli) eventsList() *cobra.Command {
	var f store.EventFilter
	cmd := &cobra.Command{
		Use: "list", Short: "List events, newest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOf("--outcome", string(f.Outcome), string(store.Applied), string(store.Superseded), string(store.Ignored), string(store.Parked)); err != nil {
				return err
			}
			return c.withStore(cmd.Context(), func(s store.Store) error { return c.listEvents(cmd.Context(), s, f) })
		},
	}
	eventFlags(cmd.Flags(), &f)
	cmd.Flags().StringVar((*string)(&f.Outcome), "outcome", "", "only ones of this `outcome`: applied, superseded, ignored or parked")
	cmd.Flags().StringVar(&f.Subject, "subject", "", "only events of this `id`: a user's, a group's, GROUP/USER, a directory's")
	return c.outputFlag(cmd)
}

func eventFlags(flags *pflag.FlagSet, f *store.EventFilter) {
	eventFilterFlags(flags, f)
	flags.IntVar(&f.Limit, "limit", 50, "at most so many")
}

func eventFilterFlags(flags *pflag.FlagSet, f *store.EventFilter) {
	flags.StringVar(&f.Source, "source", "", "only events of this `source`")
	flags.StringVar(&f.Directory, "directory", "", "only events of this `directory`")
	flags.StringVar(&f.Type, "type", "", "only events of this `type`, such as dsync.user.deleted")
	flags.Func("since", "only those received in the last `duration`, such as 24h or 7d, or since an RFC 3339 time", func(text string) (err error) {
		f.Since, err = parseSince(text, time.Now())
		return err
	})
}

func parseSince(text string, now time.Time) (time.Time, error) {
	if d, err := config.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	return time.Time{}, errors.New("it is neither a duration such as 24h or 7d nor a time such as 2026-01-02T15:04:05Z")
}

// oneOf checks a flag that is empty or one of a few words.
func oneOf(flag, value string, words ...string) error {
	if value != "" && !slices.Contains(words, value) {
		return fmt.Errorf("%w: %s %q is not known\nhint: there is %s", errUsage, flag, value, strings.Join(words, ", "))
	}
	return nil
}

func (c *cli) listEvents(ctx context.Context, s store.Store, f store.EventFilter) error {
	limit := f.Limit
	f.Limit++
	entries, err := s.Events(ctx, f)
	if err != nil {
		return err
	}
	out, t := []eventJSON{}, table{head: []string{"RECEIVED", "EVENT", "TYPE", "SUBJECT", "OUTCOME"}}
	for _, e := range limited(c, entries, limit) {
		out = append(out, eventOf(e))
		t.add(when(e.Received), e.ID, e.Type, e.Subject, string(e.Outcome)+prefixed(": ", e.Reason))
	}
	return c.print(out, t)
}

func (c *cli) eventsShow() *cobra.Command {
	var source string
	cmd := &cobra.Command{
		Use: "show EVENT", Short: "Show an event and what it changed", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withStore(cmd.Context(), func(s store.Store) error { return c.showEvent(cmd.Context(), s, source, args[0]) })
		},
	}
	cmd.Flags().StringVar(&source, "source", "", "the event's `source`, where several have one of this id")
	return c.outputFlag(cmd)
}

func (c *cli) showEvent(ctx context.Context, s store.Store, source, id string) error {
	e, err := s.Event(ctx, source, id)
	if err != nil {
		return fmt.Errorf("%w\nhint: `rollcall events list` shows what arrived; what waits is in `rollcall queue`", err)
	}
	changes, err := s.Changes(ctx, store.ChangeFilter{Source: e.Source, Event: e.ID, Limit: 1000})
	if err != nil {
		return err
	}
	out := eventOf(e)
	out.Changes = changesOf(changes)
	var t table
	for _, row := range [][2]string{
		{"event", e.ID}, {"source", e.Source}, {"type", e.Type}, {"subject", e.Subject}, {"directory", e.Directory}, {"organization", e.Organization},
		{"occurred", when(e.Occurred)}, {"signed", when(e.SignedAt)}, {"received", when(e.Received)}, {"folded", when(e.Folded)}, {"by way of", e.Origin},
		{"key version", e.KeyVersion}, {"outcome", string(e.Outcome) + prefixed(": ", e.Reason)}, {"body sha256", e.BodySHA256},
		{"binary", e.Binary}, {"configuration", e.Config},
	} {
		t.add(row[0], row[1])
	}
	for _, change := range out.Changes {
		t.add("change "+fmt.Sprint(change.Seq), change.sentence())
	}
	return c.print(out, t)
}

// sentence says a change in words.
func (ch changeJSON) sentence() string {
	parts := []string{ch.Kind}
	if ch.Account != "" {
		parts = append(parts, "account", ch.Account)
	}
	if ch.Group != "" {
		parts = append(parts, "group", ch.Group)
	}
	if ch.Role != "" {
		parts = append(parts, "role", ch.Role)
	}
	if ch.After != nil && ch.After.Email != "" {
		parts = append(parts, "<"+ch.After.Email+">")
	}
	return strings.Join(parts, " ")
}
