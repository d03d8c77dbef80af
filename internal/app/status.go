package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/rollcallhq/rollcall/internal/binder"
	"github.com/rollcallhq/rollcall/internal/config"
	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/inventory"
	"github.com/rollcallhq/rollcall/internal/status"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/queue"
	"github.com/rollcallhq/rollcall/secrets"
)

// What a look at the status looks back on, and how much of it.
const (
	statusRecent = time.Hour
	statusWorst  = 24 * time.Hour
	statusMost   = 100_000 // links, runs
	statusPause  = time.Second
)

// LookAt sees how things are, from any process that has the configuration: by the database, by the queue where it can be reached, and by
// what else can be asked from here. It changes nothing. Its error is the database's. quick leaves out comparing the application's listing,
// which reads all of it.
func LookAt(ctx context.Context, c config.Config, s store.Store, quick bool) (status.Look, error) {
	l := looker{config: c, store: s, look: status.Look{Environment: c.Environment}}
	if err := l.database(ctx); err != nil {
		return status.Look{}, err
	}
	l.process(ctx)
	l.queue(ctx)
	l.secrets(ctx)
	if c.Application.Configured() {
		l.bindings(ctx)
	}
	switch {
	case c.Application.Inventory.Accounts == "":
	case quick:
		l.unseen("inventory", "left out, as asked for")
	default:
		l.inventory(ctx)
	}
	return l.look, nil
}

type looker struct {
	config config.Config
	store  store.Store
	look   status.Look
}

// unseen notes what could not be looked at.
func (l *looker) unseen(what, why string) {
	why, _, _ = strings.Cut(why, "\n")
	l.look.Unseen = append(l.look.Unseen, status.Unseen{What: what, Why: why})
}

func (l *looker) database(ctx context.Context) (err error) {
	k := &l.look
	if k.At, err = l.store.Clock(ctx); err != nil {
		return err
	}
	l.lags(ctx)
	l.expected()
	if k.Directories, err = l.store.Tallies(ctx); err != nil {
		return err
	}
	if k.Dead, err = l.store.DeadTallies(ctx); err != nil {
		return err
	}
	if k.Backlog, err = l.store.Backlog(ctx); err != nil {
		return err
	}
	if k.Polls, err = l.store.Polls(ctx); err != nil {
		return err
	}
	return errors.Join(l.runs(ctx), l.ended(ctx), l.links(ctx), l.probes(ctx))
}

// lags notes how long things took. Of a very large ledger the database may not say so within store.timeout.
func (l *looker) lags(ctx context.Context) {
	k, day := &l.look, l.look.At.Add(-statusWorst)
	var err error
	if k.Lags, err = l.store.Lags(ctx, k.At.Add(-statusRecent), day); err != nil {
		k.Lags = nil
		l.unseen("how far events are behind", err.Error())
	}
	if k.Leavers, err = l.store.Leavers(ctx, day); err != nil {
		k.Leavers = nil
		l.unseen("how long leavers kept access", err.Error())
	}
}

// runs notes the last comparison of each directory with its listing if it was not whole, and the last whole one, less what somebody
// approved of since.
func (l *looker) runs(ctx context.Context) error {
	last, err := l.store.Runs(ctx, store.RunFilter{Compares: true, Last: true, Limit: statusMost})
	if err != nil {
		return err
	}
	for _, run := range last {
		if !run.Complete {
			l.look.Runs = append(l.look.Runs, run)
		}
	}
	whole, err := l.store.Runs(ctx, store.RunFilter{Compares: true, Complete: true, Last: true, Limit: statusMost})
	if err != nil {
		return err
	}
	for _, run := range whole {
		if err := l.approved(ctx, &run); err != nil {
			return err
		}
		l.look.Runs = append(l.look.Runs, run)
	}
	return nil
}

