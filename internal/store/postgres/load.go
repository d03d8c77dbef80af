package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/store/table"
)

// column turns rows into the array of one of their columns.
func column[R, T any](rows []R, f func(R) T) []T {
	out := make([]T, len(rows))
	for i, r := range rows {
		out[i] = f(r)
	}
	return out
}

// ids are the arrays of scope and id that a statement joins with.
func ids(list []directory.ID) (sources, directories, names []string) {
	return column(list, func(i directory.ID) string { return i.Source }),
		column(list, func(i directory.ID) string { return i.Directory }),
		column(list, func(i directory.ID) string { return i.ID })
}

// load collects statements whose rows go into a state.
type load struct{ pgx.Batch }

// into queues a statement whose rows are read by scan and put.
func into[T any](l *load, scan func(table.Scanner) (T, error), put func(T), text string, args ...any) {
	l.Queue(text, args...).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			v, err := scan(rows)
			if err != nil {
				return err
			}
			put(v)
		}
		return rows.Err()
	})
}

// Load implements store.Tx in two round trips.
func (t *tx) Load(ctx context.Context, need directory.Need, events []store.EventKey) (*directory.State, map[store.EventKey]store.Entry, error) {
	state, known := directory.NewState(t.policy, t.roles), map[store.EventKey]store.Entry{}
	users := map[directory.ID]string{}
	var l load
	into(&l, table.ScanEntry, func(e store.Entry) { known[e.EventKey] = e },
		`SELECT `+table.Prefix("e", table.EventColumns)+` FROM unnest($1::text[], $2::text[]) AS k(source, id)
		JOIN rollcall.events e ON e.source = k.source COLLATE "C" AND e.id = k.id COLLATE "C"`,
		column(events, func(k store.EventKey) string { return k.Source }), column(events, func(k store.EventKey) string { return k.ID }))
	l.directories(state, need.Scopes)
	s, d, n := ids(need.Users)
	into(&l, table.ScanBearer, func(b table.Bearer) { users[b.User] = b.Key }, userByID, s, d, n)
	l.groups(state, need.Groups)
	l.edges(state, need.Edges)
	if err := t.send(ctx, &l.Batch); err != nil {
		return nil, nil, fmt.Errorf("load registers: %w", classify(err))
	}

	keys := need.Next(users)
	var more load
	more.bearers(state, keys.All)
	more.accounts(state, keys.All)
	more.edgesOf(state, keys.Full)
	more.edgesOfNewcomers(state, keys.Newcomers)
	more.edgesWith(state, keys.Rivals)
	if err := t.send(ctx, &more.Batch); err != nil {
		return nil, nil, fmt.Errorf("load accounts: %w", classify(err))
	}
	return state, known, nil
}

func distinct(list []directory.ID) []directory.ID {
	seen := make(map[directory.ID]bool, len(list))
	return slices.DeleteFunc(list, func(id directory.ID) bool {
		before := seen[id]
		seen[id] = true
		return before
	})
}

const (
	byID = ` FROM unnest($1::text[], $2::text[], $3::text[]) AS k(source, directory, id)`
	same = ` = k.source COLLATE "C" AND r.directory = k.directory COLLATE "C"`
)

var (
	userByID = `SELECT ` + table.Prefix("r", table.BearerColumns) + byID + ` JOIN rollcall.users r ON r.source` + same + ` AND r.user_id = k.id COLLATE "C"`
	// what an account key leads to: the users that bear it
	userByKey = `SELECT ` + table.Prefix("r", table.UserColumns) + byID + ` JOIN rollcall.users r ON r.source` + same + ` AND r.account_key = k.id COLLATE "C"`
	edgeByKey = byID + ` JOIN rollcall.users r ON r.source` + same + ` AND r.account_key = k.id COLLATE "C"
		JOIN rollcall.memberships m ON m.source = r.source AND m.directory = r.directory AND m.user_id = r.user_id`
)

