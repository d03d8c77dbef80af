package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/rollcallhq/rollcall/internal/app"
	"github.com/rollcallhq/rollcall/internal/config"
	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/provider"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/queue"
)

// replaying is which part of a provider's log is folded again.
type replaying struct {
	source       string
	types        []string
	since, until time.Time
}

func (c *cli) replayLog() *cobra.Command {
	var x replaying
	var d deciding
	cmd := &cobra.Command{
		Use:   "replay",
		Short: "Fold a part of the provider's log of events again",
		Long: `Reads the provider's log of events from --since to --until and hands to the workers what the ledger
lacks, and what it holds as parked or ignored, to be folded again in place. Events that were
applied or superseded stay as they are: nothing happens twice. It first says how many events
there are and what would become of them; --yes does it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if x.since.IsZero() {
				return fmt.Errorf("%w: --since is missing\nhint: a time such as 2026-01-02T15:04:05Z, or a duration such as 24h", errUsage)
			}
			return c.withConfiguredStore(cmd.Context(), func(l config.Loaded, s store.Store) error { return c.replayPart(cmd.Context(), l.Config, s, x, d) })
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&x.source, "source", "", "the `source`, where several have an API key")
	flags.StringSliceVar(&x.types, "type", nil, "only events of these `types`, such as dsync.user.deleted")
	for name, at := range map[string]*time.Time{"since": &x.since, "until": &x.until} {
		about := map[string]string{"since": "from this RFC 3339 `time` on, or so long ago, such as 24h or 7d", "until": "up to this `time`; not said: up to now"}
		flags.Func(name, about[name], func(text string) (err error) {
			*at, err = parseSince(text, time.Now())
			return err
		})
	}
	d.yesFlag(cmd)
	flags.DurationVar(&d.wait, "wait", waitForWorker, "how long to wait until workers have folded them")
	return cmd
}

// kindOfEvent are the events of a log, by their type and what the ledger says of them, which is empty for nothing.
type kindOfEvent struct {
	eventType string
	outcome   store.Outcome
}

func (c *cli) replayPart(ctx context.Context, conf config.Config, s store.Store, x replaying, d deciding) (err error) {
	if x.source, err = oneAsked(conf, x.source); err != nil {
		return err
	}
	api, done, err := app.OpenAPI(ctx, conf, x.source)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	now, err := s.Clock(ctx)
	if err != nil {
		return err
	}
	r := replayer{store: s, now: now.UTC().Truncate(time.Microsecond), source: x.source, yes: d.yes, counts: map[kindOfEvent]int64{}, handed: map[store.EventKey]bool{}}
	if err := eachPage(ctx, api, x, r.page); err != nil {
		return fmt.Errorf("%d events are handed to the workers: %w", len(r.handed), err)
	}
	if len(r.counts) == 0 {
		c.say("none")
		return nil
	}
	if err := r.preview().write(c.out); err != nil {
		return err
	}
	if err := d.consent(); err != nil {
		return err
	}
	return c.awaitReplayed(ctx, s, r.handed, r.now, d.wait)
}

// oneAsked is the source that is named, or the only one whose provider can be asked.
func oneAsked(conf config.Config, source string) (string, error) {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(conf.Sources)) {
		if conf.Sources[name].API.Key != "" {
			names = append(names, name)
		}
	}
	return oneOfSources(names, source, "one whose provider can be asked")
}

// eachPage reads the log from one time to another.
func eachPage(ctx context.Context, log provider.Log, x replaying, do func(context.Context, []provider.LogEvent) error) error {
	for q := (provider.LogQuery{Types: x.types, Since: x.since, Until: x.until}); ; {
		p, err := log.Page(ctx, q)
		if err != nil {
			return err
		}
		if err := do(ctx, p.Events); err != nil {
			return err
		}
		if !p.More || p.After == q.After {
			return nil
		}
		q.After = p.After
	}
}

// replayer hands events to the workers, or only counts them.
type replayer struct {
	store  store.Store
	source string
	now    time.Time
	yes    bool
	counts map[kindOfEvent]int64
	handed map[store.EventKey]bool
}

// page takes a page of the log.
func (r *replayer) page(ctx context.Context, events []provider.LogEvent) error {
	if len(events) == 0 {
		return nil
	}
	keys := make([]store.EventKey, len(events))
	for i, e := range events {
		keys[i] = store.EventKey{Source: r.source, ID: e.Key()}
	}
	known, err := r.store.Known(ctx, keys)
	if err != nil {
		return err
	}
	var again []provider.LogEvent
	for i, e := range events {
		outcome := known[keys[i]]
		r.counts[kindOfEvent{e.Type, outcome}]++
		if outcome == "" || outcome.Reopens() {
			again = append(again, e)
		}
	}
	if !r.yes || len(again) == 0 {
		return nil
	}
	return r.hand(ctx, again)
}

// hand writes the events down as due, for a worker to take into the queue: so it works beside a running service whatever its queue
// is.
func (r *replayer) hand(ctx context.Context, events []provider.LogEvent) error {
	keys := make([]store.EventKey, len(events))
	for i, e := range events {
		keys[i] = store.EventKey{Source: r.source, ID: e.Key()}
	}
	return r.store.Update(ctx, nil, func(ctx context.Context, tx store.Tx) error {
		_, known, err := tx.Load(ctx, directory.Need{}, keys)
		if err != nil {
			return err
		}
		var b store.Batch
		for i, e := range events {
			entry, seen := known[keys[i]]
			if seen && !entry.Outcome.Reopens() {
				continue // it was folded meanwhile
			}
			b.Ledger = append(b.Ledger, r.entry(keys[i], e, entry, seen))
			b.Dead = append(b.Dead, store.Dead{
				EventKey: keys[i], Type: e.Type, Directory: e.Directory, Class: "operator", Error: waiting, Body: e.Body, Origin: string(queue.Replay),
				Received: r.now, Due: r.now,
			})
			r.handed[keys[i]] = true
		}
		return tx.Save(ctx, b)
	})
}

// entry is what the ledger says of an event that waits for a worker.
func (r *replayer) entry(key store.EventKey, e provider.LogEvent, old store.Entry, seen bool) store.Entry {
	if seen {
		old.Outcome, old.Reason, old.Reopen = store.Parked, waiting, true
		return old
	}
	sum := sha256.Sum256(e.Body)
	return store.Entry{
		EventKey: key, Type: e.Type, Directory: e.Directory, Occurred: e.Created, Received: r.now, Origin: string(queue.Replay),
		Outcome: store.Parked, Reason: waiting, BodySHA256: hex.EncodeToString(sum[:]), Binary: version,
	}
}

// preview says what would become of the events.
func (r *replayer) preview() table {
	become := map[store.Outcome]string{
		"": "folded", store.Parked: "folded again", store.Ignored: "folded again", store.Applied: "stay", store.Superseded: "stay",
	}
	t := table{head: []string{"EVENTS", "TYPE", "IN THE LEDGER", "ARE"}}
	for _, k := range slices.SortedFunc(maps.Keys(r.counts), func(a, b kindOfEvent) int {
		return cmp.Or(cmp.Compare(a.outcome, b.outcome), cmp.Compare(a.eventType, b.eventType))
	}) {
		t.add(number(r.counts[k]), k.eventType, cmp.Or(string(k.outcome), "no"), become[k.outcome])
	}
	return t
}
