package binder

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

// How much is done before a worker looks what else there is to do.
const (
	turn        = 250 * time.Millisecond // or as long as it took to read what is to be done
	changesOnce = 256                    // in one transaction
)

// bind does what can be done in lanes of a class: all of them in one transaction; and in those in which something failed, a
// change a transaction.
func (b *Binder) bind(stop, ctx context.Context, class store.Class, lanes []store.Lane) (rest, error) {
	switch {
	case b.Database == nil:
		return b.settleAll(ctx, lanes)
	case class == store.RemovalsAgain || class == store.OthersAgain:
		return b.apart(stop, ctx, class, lanes)
	default:
		return b.together(ctx, class, lanes)
	}
}

// settleAll settles what waits where nothing is to be run.
func (b *Binder) settleAll(ctx context.Context, lanes []store.Lane) (rest, error) {
	waiting, err := b.Store.Waiting(ctx, nil, store.Bound, lanes)
	if err != nil || len(waiting) == 0 {
		return rest{still: lanes}, err
	}
	done := make([]store.Done, len(waiting))
	for i, c := range waiting {
		done[i] = store.Done{Seq: c.Seq, Result: store.ResultNone}
	}
	return rest{}, b.Store.Settle(ctx, nil, store.Bound, done, nil, len(b.posts) == 0)
}

// together binds lanes in one transaction, or nothing when anything fails. Its error is trouble.
func (b *Binder) together(parent context.Context, class store.Class, lanes []store.Lane) (out rest, err error) {
	a, ctx, err := b.attempt(parent, lanes, false)
	if err != nil {
		return rest{}, err
	}
	defer a.session.undo()
	a.class = class
	all, out := a.ofClass(lanes)
	if len(all) == 0 {
		return out, nil
	}
	work := a.first(all)
	err = a.bindAll(parent, ctx, work)
	switch {
	case err == nil:
		b.report(parent, a)
		for _, l := range all {
			if now, more := l.class(a.now); more {
				out.giveBack(class, now, l.key)
			}
		}
		return out, nil
	case b.fatal(err):
		return rest{}, err
	}
	for _, l := range all {
		now := class
		switch again := errors.Is(err, errAgain); {
		case again && !errors.Is(err, errSpared) && (a.at < 0 || work[a.at] == l):
			out.still = append(out.still, l.key) // it has not failed
			continue
		case !again && a.suspect(work, l):
			now = class.Again()
		}
		out.back[now] = append(out.back[now], l.key)
	}
	return out, nil
}

// ofClass returns the lanes of the attempt's class. Those of another one are given back.
func (a *attempt) ofClass(lanes []store.Lane) (work []*lane, out rest) {
	for _, key := range lanes {
		l := a.lanes[key]
		switch now, waits := l.class(a.now); {
		case !waits:
			out.still = append(out.still, key)
		case now == a.class || now == store.Removals && (a.class == store.ManyRemovals || !l.failed()):
			work = append(work, l)
		default:
			out.back[now] = append(out.back[now], key)
		}
	}
	return work, out
}

// suspect reports whether a lane is to be bound apart after these failed together: the one that failed is, those after it when
// it took its time to fail, and all of them when they failed in the end.
func (a *attempt) suspect(work []*lane, l *lane) bool {
	i := slices.Index(work, l)
	return i >= 0 && (a.at < 0 || i == a.at || i > a.at && a.late())
}

// apart binds lanes one after the other, a change a transaction, so that what fails undoes nothing else.
func (b *Binder) apart(stop, ctx context.Context, class store.Class, lanes []store.Lane) (out rest, err error) {
	for _, key := range lanes {
		began, moved, did, more := time.Now(), false, true, true
		for did && more && stop.Err() == nil && (!moved || time.Since(began) < turn) {
			if did, more, err = b.step(ctx, key); err != nil {
				return out, err
			}
			moved = moved || did
		}
		switch {
		case !moved:
			out.still = append(out.still, key)
		case more:
			out.back[class] = append(out.back[class], key)
		}
	}
	return out, nil
}

// step does the next change of a lane. It reports whether there was one, and whether there was more to do when it began.
func (b *Binder) step(parent context.Context, key store.Lane) (did, more bool, err error) {
	a, ctx, err := b.attempt(parent, []store.Lane{key}, true)
	if err != nil {
		return false, false, err
	}
	defer a.session.undo()
	l := a.lanes[key]
	if l == nil {
		return false, false, nil
	}
	i, before := next(l.changes, a.now), slices.Clone(l.changes)
	if i < 0 {
		return false, false, nil
	}
	if err := a.bindAll(parent, ctx, []*lane{l}); err != nil {
		if b.fatal(err) {
			return false, false, err
		}
		if errors.Is(err, errAgain) {
			return false, true, nil
		}
		l.changes = before
		err = a.failAfterwards(parent, l, i, err)
		return true, next(l.changes, a.now) >= 0, err
	}
	b.report(parent, a)
	return len(a.done)+len(a.failed) > 0, next(l.changes, a.now) >= 0, nil
}

