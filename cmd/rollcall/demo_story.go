package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/simulator"
	"github.com/rollcallhq/rollcall/internal/store"
)

// story tells all of it: the first sync, what happens then, and the comparison.
func (d *demo) story(ctx context.Context, ended chan error) (err error) {
	if err := d.connect(ctx, ended); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.store.Close()) }()
	d.show("Rollcall %s answers at %s, in %s\n", version, d.url(), d.dir)
	directory, begin := simulator.New(simulator.Config{Seed: d.seed, People: 5, Groups: 3, Now: time.Now})
	d.show("A simulated directory: 5 people, 3 groups (seed %d).\nIts deliveries are signed; some come twice, or out of order.\n\n", d.seed)
	if err := d.send(ctx, begin); err != nil {
		return err
	}
	d.show("\nNow people join, move and leave.\n\n")
	for range d.things {
		if err := d.send(ctx, directory.Step()); err != nil {
			return err
		}
	}
	if err := d.settle(ctx); err != nil {
		return err
	}
	if err := d.compare(ctx, directory.Expected()); err != nil {
		return err
	}
	d.compared = true
	if d.keep {
		return d.stay(ctx)
	}
	return nil
}

// send delivers what happened and shows each arrival and what it did.
func (d *demo) send(ctx context.Context, deliveries []simulator.Delivery) error {
	d.sender.OnAnswer = func(a simulator.Answer) {
		d.arrived(ctx, a)
		if !d.fast {
			pause(ctx, 120*time.Millisecond)
		}
	}
	_, err := d.sender.Send(ctx, deliveries)
	return err
}

// arrived prints a delivery's line when its event is in the ledger. Of twins the one that is answered first is told as the
// first, whichever was sent first.
func (d *demo) arrived(ctx context.Context, a simulator.Answer) {
	what := "not accepted, it is sent again"
	switch {
	case !a.Accepted():
	case d.seen[a.Delivery.ID]:
		what = "repeated: it is known already, nothing is done"
	default:
		d.seen[a.Delivery.ID] = true
		what = d.effect(ctx, a.Delivery)
	}
	if ctx.Err() == nil {
		d.show("%s  %d  %-24s %s\n                    %s\n", time.Now().Format("15:04:05.000"), a.Status, a.Delivery.Type, a.Delivery.Summary, what)
	}
}

// effect waits for the event's line in the ledger and says what came of it.
func (d *demo) effect(ctx context.Context, delivery simulator.Delivery) string {
	e, err := d.store.Event(ctx, "workos", delivery.ID)
	for errors.Is(err, store.ErrNotFound) && ctx.Err() == nil {
		pause(ctx, 5*time.Millisecond)
		e, err = d.store.Event(ctx, "workos", delivery.ID)
	}
	if err != nil {
		return err.Error()
	}
	changes, err := d.store.Changes(ctx, store.ChangeFilter{Source: "workos", Event: delivery.ID, Limit: 100})
	if err != nil {
		return err.Error()
	}
	if len(changes) > 0 || e.Outcome != store.Applied {
		return effectOf(e, changes)
	}
	dump, err := d.store.Dump(ctx)
	if err != nil {
		return err.Error()
	}
	return withoutEffect(e, dump.Users)
}

// effectOf says what an event changed, and how long after its arrival that was true.
func effectOf(e store.Entry, changes []store.ChangeRow) string {
	if len(changes) == 0 {
		return string(e.Outcome) + ": something newer was known already, nothing is done"
	}
	var parts, gained, lost []string
	for _, ch := range changesOf(changes) {
		switch kind := directory.ChangeKind(ch.Kind); {
		case len(changes) > 1 && kind == directory.GrantAdded:
			gained = append(gained, groupOf(ch))
		case len(changes) > 1 && kind == directory.GrantRevoked:
			lost = append(lost, groupOf(ch))
		default:
			parts = append(parts, ch.Kind+prefixed(" ", groupOf(ch)))
		}
	}
	parts = append(parts, listed("gained ", gained)...)
	parts = append(parts, listed("lost ", lost)...)
	return fmt.Sprintf("%s after %s", strings.Join(parts, "; "), e.Folded.Sub(e.Received).Round(time.Millisecond))
}

