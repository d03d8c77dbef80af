package status

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

func unready(l Look) (r reasons) {
	if l.Unready != "" {
		r.add(Yellow, "`rollcall health` says why", "the process is not ready, by %s", l.Unready)
	}
	return r
}

func queue(l Look) (r reasons) {
	q := l.Queue
	switch age := l.age(q.Oldest); {
	case q.Err != "":
		r.add(Red, "`rollcall doctor` says why; senders are told to come again", "the queue does not answer from here: %s", q.Err)
	case age > queueStands:
		r.add(Red, "is a worker up, and what does its log say? `rollcall doctor`", "%d deliveries wait to be folded, the oldest for %s", q.Depth, Short(age))
	case q.Capacity > 0 && q.Fullest*100 > q.Capacity*queueNearFull:
		r.add(Yellow, "start a worker, or find why the database is slow", "a partition of the queue holds %d of %d deliveries; when it is full senders are told 503", q.Fullest, q.Capacity)
	}
	return r
}

func durability(l Look) (r reasons) {
	if d := l.Queue.Durability; d != "" && d != "fsynced" {
		r.add(Yellow, "Redis: appendonly yes, appendfsync always, maxmemory-policy noeviction", "what is answered 200 may be lost: the queue is %s%s", d, after(": ", l.Queue.Detail))
	}
	return r
}

// leavers judges who waits for the application, which is told to take their access.
func leavers(l Look) (r reasons) {
	for _, d := range l.Leavers {
		if age := l.age(d.Oldest.Folded); d.Waiting > 0 && age > leaverWaits {
			r.add(Red, "`rollcall bindings list` and `rollcall links list --held` say what holds them; lock them by hand if it lasts",
				"%d leavers of %s keep their access: their changes wait, %s's for %s (event %s)", d.Waiting, d.Directory, who(d.Oldest), Short(age), d.Oldest.Event)
		}
	}
	return r
}

func slowLeavers(l Look) (r reasons) {
	for _, d := range l.Leavers {
		if took := d.Worst.Took(l.At); d.Done > 0 && took > leaverSlow {
			r.add(Yellow, "`rollcall accounts show "+d.Worst.Account+"` shows where the time went", "%s left %s and kept access for %s (event %s)", who(d.Worst), d.Directory, Short(took), d.Worst.Event)
		}
	}
	return r
}

func who(l store.Leaver) string { return cmp.Or(l.Email, l.Account) }

func ended(l Look) (r reasons) {
	for _, d := range l.Ended {
		r.add(Red, "`rollcall directories deprovision "+d.Directory+"` ends its accounts, `hold` lets them be", "directory %s was deleted at the provider%s; its accounts are held, and who leaves is not told of",
			name(d.Name, d.Directory), after(" ", since(l, d.Since)))
	}
	return r
}

func since(l Look, t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return Short(l.age(t)) + " ago"
}

func name(name, id string) string {
	if name == "" {
		return id
	}
	return id + " (" + name + ")"
}

// after is a text behind what leads to it; nothing when there is none.
func after(lead, text string) string {
	if text == "" {
		return ""
	}
	return lead + text
}

// follows judges directories that the provider no longer follows.
func follows(l Look) (r reasons) {
	for _, d := range l.Directories {
		if state := d.State; state != "" && state != "linked" && state != "active" && !d.Removed && !d.Ended {
			r.add(Yellow, "the customer's administrator connects it again, in the provider's portal", "directory %s is %s: who leaves it is not told of", name(d.Name, d.Directory), state)
		}
	}
	return r
}

func broken(l Look) (r reasons) {
	for _, b := range l.Broken {
		r.add(Red, "mend the statement or the schema; its changes wait", "binding %s does not fit the application's database: %s", b.Binding, b.Why)
	}
	return r
}

func failing(l Look) (r reasons) {
	for _, f := range l.Backlog.Failing {
		c := Yellow
		if f.Kind.Removes() {
			c = Red
		}
		r.add(c, "`rollcall bindings list` has the whole error; they are tried again by themselves", "%d changes %s fail, since %s: %s", f.Count, f.Kind, Short(l.age(f.Since)), line(f.Error))
	}
	return r
}