// failAfterwards records that a change failed whose transaction could not be finished, as by a constraint that is checked at
// its end.
func (a *attempt) failAfterwards(ctx context.Context, l *lane, i int, err error) error {
	a.session.undo()
	a.done, a.failed = nil, nil
	a.fail(l, i, err)
	for _, binding := range a.byKind[l.changes[i].Kind] {
		a.health.failed(binding.Name, err, a.Log)
	}
	return a.Store.Settle(ctx, nil, store.Bound, nil, a.failed, false)
}

// fatal reports whether an error is trouble that concerns all changes. A transaction that is lost is, but on SQLite, where
// ending a statement that takes too long loses it.
func (b *Binder) fatal(err error) bool {
	return trouble(err) || errors.Is(err, errUnsettled) || errors.Is(err, errLost) && b.Database.Kind == Postgres
}

// errUnsettled reports that changes took effect and the store does not know it yet: their marks tell it the next time.
var errUnsettled = errors.New("what took effect is not settled yet")

// attempt is one transaction on the application's database, and what it is to leave in the store.
type attempt struct {
	*Binder
	session *session
	store   store.Session // the same transaction, or nil when the store is another database
	apart   bool          // one change, with savepoints around what may fail
	dry     bool          // nothing is to stay
	class   store.Class   // what is bound together; removals alone when it is theirs
	over    time.Time     // when its turn is
	at      int           // the place of the lane that is worked on; -1 when all have been
	outcome
	lanes   map[store.Lane]*lane
	marked  map[markKey]store.Mark
	tenants map[string][]string // what tenant.sql gave, by its arguments
	mercy   *mercy
	wrote   bool // a binding has run: what the transaction sees may not be committed

	marks []store.Mark
	links []store.Link // to be saved after the commit

	suspects []*binding // that failed in a way that preparing them shows
	tell     bool       // an account was linked of which changes are to be told again
}

// markKey names a mark.
type markKey struct {
	seq     int64
	binding string
	change  string // its fingerprint: a number alone may be another change's
}

func markOf(c store.WaitingChange, b *binding) markKey {
	return markKey{c.Seq, b.Name, c.Fingerprint()}
}

// lane is the work on a lane.
type lane struct {
	key     store.Lane
	changes []store.WaitingChange // that are not done, by sequence
	link    store.Link
	known   bool // the store has a row of the link
	asked   bool // something depends on the link
	looked  bool // the link was looked up in this attempt, and is to be saved
	missed  bool // a change was settled without the link
}

// held reports that the lane's changes wait until it is known whose they are.
func (l *lane) held() bool { return l.asked && l.link.State.Held() }

func (l *lane) failed() bool {
	return slices.ContainsFunc(l.changes, func(c store.WaitingChange) bool { return c.Attempts > 0 })
}

// attempt begins a transaction and locks the lanes; what nobody else works on it reads in the next statements.
// The context that it returns is the transaction's.
func (b *Binder) attempt(parent context.Context, lanes []store.Lane, apart bool) (*attempt, context.Context, error) {
	s, ctx, err := b.begin(parent, false)
	if err != nil {
		return nil, nil, err
	}
	a, began := b.newAttempt(s, apart), time.Now()
	if err := a.load(ctx, lanes); err != nil {
		s.undo()
		return nil, nil, err
	}
	a.over = time.Now().Add(max(turn, time.Since(began)))
	return a, ctx, nil
}

func (b *Binder) newAttempt(s *session, apart bool) *attempt {
	a := &attempt{
		Binder: b, session: s, apart: apart, class: store.Others, over: time.Now().Add(turn), outcome: outcome{config: &b.Config, now: b.Now()},
		lanes: map[store.Lane]*lane{}, tenants: map[string][]string{},
	}
	a.mercy = b.newMercy(func(ctx context.Context) (map[string]bool, error) {
		ids, err := protectedIDs(ctx, s, *b.protected)
		return ids, s.blame(ctx, err)
	})
	if b.Database.Own {
		a.store = s
	}
	return a
}