// listed names groups, or as many of them as a line holds. A group that several people gain or lose is named once.
func listed(verb string, groups []string) []string {
	if len(groups) == 0 {
		return nil
	}
	names := slices.Compact(slices.Sorted(slices.Values(groups)))
	if len(names) == 1 && len(groups) > 1 {
		return []string{fmt.Sprintf("%s%s, %d times", verb, names[0], len(groups))}
	}
	text := verb + strings.Join(names[:min(len(names), 3)], ", ")
	if more := len(names) - 3; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return []string{text}
}

// withoutEffect says why an event that was applied changed nobody's access. users are all that are known.
func withoutEffect(e store.Entry, users []directory.User) string {
	_, user, isEdge := strings.Cut(e.Subject, "/")
	if !isEdge {
		return "applied: nobody's access changes by it"
	}
	i := slices.IndexFunc(users, func(u directory.User) bool { return u.ID.ID == user })
	switch {
	case i < 0:
		return "kept: the person is not known yet"
	case !users[i].Active:
		return "kept: the person has no access"
	default:
		return "applied: nobody's access changes by it"
	}
}

// settle waits until nothing is left to be done.
func (d *demo) settle(ctx context.Context) error {
	for {
		waiting, _, err := askQueue(ctx, d.config)
		if err != nil {
			return err
		}
		summary, err := d.store.Summary(ctx)
		if err != nil {
			return err
		}
		if waiting.Depth() == 0 && summary.Expansions == 0 {
			return nil
		}
		if pause(ctx, 20*time.Millisecond); ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// compare says whether the database is what the directory means.
func (d *demo) compare(ctx context.Context, want simulator.Expectation) error {
	dump, err := d.store.Dump(ctx)
	if err != nil {
		return err
	}
	summary, err := d.store.Summary(ctx)
	if err != nil {
		return err
	}
	if diff := want.Diff(dump); len(diff) > 0 {
		d.show("\nThe database differs from the directory:\n  %s\n", strings.Join(diff, "\n  "))
		return errCheck
	}
	slowest, leavers, err := d.leavers(ctx)
	if err != nil {
		return err
	}
	d.show("\nThe database equals the directory: %d accounts (%d active), %d group memberships, %d changes by %d events.\n",
		summary.Accounts, summary.ActiveAccounts, summary.Grants, summary.Changes, summary.Events[store.Applied]+summary.Events[store.Superseded])
	if leavers > 0 {
		d.show("Access was taken away %s, at the slowest %d ms after the delivery arrived.\n", times(leavers), slowest.Milliseconds())
	}
	return nil
}

// leavers counts deactivations and returns the longest time from an arrival to the commit of its deactivation.
func (d *demo) leavers(ctx context.Context) (slowest time.Duration, n int, err error) {
	changes, err := d.store.Changes(ctx, store.ChangeFilter{Limit: 1_000_000})
	if err != nil {
		return 0, 0, err
	}
	for _, ch := range changes {
		if ch.Kind != "account.deactivated" {
			continue
		}
		e, err := d.store.Event(ctx, ch.Source, ch.Event)
		if err != nil {
			return 0, 0, err
		}
		n, slowest = n+1, max(slowest, ch.At.Sub(e.Received))
	}
	return slowest, n, nil
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

func (d *demo) show(format string, args ...any) {
	for i, a := range args {
		if s, ok := a.(string); ok {
			args[i] = printable(s)
		}
	}
	if _, err := fmt.Fprintf(d.out, format, args...); err != nil {
		d.giveUp(err)
	}
}

// pause waits, or returns when the context ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