// approved counts as repaired what somebody approved of since the run. What was approved before it, it did not find.
func (l *looker) approved(ctx context.Context, run *store.Run) error {
	if run.Open() == 0 {
		return nil
	}
	since, err := l.store.Runs(ctx, store.RunFilter{Source: run.Source, Directory: run.Directory, Limit: statusMost})
	if err != nil {
		return err
	}
	for _, other := range since {
		if other.Trigger != store.TriggerApply || !other.Begun.After(run.Begun) {
			continue
		}
		for kind, c := range run.Kinds {
			for _, of := range []*int64{&c.Held, &c.Asked} {
				n := min(*of, other.Kinds[kind].Repaired)
				*of, c.Repaired = *of-n, c.Repaired+n
			}
			run.Kinds[kind] = c
		}
	}
	return nil
}

// expected notes what the configuration has workers do. That nobody ever did it shows nowhere else.
func (l *looker) expected() {
	l.look.Every, l.look.Compared = map[string]time.Duration{}, map[string]time.Duration{}
	for _, name := range slices.Sorted(maps.Keys(l.config.Sources)) {
		s := l.config.Sources[name]
		if s.Polled() {
			l.look.Every[name] = s.Poll.Every
		}
		if s.API.Key != "" && s.Reconcile.Enabled {
			l.look.Compared[name] = s.Reconcile.Every
		}
	}
}

func (l *looker) ended(ctx context.Context) error {
	held, err := l.store.Held(ctx)
	for _, d := range held {
		e := status.Ended{Scope: d.Scope, Name: d.Name}
		last, err := l.store.Events(ctx, store.EventFilter{Source: d.Source, Directory: d.Directory, Subject: d.Directory, Outcome: store.Applied, Limit: 1})
		if err != nil {
			return err
		}
		if len(last) > 0 {
			e.Since = last[0].Received
		}
		l.look.Ended = append(l.look.Ended, e)
	}
	return err
}

func (l *looker) links(ctx context.Context) error {
	held, err := l.store.Links(ctx, store.LinkFilter{Held: true, Limit: statusMost})
	type key struct {
		directory.Scope
		state store.LinkState
	}
	all := map[key]*status.HeldLinks{}
	for _, link := range held {
		k := key{link.Scope, link.State}
		if all[k] == nil {
			all[k] = &status.HeldLinks{Scope: link.Scope, State: link.State, Since: link.Changed}
		}
		all[k].Count++
		if link.Changed.Before(all[k].Since) {
			all[k].Since = link.Changed
		}
	}
	for _, k := range slices.SortedFunc(maps.Keys(all), func(a, b key) int {
		return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Directory, b.Directory), cmp.Compare(a.state, b.state))
	}) {
		l.look.Links = append(l.look.Links, *all[k])
	}
	return err
}

// probes counts accounts by the worst that a probe says of them.
func (l *looker) probes(ctx context.Context) error {
	var names []string
	for _, p := range l.config.Application.Probes {
		names = append(names, p.Name)
	}
	found, err := l.store.Findings(ctx, names)
	l.look.Probes = status.Probes{Dirty: int(found[binder.Dirty]), Unknown: int(found[binder.Unknown])}
	return err
}

// process asks the process of this configuration whether it is ready. Only one on this machine can be asked.
func (l *looker) process(ctx context.Context) {
	const what = "whether a process runs"
	url, err := OpsURL(l.config.Ops.Address)
	if err != nil {
		l.unseen(what, err.Error())
		return
	}
	url += "/readyz"
	ctx, cancel := context.WithTimeout(ctx, eachWithin)
	defer cancel()
	switch p, err := AskProcess(ctx, url); {
	case err != nil:
		l.unseen(what, "nothing answers at "+url)
	case p.Environment == "":
		l.unseen(what, "what answers at "+url+" does not say that it is a rollcall")
	case p.Other(l.config) != "":
		l.unseen(what, url+" is held by "+p.Other(l.config))
	case p.Status != http.StatusOK:
		l.look.Unready = url
	}
}