func (a *attempt) load(ctx context.Context, lanes []store.Lane) error {
	lanes, err := a.session.claim(ctx, store.Bound, lanes)
	if err != nil || len(lanes) == 0 {
		return err
	}
	waiting, err := a.Store.Waiting(ctx, a.store, store.Bound, lanes)
	if err != nil {
		return err
	}
	var seqs []int64
	for _, c := range waiting {
		a.lane(c.Lane()).changes = append(a.lane(c.Lane()).changes, c)
		seqs = append(seqs, c.Seq)
	}
	marks, err := a.Database.Marks.Of(ctx, a.session, seqs)
	if err != nil {
		return err
	}
	a.marked = map[markKey]store.Mark{}
	for _, m := range marks {
		a.marked[markKey{m.Seq, m.Binding, m.Change}] = m
	}
	return a.loadLinks(ctx, lanes)
}

func (a *attempt) lane(key store.Lane) *lane {
	if a.lanes[key] == nil {
		a.lanes[key] = &lane{key: key}
	}
	return a.lanes[key]
}

func (a *attempt) loadLinks(ctx context.Context, lanes []store.Lane) error {
	if a.Link == nil {
		return nil
	}
	lanes = slices.DeleteFunc(slices.Clone(lanes), func(l store.Lane) bool { return l.Account == "" })
	links, err := a.Store.LinksOf(ctx, a.store, lanes)
	if err != nil {
		return err
	}
	for key, link := range links {
		if l := a.lanes[key]; l != nil {
			l.link, l.known = link, true
		}
	}
	return nil
}

// first returns the lanes of directories when there are any with something to run, and else all: what is run for a directory
// may make the tenant that its accounts need.
func (a *attempt) first(lanes []*lane) []*lane {
	var directories []*lane
	for _, l := range lanes {
		if l.key.Account == "" && l.key.Group == "" && a.runs(l) {
			directories = append(directories, l)
		}
	}
	if a.tenant == nil || len(directories) == 0 {
		return lanes
	}
	return directories
}

// runs reports whether there is anything to run for the lane's changes.
func (a *attempt) runs(l *lane) bool {
	return slices.ContainsFunc(l.changes, func(c store.WaitingChange) bool { return len(a.byKind[c.Kind]) > 0 })
}

// bindAll does what is to be done in these lanes, or a part of it that is enough, and commits. All links are looked up before
// anything runs, so that they rest on what is committed. after is the context of what follows the commit.
func (a *attempt) bindAll(after, ctx context.Context, lanes []*lane) error {
	for i, l := range lanes {
		if i > 0 && a.late() {
			lanes = lanes[:i]
			break
		}
		a.at = i
		if err := a.find(ctx, l); err != nil {
			return err
		}
	}
	for i, l := range lanes {
		a.at = i
		if err := a.bindLane(ctx, l); err != nil {
			return err
		}
	}
	a.at = -1
	return a.finish(after, ctx)
}

// late reports whether the transaction has taken its time.
func (a *attempt) late() bool { return time.Now().After(a.over) }

// enough reports whether the transaction has done what it may.
func (a *attempt) enough() bool {
	n := len(a.done) + len(a.failed)
	return !a.apart && n > 0 && (n >= changesOnce || a.late())
}

// finish commits. In the store's own database everything does so at once; otherwise the store learns of it afterwards, or from
// the marks, if it does not.
func (a *attempt) finish(after, ctx context.Context) error {
	if err := a.Database.Marks.Add(ctx, a.session, a.marks); err != nil {
		return err
	}
	if a.store != nil {
		if err := a.settleIn(ctx, a.store); err != nil {
			return crossed(err)
		}
	}
	if err := a.session.commit(ctx); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	if a.store != nil {
		return nil
	}
	if err := a.saveLinks(after); err != nil {
		return fmt.Errorf("%w: %w", errUnsettled, err)
	}
	if err := a.settleIn(after, nil); err != nil {
		return fmt.Errorf("%w: %w", errUnsettled, err)
	}
	return nil
}

// crossed makes errAgain of an error that says that somebody else settled the same changes, or others at the same time: it is no
// change's fault.
func crossed(err error) error {
	switch state, _ := sqlState(err); state {
	case "40001", "40P01", "55P03": // out of order with other transactions, a deadlock, no lock in time
		return fmt.Errorf("%w: %w", errAgain, err)
	default:
		return err
	}
}

func (a *attempt) settleIn(ctx context.Context, s store.Session) error {
	return a.Store.Settle(ctx, s, store.Bound, a.doneOnes(), a.failed, len(a.posts) == 0)
}