func (l *load) directories(state *directory.State, scopes []directory.Scope) {
	into(l, table.ScanDirectory, state.PutDirectory,
		`SELECT `+table.Prefix("r", table.DirectoryColumns)+` FROM unnest($1::text[], $2::text[]) AS k(source, directory) JOIN rollcall.directories r ON r.source`+same,
		column(scopes, func(s directory.Scope) string { return s.Source }), column(scopes, func(s directory.Scope) string { return s.Directory }))
}

func (l *load) groups(state *directory.State, groups []directory.ID) {
	s, d, n := ids(groups)
	into(l, table.ScanGroup, state.PutGroup,
		`SELECT `+table.Prefix("r", table.GroupColumns)+byID+` JOIN rollcall.groups r ON r.source`+same+` AND r.group_id = k.id COLLATE "C"`, s, d, n)
}

func (l *load) edges(state *directory.State, edges []directory.EdgeID) {
	into(l, table.ScanEdge, state.PutEdge,
		`SELECT `+table.Prefix("r", table.EdgeColumns)+` FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS k(source, directory, group_id, user_id)
		JOIN rollcall.memberships r ON r.source`+same+` AND r.group_id = k.group_id COLLATE "C" AND r.user_id = k.user_id COLLATE "C"`,
		column(edges, func(e directory.EdgeID) string { return e.Source }), column(edges, func(e directory.EdgeID) string { return e.Directory }),
		column(edges, func(e directory.EdgeID) string { return e.Group }), column(edges, func(e directory.EdgeID) string { return e.User }))
}

func (l *load) bearers(state *directory.State, keys []directory.ID) {
	s, d, n := ids(keys)
	into(l, table.ScanUser, state.PutUser, userByKey, s, d, n)
}

// accounts loads the accounts of these keys and what they have been granted, with the groups' names.
func (l *load) accounts(state *directory.State, keys []directory.ID) {
	s, d, n := ids(keys)
	into(l, table.ScanAccount, state.PutAccount,
		`SELECT `+table.Prefix("r", table.AccountColumns)+byID+` JOIN rollcall.accounts r ON r.source`+same+` AND r.account_key = k.id COLLATE "C"`, s, d, n)
	into(l, table.ScanGrant, state.PutGrant,
		`SELECT `+table.Prefix("r", table.GrantColumns)+byID+` JOIN rollcall.grants r ON r.source`+same+` AND r.account_key = k.id COLLATE "C"`, s, d, n)
}

// edgesOf loads all edges of the users that bear these keys, and the groups of those edges.
func (l *load) edgesOf(state *directory.State, keys []directory.ID) {
	s, d, n := ids(keys)
	into(l, table.ScanEdge, state.PutEdge, `SELECT `+table.Prefix("m", table.EdgeColumns)+edgeByKey, s, d, n)
	into(l, table.ScanGroup, state.PutGroup, groupsOf(`m`, edgeByKey), s, d, n)
}

// groupsOf selects the groups of edges, each once; the alias is that of the memberships.
func groupsOf(alias, edges string) string {
	return `SELECT ` + table.Prefix("g", table.GroupColumns) + ` FROM (SELECT DISTINCT ` + table.Prefix(alias, "source, directory, group_id") + edges + `) e
		JOIN rollcall.groups g ON g.source = e.source AND g.directory = e.directory AND g.group_id = e.group_id`
}

// edgesOfNewcomers loads the edges that came before their users, and the groups of those edges.
func (l *load) edgesOfNewcomers(state *directory.State, users []directory.ID) {
	if len(users) == 0 {
		return
	}
	const edges = byID + ` JOIN rollcall.memberships r ON r.source` + same + ` AND r.user_id = k.id COLLATE "C"`
	s, d, n := ids(users)
	into(l, table.ScanEdge, state.PutEdge, `SELECT `+table.Prefix("r", table.EdgeColumns)+edges, s, d, n)
	into(l, table.ScanGroup, state.PutGroup, groupsOf(`r`, edges), s, d, n)
}

