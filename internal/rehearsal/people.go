package rehearsal

import (
	"context"
	"errors"
	"fmt"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

// SignsIn is the kind of a step in which somebody used the application.
const SignsIn directory.ChangeKind = "signs in"

// use lets everybody whom these changes let in make what people make by using the application: sessions, keys. Whom the
// application has no user for cannot.
func (p *play) use(ctx context.Context, rows []store.ChangeRow) error {
	for _, row := range rows {
		if row.Kind != directory.AccountActivated || len(p.SignIn) == 0 || p.idle {
			continue
		}
		account := directory.ID{Scope: row.Scope, ID: row.Account}
		link, err := p.binder.Lookup(ctx, account)
		if err != nil {
			return err
		}
		if link.State != store.Linked {
			continue
		}
		for _, name := range p.SignIn {
			if err := p.act(ctx, name, account, link); err != nil {
				return err
			}
		}
	}
	return nil
}

// act runs one of the statements of signing in, which has to touch a row.
func (p *play) act(ctx context.Context, name string, account directory.ID, link store.Link) error {
	rows, err := p.binder.Act(ctx, name, account, link)
	if err != nil {
		return fmt.Errorf("%w\nhint: it runs whenever somebody is let in, so for one person again and again", err)
	}
	if rows == 0 {
		return fmt.Errorf("%s touched no row of %s: nobody signed in\nhint: does it use @app_id?", name, link.AppID)
	}
	p.steps = append(p.steps, Step{Kind: SignsIn, Result: name, Rows: rows})
	return nil
}

// users make something by using the application, and a probe has to find each thing, or nobody would see that it is left.
func users(ctx context.Context, p *play) error {
	who := p.person(1)
	p.idle = true
	if err := errors.Join(p.joins(ctx, who), p.hasAccess(ctx, who)); err != nil {
		return err
	}
	link, err := p.link(ctx, who)
	if err != nil {
		return err
	}
	found, err := p.found(ctx, who)
	if err != nil {
		return err
	}
	var wrong []error
	for _, name := range p.SignIn {
		if err := p.act(ctx, name, p.account(who), link); err != nil {
			return err
		}
		before := found
		if found, err = p.found(ctx, who); err != nil {
			return err
		}
		if !grown(before, found) {
			wrong = append(wrong, fmt.Errorf("%s made something that no probe finds: it could be left of somebody who left\nhint: application.probes needs one for it", name))
		}
	}
	return errors.Join(wrong...)
}

// found returns how many rows each probe finds of somebody.
func (p *play) found(ctx context.Context, who directory.Person) (map[string]int64, error) {
	verdicts, err := p.binder.Probe(ctx, p.account(who))
	rows := map[string]int64{}
	for _, v := range verdicts {
		rows[v.Probe] = v.Rows
	}
	return rows, err
}

// grown reports whether a probe finds more than before.
func grown(before, after map[string]int64) bool {
	for probe, n := range after {
		if n > before[probe] {
			return true
		}
	}
	return false
}