func (l *looker) queue(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, eachWithin)
	defer cancel()
	q := status.Queue{Backend: l.config.Queue.Backend, Capacity: l.config.Queue.Depth}
	stats, durability, err := LookAtQueue(ctx, l.config)
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, errClosed):
		l.unseen("queue", err.Error())
		return
	case err != nil:
		q.Err, _, _ = strings.Cut(err.Error(), "\n")
	default:
		q.Depth, q.Oldest, q.Durability, q.Detail = stats.Depth(), stats.Oldest(), string(durability.Class), durability.Detail
		for _, p := range stats.Partitions {
			q.Fullest = max(q.Fullest, p.Depth)
		}
	}
	l.look.Queue = q
}

// errClosed says that a queue cannot be opened from here: its password cannot be read, say.
var errClosed = errors.New("open the queue")

// LookAtQueue asks a queue what waits in it, and how durable it is. An embedded one may be another process's.
func LookAtQueue(ctx context.Context, c config.Config) (stats queue.Stats, d queue.Durability, err error) {
	if c.Queue.Backend == config.BackendEmbedded {
		stats, err = queue.ReadStats(ctx, c.Queue.Embedded.Path)
		return stats, queue.Durability{Class: queue.Fsynced}, err
	}
	q, err := OpenQueue(ctx, c)
	if err != nil {
		return stats, d, fmt.Errorf("%w: %w", errClosed, err)
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	if stats, err = q.Stats(ctx); err != nil {
		return stats, d, err
	}
	d, err = q.Durability(ctx)
	return stats, d, err
}

// secrets notes how old each secret is. A Vault that does not answer is asked once.
func (l *looker) secrets(ctx context.Context) {
	down := false
	refs := References(l.config)
	for _, name := range slices.Sorted(maps.Keys(refs)) {
		ref := refs[name]
		if down && ref.Kind() == "vault" {
			l.unseen("secret "+name, "Vault did not answer")
			continue
		}
		within, cancel := context.WithTimeout(ctx, eachWithin)
		snapshot, err := secrets.Fetch(within, SecretsConfig(l.config), ref)
		cancel()
		if err != nil {
			down = down || errors.Is(err, secrets.ErrUnreachable) || errors.Is(err, secrets.ErrSealed)
			l.unseen("secret "+name, err.Error())
			continue
		}
		newest := snapshot.Versions[0]
		l.look.Secrets = append(l.look.Secrets, status.Secret{Name: name, Version: newest.ID, Created: newest.Created})
	}
}

// bindings notes which statements the application's database does not take.
func (l *looker) bindings(ctx context.Context) {
	problems, err := PrepareApplication(ctx, l.config)
	if err != nil {
		l.unseen("bindings", err.Error())
	}
	for _, p := range problems {
		why, _, _ := strings.Cut(p.Message, "\n")
		l.look.Broken = append(l.look.Broken, status.Broken{Binding: p.Binding, Why: why})
	}
}

// inventory compares the application's own listing with its directories.
func (l *looker) inventory(ctx context.Context) {
	report, err := compare(ctx, l.config, l.store)
	if err != nil {
		l.unseen("inventory", err.Error())
		return
	}
	i := &status.Inventory{}
	for _, f := range report.Findings {
		switch f.Kind {
		case inventory.Reactivated:
			i.Reactivated++
		case inventory.Orphan:
			i.Orphans++
		case inventory.ExtraMembership:
			i.Extra++
		case inventory.Missing, inventory.MissingMembership:
			i.Missing++
		}
	}
	for _, u := range report.Unknown {
		i.Unknown += u.Count
	}
	l.look.Inventory = i
}

func compare(ctx context.Context, c config.Config, s store.Store) (_ inventory.Report, err error) {
	a, done, err := Inventory(ctx, c)
	if err != nil {
		return inventory.Report{}, fmt.Errorf("open the application's database: %w", err)
	}
	defer func() { err = errors.Join(err, done()) }()
	return inventory.Checker{Store: s, Application: a, Now: time.Now, Pause: statusPause}.Check(ctx)
}
