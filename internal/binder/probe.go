package binder

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

// The results of probes.
const (
	Clean   = "clean"   // nothing is left
	Dirty   = "dirty"   // something is
	Unknown = "unknown" // it could not be looked for
)

const (
	probeEvery  = time.Minute
	probeAtOnce = 100
	probesWait  = 64     // transactions whose leavers wait to be probed
	probeRows   = 10_000 // more are not counted
	probeNamed  = 5      // rows that a verdict names
)

// Probe looks what an account has left, and returns each probe's verdict, by name. It stores them when the account is not
// active. ErrNotFound: there is no such account.
func (b *Binder) Probe(ctx context.Context, account directory.ID) ([]store.Verdict, error) {
	row, err := b.account(ctx, account)
	if err != nil {
		return nil, err
	}
	links, err := b.Store.LinksOf(ctx, nil, []store.Lane{{Scope: account.Scope, Account: account.ID}})
	if err != nil {
		return nil, err
	}
	last, err := b.lastDeactivation(ctx, row)
	if err != nil {
		return nil, err
	}
	verdicts, err := b.probe(ctx, last, links[store.Lane{Scope: account.Scope, Account: account.ID}])
	if err != nil || row.EffectivelyActive {
		return verdicts, err
	}
	return verdicts, b.Store.SaveVerdicts(ctx, verdicts)
}

// lastDeactivation returns the account's last deactivation, or, without one, how the account is, with no sequence.
func (b *Binder) lastDeactivation(ctx context.Context, row store.AccountRow) (store.ChangeRow, error) {
	last := told(row, directory.AccountDeactivated, b.Now())
	filter := store.ChangeFilter{Source: row.Source, Directory: row.Directory, Account: row.ID.ID, Limit: 1000}
	for {
		changes, err := b.Store.Changes(ctx, filter)
		if err != nil {
			return last, err
		}
		for _, c := range changes {
			if c.Kind == directory.AccountDeactivated {
				last.Seq = c.Seq
			}
			filter.After = c.Seq
		}
		if len(changes) < filter.Limit {
			return last, nil
		}
	}
}

// probeSoon has those probed whose deactivations have just taken effect, by somebody whom no change waits for; or at once when
// nobody runs. Of more than can wait those are left to probeMissing that come last.
func (b *Binder) probeSoon(ctx context.Context, left []settled) {
	if b.left == nil {
		b.probeNow(ctx, left)
		return
	}
	select {
	case b.left <- left:
	default:
	}
}

// probeThose probes those who left until the context ends.
func (b *Binder) probeThose(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case left := <-b.left:
			b.probeNow(ctx, left)
		}
	}
}

func (b *Binder) probeNow(ctx context.Context, left []settled) {
	if err := b.probeLeft(ctx, left); err != nil && ctx.Err() == nil {
		b.Log.Warn().Err(err).Msg("not probed what leavers have left; it is done again")
	}
}

// probeLeft probes those whose deactivations have just taken effect, but for whoever is back by now and has all that again.
func (b *Binder) probeLeft(ctx context.Context, left []settled) error {
	var all []store.Verdict
	for _, d := range left {
		row, err := b.account(ctx, directory.ID{Scope: d.change.Scope, ID: d.change.Account})
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if row.EffectivelyActive {
			continue
		}
		verdicts, err := b.probe(ctx, d.change.ChangeRow, d.link)
		if err != nil {
			return err
		}
		all = append(all, verdicts...)
	}
	return b.Store.SaveVerdicts(ctx, all)
}

// probeMissing probes those whom nobody has probed since they left.
func (b *Binder) probeMissing(ctx context.Context) error {
	if len(b.probes) == 0 {
		return nil
	}
	for {
		accounts, err := b.Store.Unprobed(ctx, b.probeNames(), probeAtOnce)
		if err != nil {
			return err
		}
		for _, account := range accounts {
			if _, err := b.Probe(ctx, account); err != nil {
				return err
			}
		}
		if len(accounts) < probeAtOnce {
			return nil
		}
	}
}

// probeAgain takes verdicts again that are not clean and whose time has come: what was left may be gone by now, and a lookup
// that failed may work.
func (b *Binder) probeAgain(ctx context.Context) error {
	if len(b.probes) == 0 {
		return nil
	}
	for ctx.Err() == nil {
		accounts, err := b.Store.Unclean(ctx, b.probeNames(), b.Now(), probeAtOnce)
		if err != nil {
			return err
		}
		for _, account := range accounts {
			if _, err := b.Probe(ctx, account); err != nil {
				return err
			}
		}
		if len(accounts) < probeAtOnce {
			return nil
		}
	}
	return nil
}

func (b *Binder) probeNames() []string { return slices.Sorted(maps.Keys(b.probes)) }

// probe asks all probes about an account, as its deactivation says it. Its error is trouble.
func (b *Binder) probe(ctx context.Context, c store.ChangeRow, link store.Link) ([]store.Verdict, error) {
	names := b.probeNames()
	verdicts := make([]store.Verdict, len(names))
	for i, name := range names {
		v := store.Verdict{ID: directory.ID{Scope: c.Scope, ID: c.Account}, Probe: name, Seq: c.Seq, At: b.Now()}
		if err := b.ask(ctx, &v, c, link); err != nil {
			return nil, err
		}
		verdicts[i] = v
		if v.Result == Dirty {
			b.Log.Error().Str("probe", name).Str("source", c.Source).Str("directory", c.Directory).Str("account", c.Account).Int64("rows", v.Rows).
				Msg("somebody who left has something left in the application")
		}
	}
	return verdicts, nil
}

// ask fills in a probe's verdict. What it cannot say of an account it does not know is unknown, never clean.
func (b *Binder) ask(ctx context.Context, v *store.Verdict, c store.ChangeRow, link store.Link) error {
	if b.Link != nil && link.State != store.Linked {
		v.Result, v.Detail = Unknown, "no row of the application's is linked with the account"
		if link.State.Held() {
			v.Detail = fmt.Sprintf("%v: %s", errHeld, link.Detail)
		}
		return nil
	}
	var named []string
	var n int
	err := b.read(ctx, func(ctx context.Context, a *attempt) (err error) {
		named, n, err = a.session.texts(ctx, b.probes[v.Probe], values{change: c, link: link, owners: b.Owners}, probeNamed, probeRows)
		return err
	})
	switch {
	case trouble(err):
		return err
	case err != nil:
		v.Result, v.Detail = Unknown, err.Error()
		b.health.failed("probe "+v.Probe, err, b.Log)
	case n == 0:
		v.Result = Clean
		b.health.worked("probe " + v.Probe)
	default:
		v.Result, v.Rows, v.Detail = Dirty, int64(n), detail(named, n)
		b.health.worked("probe " + v.Probe)
	}
	return nil
}

// detail says how many rows there are, and names some.
func detail(named []string, n int) string {
	text := fmt.Sprintf("%d rows", n)
	if n == 1 {
		text = "1 row"
	}
	if len(named) > 0 {
		text += ": " + strings.Join(named, ", ")
	}
	if n > len(named) && len(named) > 0 {
		text += ", …"
	}
	return text
}
