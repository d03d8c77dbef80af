package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/queue"
)

// chosen are the dead events that a command is for: those named, or all that the filter leaves.
type chosen struct {
	filter store.EventFilter
	all    bool
}

const (
	deadAtMost = 1_000_000
	deadAtOnce = 100 // bodies in memory, and in a transaction
)

func (x *chosen) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVar(&x.all, "all", false, "all that the other flags leave, but for those that come back by themselves")
	eventFilterFlags(flags, &x.filter)
	flags.StringVar(&x.filter.Class, "class", "", "only ones of this `class`: "+strings.Join(deadClasses, ", "))
}

// of returns the events, newest first and without bodies.
func (x *chosen) of(ctx context.Context, s store.Store, ids []string) ([]store.Dead, error) {
	narrowed := x.filter.Class != "" || x.filter.Type != "" || x.filter.Directory != "" || !x.filter.Since.IsZero()
	switch {
	case len(ids) > 0 && (x.all || narrowed):
		return nil, fmt.Errorf("%w: events are named, or chosen by --all and its filters\nhint: leave one of them out", errUsage)
	case len(ids) == 0 && !x.all:
		return nil, fmt.Errorf("%w: no event is named\nhint: `rollcall dead list` shows all; --all is for all that --source, --class, --type, --directory and --since leave", errUsage)
	}
	if err := oneOf("--class", x.filter.Class, deadClasses...); err != nil {
		return nil, err
	}
	if x.all {
		x.filter.Limit = deadAtMost
		found, err := s.DeadEvents(ctx, x.filter)
		if x.filter.Class == "" {
			found = slices.DeleteFunc(found, func(d store.Dead) bool { return !d.Due.IsZero() })
		}
		return found, err
	}
	var found []store.Dead
	for _, id := range ids {
		d, err := s.DeadEvent(ctx, x.filter.Source, id)
		if err != nil {
			return nil, fmt.Errorf("%w\nhint: `rollcall dead list` shows all that are parked", err)
		}
		found = append(found, d)
	}
	return found, nil
}

// previewDead counts the events by what they are.
func previewDead(events []store.Dead) table {
	type kind struct{ class, source, eventType string }
	counts := map[kind]int64{}
	for _, d := range events {
		counts[kind{d.Class, d.Source, d.Type}]++
	}
	t := table{head: []string{"EVENTS", "CLASS", "SOURCE", "TYPE"}}
	for _, k := range slices.SortedFunc(maps.Keys(counts), func(a, b kind) int {
		return cmp.Or(cmp.Compare(a.class, b.class), cmp.Compare(a.source, b.source), cmp.Compare(a.eventType, b.eventType))
	}) {
		t.add(number(counts[k]), k.class, k.source, k.eventType)
	}
	return t
}

// choose shows what would be done to which events, and returns them when the operator said yes; none when there are none.
func (c *cli) choose(ctx context.Context, s store.Store, x chosen, ids []string, d deciding) ([]store.Dead, error) {
	events, err := x.of(ctx, s, ids)
	if err != nil {
		return nil, err
	}
	if len(events) == 0 {
		c.say("none")
		return nil, nil
	}
	if err := previewDead(events).write(c.out); err != nil {
		return nil, err
	}
	return events, d.consent()
}