// bindLane does the changes of a lane that can be done, in their order; apart, only the next one.
func (a *attempt) bindLane(ctx context.Context, l *lane) error {
	a.settleMarked(l)
	for !l.held() && !a.enough() {
		i := next(l.changes, a.now)
		if i < 0 || a.class.Removes() && !fresh(l.changes[i]) {
			break
		}
		if err := a.bindChange(ctx, l, i); err != nil {
			return err
		}
		if a.apart && !a.dry {
			break
		}
	}
	if l.held() {
		a.hold(l)
	}
	return a.saveLooked(ctx, l)
}

// settleMarked settles changes that took effect before, and of which the store does not know it, with all that they made moot.
func (a *attempt) settleMarked(l *lane) {
	for i := 0; i < len(l.changes); {
		c := l.changes[i]
		bindings := a.byKind[c.Kind]
		if len(bindings) == 0 || !a.allMarked(c, bindings) {
			i++
			continue
		}
		done := store.Done{Seq: c.Seq, Result: store.ResultBound, Digest: digestOf(bindings)}
		for _, binding := range bindings {
			done.Rows += a.marked[markOf(c, binding)].Rows
		}
		i -= a.settle(l, i, done)
	}
}

// bindChange does one change. What a binding did that worked stays when another one fails.
func (a *attempt) bindChange(ctx context.Context, l *lane, i int) error {
	marks := len(a.marks)
	var done store.Done
	var failed error
	err := a.guard(ctx, "change", func() (err error) {
		done, failed, err = a.apply(ctx, l, l.changes[i])
		return err
	})
	switch {
	case err == nil && failed == nil:
		a.settle(l, i, done)
	case err == nil:
		a.fail(l, i, failed)
	case !a.apart || a.fatal(err) || errors.Is(err, errLost):
		return err
	default:
		a.marks = a.marks[:marks]
		if !errors.Is(err, errHeld) && !errors.Is(err, errAgain) {
			a.fail(l, i, err)
		}
	}
	return nil
}

// guard runs fn; apart, so that its error undoes what it did and nothing else.
func (a *attempt) guard(ctx context.Context, name string, fn func() error) error {
	if !a.apart {
		return fn()
	}
	return a.session.try(ctx, name, fn)
}

// apply runs the bindings of a change that have not taken effect yet, unless there is nobody to run them for. It returns
// why one of them failed while others worked; an error means that nothing of the change may stay.
func (a *attempt) apply(ctx context.Context, l *lane, c store.WaitingChange) (done store.Done, failed, err error) {
	bindings := a.byKind[c.Kind]
	done = store.Done{Seq: c.Seq, Result: store.ResultNone}
	if len(bindings) == 0 {
		return done, nil, nil
	}
	if done.Result, err = a.spared(ctx, l, c); err != nil || done.Result != "" {
		return done, nil, err
	}
	done.Result, done.Digest = store.ResultBound, digestOf(bindings)
	if l.link.State == store.Linked && (gives(c.Kind) || c.Kind == directory.RoleAdded) {
		if err := a.shared(ctx, l.link); err != nil {
			return done, nil, err
		}
	}
	v, err := a.values(ctx, l, c)
	if err != nil {
		return done, nil, err
	}
	for _, binding := range bindings {
		rows, err := a.run(ctx, binding, c, v)
		if err != nil && (a.fatal(err) || errors.Is(err, errLost) || !a.apart && !errors.Is(err, errBroken)) {
			return done, nil, err
		}
		failed = errors.Join(failed, err)
		done.Rows += rows
	}
	if c.Kind == directory.AccountDeactivated || c.Kind == directory.RoleRevoked {
		if err := a.stillTaken(ctx, l, c); err != nil {
			return done, nil, err
		}
	}
	if failed == nil && done.Rows == 0 && c.Kind == directory.AccountDeactivated && l.link.State == store.Linked {
		err := fmt.Errorf("%s touched no row of %s: nothing was taken from them\nhint: is the link right, and do the statements use @app_id?",
			strings.Join(bindingNames(bindings), ", "), l.link.AppID)
		for _, binding := range bindings {
			a.failing(binding, err)
		}
		return done, nil, err
	}
	if gives(c.Kind) {
		l.missed = l.missed || done.Rows == 0 && l.asked && l.link.State != store.Linked
		err = a.findMade(ctx, l, v)
	}
	return done, failed, err
}