// many is a number of things.
func many[N int | int64](n N, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

func line(text string) string {
	first, _, _ := strings.Cut(text, "\n")
	return first
}

func backlog(l Look) (r reasons) {
	for _, t := range []store.Track{store.Bound, store.Posted} {
		if age := l.age(l.Backlog.Oldest[t]); l.Backlog.Waiting[t] > 0 && age > bindingStands {
			r.add(Yellow, "`rollcall bindings list`; is a worker up?", "%d changes wait to be %s, the oldest for %s", l.Backlog.Waiting[t], t, Short(age))
		}
		if n := l.Backlog.Paused[t]; n > 0 {
			r.add(Yellow, "`rollcall directories enforce` lets them go on, leavers first", "%d changes of paused directories wait to be %s", n, t)
		}
	}
	return r
}

func links(l Look) (r reasons) {
	for _, h := range l.Links {
		r.add(Yellow, "`rollcall links list --held` says why, `links set` decides", "of %s of %s it is not known which user they are (%s), since %s: their changes wait", many(h.Count, "account"), h.Directory, h.State, Short(l.age(h.Since)))
	}
	return r
}

func probes(l Look) (r reasons) {
	if n := l.Probes.Dirty; n > 0 {
		r.add(Red, "`rollcall accounts show WHO` names the probe and the rows", "%d leavers have something left in the application", n)
	}
	if n := l.Probes.Unknown; n > 0 {
		r.add(Yellow, "a probe failed or their link is not known: `rollcall accounts show WHO`", "of %d leavers it is not known whether they have something left", n)
	}
	return r
}

// unpolled judges logs that are to be read and never were.
func unpolled(l Look) (r reasons) {
	for _, source := range slices.Sorted(maps.Keys(l.Every)) {
		i := slices.IndexFunc(l.Polls, func(p store.Poll) bool { return p.Source == source })
		if i < 0 || cmp.Or(l.Polls[i].Paged, l.Polls[i].CaughtUp, l.Polls[i].Failed).IsZero() {
			r.add(Yellow, "is a worker up whose configuration has sources."+source+".api.key? `rollcall doctor`", "the log of %s was never read", source)
		}
	}
	return r
}

// polls judges how far the providers' logs are read.
func polls(l Look) (r reasons) {
	for _, p := range l.Polls {
		behind := l.age(p.CaughtUp)
		if p.CaughtUp.IsZero() {
			behind = l.age(cmp.Or(p.Started, p.Failed))
		}
		c := Yellow
		if behind > pollLost {
			c = Red
		}
		turns := pollTurns * l.Every[p.Source]
		idle, late := max(pollIdle, turns), max(pollBehind, turns)
		switch {
		case behind > late && p.Error != "":
			r.add(c, "webhooks go on; what they miss comes late until it is read again", "the log of %s was not read to its end for %s: %s", p.Source, Short(behind), line(p.Error))
		case behind > idle && !p.Held():
			r.add(c, "is a worker up? `rollcall doctor`", "nobody reads the log of %s, for %s", p.Source, Short(behind))
		case behind > late:
			r.add(c, "the worker's log says how it goes on", "the log of %s was not read to its end for %s", p.Source, Short(behind))
		}
		if !p.Restarted.IsZero() && l.age(p.Restarted) < lately {
			r.add(Yellow, "compare its directories with their listing: `rollcall reconcile plan`", "the provider had forgotten where %s was read to; events may be missing", p.Source)
		}
	}
	return r
}

// reconciled judges how long ago directories were compared with their listings.
func reconciled(l Look) (r reasons) {
	last := map[directory.Scope]time.Time{}
	for _, run := range l.Runs {
		if t := last[run.Scope]; run.Complete && run.Ended.After(t) {
			last[run.Scope] = run.Ended
		}
	}
	said := map[directory.Scope]bool{}
	for _, run := range l.Runs {
		t := last[run.Scope]
		if said[run.Scope] || l.age(t) <= l.comparedWithin(run.Source) && !t.IsZero() || t.IsZero() && run.Ended.IsZero() {
			continue
		}
		said[run.Scope] = true
		ago := "never"
		if !t.IsZero() {
			ago = "last " + Short(l.age(t)) + " ago"
		}
		r.add(Yellow, "workers compare it again by themselves; `rollcall reconcile plan "+run.Directory+"` looks now", "directory %s was %s compared with its whole listing%s", run.Directory, ago, after(": ", run.Reason))
	}
	return r
}

// neverCompared judges directories of which no comparison was ever begun, though somebody should.
func neverCompared(l Look) (r reasons) {
	for _, d := range l.Directories {
		_, asked := l.Compared[d.Source]
		if asked && !d.Removed && !d.Ended && !slices.ContainsFunc(l.Runs, func(run store.Run) bool { return run.Scope == d.Scope }) {
			r.add(Yellow, "is a worker up whose configuration has sources."+d.Source+".api.key? `rollcall doctor`", "directory %s was never compared with its listing", name(d.Name, d.Directory))
		}
	}
	return r
}

// comparedWithin is how old the last comparison of a source's directories may be.
func (l Look) comparedWithin(source string) time.Duration {
	return max(reconcileLate, l.Compared[source]+reconcileTakes)
}

// drift judges what a comparison found and did not repair.
func drift(l Look) (r reasons) {
	for _, run := range l.Runs {
		if !run.Complete {
			continue
		}
		for _, kind := range store.DriftKinds {
			n := run.Kinds[kind]
			open := n.Found - n.Repaired // of a plan all of it
			if open == 0 {
				continue
			}
			c := Yellow
			if kind == store.ShouldBeInactive {
				c = Red
			}
			r.add(c, "`rollcall reconcile plan "+run.Directory+"` shows them, `reconcile apply` approves of their repair", "%d of %s by the listing of %s, and not repaired", open, strings.ReplaceAll(string(kind), "_", " "), run.Directory)
		}
	}
	return r
}

func dead(l Look) (r reasons) {
	for _, d := range l.Dead {
		if d.Count > 0 {
			r.add(Yellow, "`rollcall dead list` and `dead show` say why; `dead replay` folds them when that is mended", "%s of %s could not be folded (%s), since %s", many(d.Count, "event"), d.Source, d.Class, Short(l.age(d.Oldest)))
		}
	}
	return r
}

func lags(l Look) (r reasons) {
	for _, g := range l.Lags {
		if g.Received.Recent > 0 && g.Received.Median > providerLate {
			r.add(Yellow, "the provider is late: its status page; nothing is lost", "events of %s come %s after their time, as a rule of the last hour", g.Directory, Short(g.Received.Median))
		}
		if ours := g.Folded.Median - g.Received.Median; g.Folded.Recent > 0 && ours > foldingLate {
			r.add(Yellow, "the workers or the database are slow: `rollcall queue`, the workers' log", "events of %s are folded %s after they came, as a rule of the last hour", g.Directory, Short(ours))
		}
	}
	return r
}

func secrets(l Look) (r reasons) {
	for _, s := range l.Secrets {
		if age := l.age(s.Created); age > secretOld {
			r.add(Yellow, "rotate it: docs/OPERATIONS.md, Rotating a signing secret", "secret %s is %s old (version %s)", s.Name, Short(age), s.Version)
		}
	}
	return r
}

func inventory(l Look) (r reasons) {
	i := l.Inventory
	if i == nil {
		return nil
	}
	const list = "`rollcall orphans` lists them"
	if i.Reactivated > 0 {
		r.add(Red, list, "%d leavers are active in the application again, and no event explains it", i.Reactivated)
	}
	if i.Orphans > 0 {
		r.add(Yellow, list+"; `orphans exempt` is for whom somebody answers", "%d accounts of the application are in no directory", i.Orphans)
	}
	if i.Extra > 0 {
		r.add(Yellow, list, "%d memberships of the application are in no directory", i.Extra)
	}
	if i.Missing > 0 {
		r.add(Yellow, list, "%d accounts and memberships are not in the application, which was told of them", i.Missing)
	}
	if i.Unknown > 0 {
		r.add(Yellow, "`rollcall orphans` says why", "%d accounts and memberships of the application could not be judged", i.Unknown)
	}
	return r
}
