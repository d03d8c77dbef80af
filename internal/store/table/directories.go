package table

import (
	"cmp"
	"context"
	"errors"
	"strings"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

// tally is a directory that a table names, with what it counts there.
type tally struct {
	directory.Scope
	organization string
	counts       [3]int64
}

// The tallies of accounts, of their grants, and of groups, which makes known a directory that has nothing else.
const (
	// What is active is written out as the view active_accounts has it: joined as a view SQLite would walk all of it for each account.
	accountTally = `SELECT a.source, a.directory, max(a.organization), count(*), count(CASE WHEN ` + announcedActive + ` THEN 1 END),
			count(CASE WHEN ` + announcedActive + ` THEN NULL WHEN u.active THEN 1 END)
		FROM {}accounts a
		LEFT JOIN {}directories d ON d.source = a.source AND d.directory = a.directory
		LEFT JOIN {}users u ON u.source = a.source AND u.directory = a.directory AND u.user_id = a.user_id
		GROUP BY a.source, a.directory`
	announcedActive = `a.active AND (d.directory IS NULL OR (NOT d.ended AND a.version > d.end_floor))`
	grantTally      = `SELECT source, directory, '', count(*), 0, 0 FROM {}effective_grants GROUP BY source, directory`
	groupTally      = `SELECT source, directory, max(organization), 0, 0, 0 FROM {}groups GROUP BY source, directory`
)

// Tallies implements store.Reader.
func (r Reader) Tallies(ctx context.Context) ([]store.DirectoryTally, error) {
	registers, err := list(ctx, r, "directories", "SELECT "+DirectoryColumns+" FROM "+r.Dialect.Schema+"directories", nil, ScanDirectory)
	accounts, accountsErr := r.tally(ctx, "accounts", accountTally)
	grants, grantsErr := r.tally(ctx, "grants", grantTally)
	groups, groupsErr := r.tally(ctx, "groups", groupTally)
	modes, modesErr := list(ctx, r, "modes", "SELECT source, directory, mode FROM "+r.Dialect.Schema+"modes", nil, func(row Scanner) (m store.ModeRow, err error) {
		err = row.Scan(&m.Source, &m.Directory, &m.Mode)
		return m, err
	})
	if err := errors.Join(err, accountsErr, grantsErr, groupsErr, modesErr); err != nil {
		return nil, err
	}
	rows := map[directory.Scope]*store.DirectoryTally{}
	of := func(t tally) *store.DirectoryTally {
		if rows[t.Scope] == nil {
			rows[t.Scope] = &store.DirectoryTally{Register: directory.Register{Scope: t.Scope}}
		}
		row := rows[t.Scope]
		row.Organization = cmp.Or(row.Organization, t.organization)
		return row
	}
	for _, register := range registers {
		rows[register.Scope] = &store.DirectoryTally{Register: register}
	}
	for _, t := range accounts {
		row := of(t)
		row.Accounts, row.Active, row.Barred = t.counts[0], t.counts[1], t.counts[2]
	}
	for _, t := range grants {
		of(t).Grants = t.counts[0]
	}
	for _, t := range groups {
		of(t)
	}
	for _, m := range modes {
		of(tally{Scope: m.Scope}).Mode = m.Mode
	}
	return inOrder(rows), nil
}

func (r Reader) tally(ctx context.Context, what, text string) ([]tally, error) {
	return list(ctx, r, what, strings.ReplaceAll(text, "{}", r.Dialect.Schema), nil, func(row Scanner) (t tally, err error) {
		err = row.Scan(&t.Source, &t.Directory, &t.organization, &t.counts[0], &t.counts[1], &t.counts[2])
		return t, err
	})
}