func (c *cli) deadReplay() *cobra.Command {
	var x chosen
	var d deciding
	cmd := &cobra.Command{
		Use:   "replay [EVENT...]",
		Short: "Fold parked events once more",
		Long: `Puts parked events into the queue once more, whole as they were received: for after what was
wrong with the database, the configuration or this program was mended. Each is folded
under its own version, so that what was said since still counts; what cannot be folded is
parked again. It first says which events it would be; --yes does it. It exits with 5 when
some were parked again.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withStore(cmd.Context(), func(s store.Store) error {
				events, err := c.choose(cmd.Context(), s, x, args, d)
				if err != nil || len(events) == 0 {
					return err
				}
				return c.replay(cmd.Context(), s, events, d.wait)
			})
		},
	}
	x.flags(cmd)
	d.yesFlag(cmd)
	cmd.Flags().DurationVar(&d.wait, "wait", waitForWorker, "how long to wait until workers have folded them")
	return cmd
}

// replay makes the events due, for a worker to take them into the queue, oldest first, and tells what came of them.
func (c *cli) replay(ctx context.Context, s store.Store, events []store.Dead, wait time.Duration) error {
	now, err := s.Clock(ctx)
	if err != nil {
		return err
	}
	now = now.UTC().Truncate(time.Microsecond)
	slices.Reverse(events)
	handed := map[store.EventKey]bool{}
	for chunk := range slices.Chunk(events, deadAtOnce) {
		keys, err := makeDue(ctx, s, chunk, now)
		if err != nil {
			return fmt.Errorf("%d of %d are handed to the workers: %w", len(handed), len(events), err)
		}
		for _, k := range keys {
			handed[k] = true
		}
	}
	return c.awaitReplayed(ctx, s, handed, now, wait)
}

// awaitReplayed waits until workers have folded what was handed to them, and tells what came of it.
func (c *cli) awaitReplayed(ctx context.Context, s store.Store, handed map[store.EventKey]bool, now time.Time, wait time.Duration) error {
	var waits, again int
	_, err := poll(ctx, wait, func() (_ bool, err error) {
		waits, again, err = replayed(ctx, s, handed, now)
		return waits == 0, err
	})
	if err != nil {
		return err
	}
	c.say("%d folded, %d parked again, %d wait for a worker", len(handed)-waits-again, again, waits)
	if again > 0 {
		return fmt.Errorf("%w: %d of %d were parked again\nhint: `rollcall dead list` says why", errCheck, again, len(handed))
	}
	return nil
}

// makeDue lets a worker take parked events into the queue by force, and returns those that were still parked. What Rollcall said
// itself, for an operator or for a directory's listing, stays that.
func makeDue(ctx context.Context, s store.Store, events []store.Dead, now time.Time) (keys []store.EventKey, err error) {
	var all []store.EventKey
	var whole []store.Dead
	for _, d := range events {
		dead, err := s.DeadEvent(ctx, d.Source, d.ID)
		if err != nil {
			return nil, err
		}
		dead.Due, dead.Attempts = now, dead.Attempts+1
		if dead.Origin != string(queue.Operator) && dead.Origin != string(queue.Reconcile) {
			dead.Origin = string(queue.Replay)
		}
		all, whole = append(all, dead.EventKey), append(whole, dead)
	}
	err = s.Update(ctx, nil, func(ctx context.Context, tx store.Tx) error {
		_, known, err := tx.Load(ctx, directory.Need{}, all)
		if err != nil {
			return err
		}
		var b store.Batch
		for _, dead := range whole {
			entry, seen := known[dead.EventKey]
			if seen && entry.Outcome != store.Parked {
				continue // it was folded meanwhile
			}
			if seen {
				entry.Reopen = true
				b.Ledger = append(b.Ledger, entry)
			}
			b.Dead, keys = append(b.Dead, dead), append(keys, dead.EventKey)
		}
		return tx.Save(ctx, b)
	})
	return keys, err
}

// replayed counts those that still wait for a worker since the time, and those that were parked again.
func replayed(ctx context.Context, s store.Store, handed map[store.EventKey]bool, since time.Time) (waits, again int, err error) {
	left, err := s.DeadEvents(ctx, store.EventFilter{Limit: deadAtMost})
	for _, d := range left {
		switch {
		case !handed[d.EventKey]:
		case d.Due.Equal(since):
			waits++
		default:
			again++
		}
	}
	return waits, again, err
}

func (c *cli) deadDrop() *cobra.Command {
	var x chosen
	var d deciding
	cmd := &cobra.Command{
		Use:   "drop [EVENT...]",
		Short: "Give parked events up, and their bodies",
		Long: `Removes parked events with the bodies that were received. The ledger keeps that they came,
and, in place of why they were parked, who dropped them and why. It first says which events
it would be; --yes does it. Nothing brings them back.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := d.check(); err != nil {
				return err
			}
			return c.withStore(cmd.Context(), func(s store.Store) error {
				events, err := c.choose(cmd.Context(), s, x, args, d)
				if err != nil || len(events) == 0 {
					return err
				}
				return c.drop(cmd.Context(), s, events, d.reason)
			})
		},
	}
	x.flags(cmd)
	d.reasonFlags(cmd)
	return cmd
}

func (c *cli) drop(ctx context.Context, s store.Store, events []store.Dead, reason string) error {
	by, err := operatorName()
	if err != nil {
		return err
	}
	keys := make([]store.EventKey, len(events))
	for i, d := range events {
		keys[i] = d.EventKey
	}
	n, err := s.Drop(ctx, keys, by, reason)
	if err != nil {
		return err
	}
	c.say("%s dropped; the ledger says by whom", counted(int64(n), "event"))
	return nil
}