// LoadExpansion implements store.Tx.
func (t *tx) LoadExpansion(ctx context.Context, id int64, limit int) (c store.Chunk, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*t.patience) // the two statements that choose the members included
	defer cancel()
	c.State = directory.NewState(t.policy, t.roles)
	rows, err := t.conn.Query(ctx, `SELECT `+table.ExpansionColumns+` FROM rollcall.expansions WHERE id = $1 AND finished_at IS NULL`, id)
	if err != nil {
		return c, fmt.Errorf("load expansion %d: %w", id, err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (store.PendingExpansion, error) { return table.ScanExpansion(row) })
	if err != nil {
		return c, fmt.Errorf("load expansion %d: %w", id, err)
	}
	if len(found) == 0 {
		c.PendingExpansion.ID, c.Last = id, true
		return c, nil
	}
	c.PendingExpansion = found[0]
	if err := t.members(ctx, &c, limit); err != nil {
		return c, fmt.Errorf("load a chunk of expansion %d: %w", id, err)
	}
	return c, nil
}

func (t *tx) members(ctx context.Context, c *store.Chunk, limit int) error {
	text := `SELECT account_key FROM rollcall.accounts WHERE source = $1 AND directory = $2 AND account_key > $3 ORDER BY account_key LIMIT $4`
	args := []any{c.Source, c.Directory, c.Cursor, limit + 1}
	if c.Group != "" {
		text = `SELECT user_id FROM rollcall.memberships WHERE source = $1 AND directory = $2 AND user_id > $3 AND group_id = $5 ORDER BY user_id LIMIT $4`
		args = append(args, c.Group)
	}
	rows, err := t.conn.Query(ctx, text, args...)
	if err != nil {
		return err
	}
	if c.Members, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
		return err
	}
	c.Last = len(c.Members) <= limit
	c.Members = c.Members[:min(limit, len(c.Members))]
	return t.loadMembers(ctx, c)
}

// loadMembers loads what evaluating the members reads: for a directory all of each account, for a group one edge of each.
func (t *tx) loadMembers(ctx context.Context, c *store.Chunk) error {
	named := column(c.Members, func(m string) directory.ID { return directory.ID{Scope: c.Scope, ID: m} })
	var l load
	l.directories(c.State, []directory.Scope{c.Scope})
	if c.Group == "" {
		l.bearers(c.State, named)
		l.accounts(c.State, named)
		l.edgesOf(c.State, named)
		return t.send(ctx, &l.Batch)
	}
	l.groups(c.State, []directory.ID{{Scope: c.Scope, ID: c.Group}})
	l.edges(c.State, column(c.Members, func(m string) directory.EdgeID { return directory.EdgeID{Scope: c.Scope, Group: c.Group, User: m} }))
	var keys []directory.ID
	s, d, n := ids(named)
	into(&l, table.ScanBearer, func(b table.Bearer) { keys = append(keys, directory.ID{Scope: b.User.Scope, ID: b.Key}) }, userByID, s, d, n)
	if err := t.send(ctx, &l.Batch); err != nil {
		return err
	}
	keys = distinct(keys)
	var more load
	more.bearers(c.State, keys)
	more.accounts(c.State, keys)
	more.edgesWith(c.State, column(keys, func(k directory.ID) directory.GrantID {
		return directory.GrantID{Scope: k.Scope, Account: k.ID, Group: c.Group}
	}))
	return t.send(ctx, &more.Batch)
}

// edgesWith loads the edges of these groups that bearers of these accounts have: another than the member may govern.
func (l *load) edgesWith(state *directory.State, rivals []directory.GrantID) {
	into(l, table.ScanEdge, state.PutEdge, `SELECT `+table.Prefix("m", table.EdgeColumns)+`
		FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS k(source, directory, id, group_id)
		JOIN rollcall.users r ON r.source`+same+` AND r.account_key = k.id COLLATE "C"
		JOIN rollcall.memberships m ON m.source = r.source AND m.directory = r.directory AND m.group_id = k.group_id COLLATE "C" AND m.user_id = r.user_id`,
		column(rivals, func(g directory.GrantID) string { return g.Source }), column(rivals, func(g directory.GrantID) string { return g.Directory }),
		column(rivals, func(g directory.GrantID) string { return g.Account }), column(rivals, func(g directory.GrantID) string { return g.Group }))
}