// stillTaken is errSpared when by now, after its statements, there is a reason for a removal to take nothing: another account of the
// person has become active. What told so may have run before these statements, and they undid it. Whatever gives the person anything
// after this look does so after this transaction.
func (a *attempt) stillTaken(ctx context.Context, l *lane, c store.WaitingChange) error {
	if a.Link == nil || c.Account == "" || l.link.State != store.Linked {
		return nil
	}
	if err := a.alone(ctx, l.link); err != nil {
		return err
	}
	result, err := a.spared(ctx, l, c)
	if err == nil && result != "" {
		err = errSpared
	}
	return err
}

// gives reports whether a change may make the application's row of an account.
func gives(k directory.ChangeKind) bool {
	return k == directory.AccountActivated || k == directory.AccountUpdated
}

func (a *attempt) allMarked(c store.WaitingChange, bindings []*binding) bool {
	for _, binding := range bindings {
		if _, ok := a.marked[markOf(c, binding)]; !ok {
			return false
		}
	}
	return true
}

// spared returns the result of a change that is done without running anything, or "".
func (a *attempt) spared(ctx context.Context, l *lane, c store.WaitingChange) (string, error) {
	if a.Link == nil || c.Account == "" {
		return "", nil
	}
	if l.link.State != store.Linked {
		if gives(c.Kind) {
			return "", nil
		}
		return store.ResultNoAccount, nil
	}
	return a.mercy.result(ctx, a.store, l.link, c)
}

// values are what the parameters of the change's statements stand for.
func (a *attempt) values(ctx context.Context, l *lane, c store.WaitingChange) (values, error) {
	v := values{change: c.ChangeRow, link: l.link, owners: a.Owners}
	if v.link.State != store.Linked {
		v.link.AppID = ""
	}
	if v.cause = ownCause(c.Event); v.cause != "" || !a.asksCause {
		return v, nil
	}
	entry, err := a.Store.Event(ctx, c.Source, c.Event)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return v, err
	}
	v.cause = entry.Type
	return v, nil
}

// run runs one binding for a change, and marks that it took effect. One that did before is not run.
func (a *attempt) run(ctx context.Context, binding *binding, c store.WaitingChange, v values) (int64, error) {
	if m, ok := a.marked[markOf(c, binding)]; ok {
		return m.Rows, nil
	}
	if err := a.health.broken(binding.Name); err != nil {
		return 0, err
	}
	var rows int64
	a.wrote = true
	err := a.guard(ctx, "binding", func() error {
		for i, st := range binding.statements {
			n, err := a.session.exec(ctx, st, v)
			if err != nil {
				return fmt.Errorf("%s, statement %d: %w", binding.Name, i+1, err)
			}
			rows += n
		}
		return nil
	})
	if err != nil {
		a.failing(binding, err)
		return 0, err
	}
	a.marks = append(a.marks, store.Mark{Seq: c.Seq, Binding: binding.Name, Change: c.Fingerprint(), At: a.now, Rows: rows, Digest: binding.digest})
	return rows, nil
}

// failing notes that a binding failed by itself.
func (a *attempt) failing(binding *binding, err error) {
	if !a.apart || a.dry || trouble(err) {
		return
	}
	a.health.failed(binding.Name, err, a.Log)
	if misspelt(err) {
		a.suspects = append(a.suspects, binding)
	}
}

// digestOf names the statements of all bindings of a kind.
func digestOf(bindings []*binding) string {
	if len(bindings) == 1 {
		return bindings[0].digest
	}
	h := sha256.New()
	for _, b := range bindings {
		_, _ = h.Write([]byte(b.digest))
	}
	return hex.EncodeToString(h.Sum(nil)[:6])
}

func bindingNames(bindings []*binding) (names []string) {
	for _, b := range bindings {
		names = append(names, b.Name)
	}
	return names
}

// report says what a transaction came to, and probes those who left with it.
func (b *Binder) report(ctx context.Context, a *attempt) {
	var left []settled
	for _, d := range a.done {
		b.metrics.bound(store.Bound, d, a.now)
		if d.Result == store.ResultBound && d.change.Kind == directory.AccountDeactivated {
			left = append(left, d)
		}
	}
	for _, m := range a.marks {
		b.health.worked(m.Binding)
	}
	if a.tell {
		poke(b.found)
	}
	if len(a.suspects) > 0 {
		if err := b.prepare(ctx, a.suspects); err != nil {
			b.Log.Warn().Err(err).Msg("statements that failed could not be prepared; it is done again")
		}
	}
	for range a.failed {
		b.metrics.failed.WithLabelValues(string(store.Bound)).Inc()
	}
	if len(b.probes) > 0 && len(left) > 0 {
		b.probeSoon(ctx, left)
	}
}
