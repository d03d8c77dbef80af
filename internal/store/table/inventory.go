package table

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

// told is a condition on a change c: it reached the application, by its SQL or a POST. What takes nothing away did so, too,
// when no binding is for it: such an application finds its people by itself.
const told = `(c.bound_result = 'bound' OR c.posted_result = 'bound' OR c.bound_result = 'no binding' AND c.kind IN ('account.activated', 'grant.added'))`

// Directories implements store.Inventory. A directory may be known by its accounts alone.
func (r Reader) Directories(ctx context.Context) ([]store.DirectoryRow, error) {
	return list(ctx, r, "directories", `SELECT k.source, k.directory, k.organization, k.ended, coalesce(m.mode, '') FROM (
			SELECT d.source, d.directory, d.organization, d.ended FROM `+r.in("directories")+` d
			UNION ALL
			SELECT a.source, a.directory, a.organization, false FROM (
				SELECT source, directory, max(organization) AS organization FROM `+r.in("accounts")+` GROUP BY source, directory
			) a WHERE NOT EXISTS (SELECT 1 FROM `+r.in("directories")+` d WHERE d.source = a.source AND d.directory = a.directory)
		) k LEFT JOIN `+r.in("modes")+` m ON m.source = k.source AND m.directory = k.directory
		ORDER BY k.source, k.directory`, nil, func(row Scanner) (d store.DirectoryRow, err error) {
		err = row.Scan(&d.Source, &d.Directory, &d.Organization, &d.Ended, &d.Mode)
		return d, err
	})
}

// Groups implements store.Inventory.
func (r Reader) Groups(ctx context.Context) (groups []directory.Group, err error) {
	return groups, dump(ctx, r, &groups, GroupColumns, "groups", "source, directory, group_id", ScanGroup)
}

// Standings implements store.Inventory. Every table is read from the last account on, in the order of its primary key: one page
// costs what it holds, whatever the planner takes the tables for. (It would look at all active accounts to say whether there are
// some; it counts those of one.)
func (r Reader) Standings(ctx context.Context, after directory.ID, limit int) ([]store.Standing, error) {
	q := &query{d: r.Dialect}
	const account = "source = a.source AND %[1]s.directory = a.directory AND %[1]s.account_key = a.account_key"
	of := func(alias string) string { return alias + "." + fmt.Sprintf(account, alias) }
	q.text.WriteString(`SELECT a.source, a.directory, a.account_key, a.email, (SELECT count(*) FROM ` + r.in("active_accounts") + ` v WHERE ` + of("v") + `) > 0,
			coalesce(l.state, ''), coalesce(l.app_id, ''), coalesce(l.tenant, ''),
			coalesce((SELECT c.kind FROM ` + r.in("changes") + ` c WHERE ` + of("c") + ` AND c.kind IN ('account.activated', 'account.deactivated') AND ` + told + `
				AND l.state = 'linked' ORDER BY c.seq DESC LIMIT 1), '')
		FROM ` + r.in("accounts") + ` a LEFT JOIN ` + r.in("links") + ` l ON ` + of("l") + ` AND ` + q.stands("l", ">", after) + ` WHERE ` + q.stands("a", ">", after))
	text, args := q.end("a.source, a.directory, a.account_key", limit)
	found, err := list(ctx, r, "accounts and links", text, args, func(row Scanner) (a store.Standing, err error) {
		err = row.Scan(&a.Source, &a.Directory, &a.ID.ID, &a.Email, &a.Active, &a.Link, &a.AppID, &a.Tenant, &a.Told)
		return a, err
	})
	if err != nil || len(found) == 0 {
		return nil, err
	}
	grants, err := r.grantStandings(ctx, after, found[len(found)-1].ID)
	for i := range found {
		if found[i].Active && found[i].Link == store.Linked {
			found[i].Grants = grants[found[i].ID]
		}
	}
	return found, err
}

// grantStandings returns the grants of the accounts that follow one, up to another.
func (r Reader) grantStandings(ctx context.Context, after, last directory.ID) (map[directory.ID][]store.GrantStanding, error) {
	q := r.from(`t.source, t.directory, t.account_key, t.group_id, coalesce(g.name, ''),
			coalesce((SELECT c.kind FROM `+r.in("changes")+` c WHERE c.source = t.source AND c.directory = t.directory AND c.account_key = t.account_key
				AND c.group_id = t.group_id AND c.kind IN ('grant.added', 'grant.revoked') AND `+told+` ORDER BY c.seq DESC LIMIT 1), '') = 'grant.added'`,
		"grants t LEFT JOIN "+r.in("groups")+" g ON g.source = t.source AND g.directory = t.directory AND g.group_id = t.group_id")
	q.text.WriteString(" WHERE " + q.stands("t", ">", after) + " AND " + q.stands("t", "<=", last) +
		" AND (g.group_id IS NULL OR NOT g.removed) ORDER BY t.source, t.directory, t.account_key, t.group_id")
	type grant struct {
		account directory.ID
		store.GrantStanding
	}
	rows, err := list(ctx, r, "grants", q.text.String(), q.args, func(row Scanner) (g grant, err error) {
		err = row.Scan(&g.account.Source, &g.account.Directory, &g.account.ID, &g.ID, &g.Name, &g.Told)
		return g, err
	})
	grants := map[directory.ID][]store.GrantStanding{}
	for _, g := range rows {
		grants[g.account] = append(grants[g.account], g.GrantStanding)
	}
	return grants, err
}

// stands is a condition on where a row is in the order of accounts.
func (q *query) stands(alias, how string, than directory.ID) string {
	var marks []string
	for _, part := range []string{than.Source, than.Directory, than.ID} {
		q.args = append(q.args, part)
		marks = append(marks, q.d.Mark(len(q.args)))
	}
	return "(" + Prefix(alias, "source, directory, account_key") + ") " + how + " (" + strings.Join(marks, ", ") + ")"
}

// in names a table.
func (r Reader) in(name string) string { return r.Dialect.Schema + name }

// Settled implements store.Inventory.
func (r Reader) Settled(ctx context.Context, seqs []int64) (map[int64]store.Settled, error) {
	settled := map[int64]store.Settled{}
	for some := range slices.Chunk(seqs, 1000) {
		marks, args := make([]string, len(some)), make([]any, len(some))
		for i, seq := range some {
			marks[i], args[i] = r.Dialect.Mark(i+1), seq
		}
		found, err := list(ctx, r, "what came of changes", "SELECT seq, bound_at, coalesce(bound_result, ''), coalesce(bound_rows, 0), coalesce(bound_digest, '') FROM "+
			r.in("changes")+" WHERE bound_at IS NOT NULL AND seq IN ("+strings.Join(marks, ", ")+")", args, func(row Scanner) (s store.Settled, err error) {
			err = row.Scan(&s.Seq, moment{&s.At}, &s.Result, &s.Rows, &s.Digest)
			return s, err
		})
		if err != nil {
			return nil, err
		}
		for _, s := range found {
			settled[s.Seq] = s
		}
	}
	return settled, nil
}
