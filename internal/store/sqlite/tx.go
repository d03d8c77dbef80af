package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/store/table"
)

// tx is one transaction.
type tx struct {
	*sql.Tx
	policy func(string) directory.Decision
	roles  directory.Roles
	err    error // the first of a row of statements
}

// read runs a statement whose argument is a list of keys, as JSON, and puts its rows.
func read[T any](ctx context.Context, t *tx, scan func(table.Scanner) (T, error), put func(T), text string, keys [][]string) {
	if t.err != nil || len(keys) == 0 {
		return
	}
	list, _ := json.Marshal(keys) // lists of strings cannot fail
	rows, err := t.QueryContext(ctx, text, string(list))
	found, err := table.All(rows, err, scan)
	if err != nil {
		t.err = err
		return
	}
	for _, v := range found {
		put(v)
	}
}

func scopeKeys(list []directory.Scope) (keys [][]string) {
	for _, s := range list {
		keys = append(keys, []string{s.Source, s.Directory})
	}
	return keys
}

func idKeys(list []directory.ID) (keys [][]string) {
	for _, i := range list {
		keys = append(keys, []string{i.Source, i.Directory, i.ID})
	}
	return keys
}

func edgeKeys(list []directory.EdgeID) (keys [][]string) {
	for _, e := range list {
		keys = append(keys, []string{e.Source, e.Directory, e.Group, e.User})
	}
	return keys
}

func grantKeys(list []directory.GrantID) (keys [][]string) {
	for _, g := range list {
		keys = append(keys, []string{g.Source, g.Directory, g.Account, g.Group})
	}
	return keys
}

func prefix(alias, columns string) string {
	return alias + "." + strings.ReplaceAll(columns, ", ", ", "+alias+".")
}

// joined selects the rows of a table by keys in JSON; the names are the columns behind source and directory.
func joined(columns, name string, names ...string) string {
	text := `SELECT ` + prefix("r", columns) + ` FROM json_each(?1) k CROSS JOIN ` + name + ` r ON r.source = k.value->>0 AND r.directory = k.value->>1`
	for i, n := range names {
		text += fmt.Sprintf(` AND r.%s = k.value->>%d`, n, i+2)
	}
	return text
}

// Indexes are named where the primary key begins with the same columns: SQLite does not know how many users a directory
// has, and would read them all.
const (
	holdersByKey = ` FROM json_each(?1) k
	CROSS JOIN users r INDEXED BY users_account ON r.source = k.value->>0 AND r.directory = k.value->>1 AND r.account_key = k.value->>2`
	edgesByKey = holdersByKey + `
	CROSS JOIN memberships m INDEXED BY memberships_user ON m.source = r.source AND m.directory = r.directory AND m.user_id = r.user_id`
	edgesByUser = ` FROM json_each(?1) k
	CROSS JOIN memberships m INDEXED BY memberships_user ON m.source = k.value->>0 AND m.directory = k.value->>1 AND m.user_id = k.value->>2`
)

// groupsOfEdges selects the groups of edges, each once.
func groupsOfEdges(edges string) string {
	return `SELECT ` + prefix("g", table.GroupColumns) + ` FROM (SELECT DISTINCT ` + prefix("m", "source, directory, group_id") + edges + `) e
		CROSS JOIN groups g ON g.source = e.source AND g.directory = e.directory AND g.group_id = e.group_id`
}

var (
	eventsByID      = `SELECT ` + prefix("r", table.EventColumns) + ` FROM json_each(?1) k CROSS JOIN events r ON r.source = k.value->>0 AND r.id = k.value->>1`
	directoriesByID = joined(table.DirectoryColumns, "directories")
	usersByID       = joined(table.BearerColumns, "users", "user_id")
	usersByKey      = `SELECT ` + prefix("r", table.UserColumns) + holdersByKey
	groupsByID      = joined(table.GroupColumns, "groups", "group_id")
	edgesByID       = joined(table.EdgeColumns, "memberships", "group_id", "user_id")
	accountsByKey   = joined(table.AccountColumns, "accounts", "account_key")
	grantsByKey     = joined(table.GrantColumns, "grants", "account_key")
	edgesOf         = `SELECT ` + prefix("m", table.EdgeColumns) + edgesByKey
	edgesWith       = `SELECT ` + prefix("m", table.EdgeColumns) + holdersByKey + `
		CROSS JOIN memberships m ON m.source = r.source AND m.directory = r.directory AND m.group_id = k.value->>3 AND m.user_id = r.user_id`
	groupsOf     = groupsOfEdges(edgesByKey)
	edgesOfUser  = `SELECT ` + prefix("m", table.EdgeColumns) + edgesByUser
	groupsOfUser = groupsOfEdges(edgesByUser)
)

// Load implements store.Tx.
func (t *tx) Load(ctx context.Context, need directory.Need, ids []store.EventKey) (*directory.State, map[store.EventKey]store.Entry, error) {
	state, known := directory.NewState(t.policy, t.roles), map[store.EventKey]store.Entry{}
	var events [][]string
	for _, id := range ids {
		events = append(events, []string{id.Source, id.ID})
	}
	read(ctx, t, table.ScanEntry, func(e store.Entry) { known[e.EventKey] = e }, eventsByID, events)
	read(ctx, t, table.ScanDirectory, state.PutDirectory, directoriesByID, scopeKeys(need.Scopes))
	users := map[directory.ID]string{}
	read(ctx, t, table.ScanBearer, func(b table.Bearer) { users[b.User] = b.Key }, usersByID, idKeys(need.Users))
	read(ctx, t, table.ScanGroup, state.PutGroup, groupsByID, idKeys(need.Groups))
	read(ctx, t, table.ScanEdge, state.PutEdge, edgesByID, edgeKeys(need.Edges))

	keys := need.Next(users)
	t.loadAccounts(ctx, state, idKeys(keys.All))
	t.loadEdges(ctx, state, idKeys(keys.Full))
	read(ctx, t, table.ScanEdge, state.PutEdge, edgesWith, grantKeys(keys.Rivals))
	newcomers := idKeys(keys.Newcomers)
	read(ctx, t, table.ScanEdge, state.PutEdge, edgesOfUser, newcomers)
	read(ctx, t, table.ScanGroup, state.PutGroup, groupsOfUser, newcomers)
	if t.err != nil {
		return nil, nil, fmt.Errorf("load: %w", t.err)
	}
	return state, known, nil
}

func (t *tx) loadAccounts(ctx context.Context, state *directory.State, keys [][]string) {
	read(ctx, t, table.ScanUser, state.PutUser, usersByKey, keys)
	read(ctx, t, table.ScanAccount, state.PutAccount, accountsByKey, keys)
	read(ctx, t, table.ScanGrant, state.PutGrant, grantsByKey, keys)
}

func (t *tx) loadEdges(ctx context.Context, state *directory.State, keys [][]string) {
	read(ctx, t, table.ScanEdge, state.PutEdge, edgesOf, keys)
	read(ctx, t, table.ScanGroup, state.PutGroup, groupsOf, keys)
}

// LoadExpansion implements store.Tx.
func (t *tx) LoadExpansion(ctx context.Context, id int64, limit int) (c store.Chunk, err error) {
	c.State = directory.NewState(t.policy, t.roles)
	c.PendingExpansion, err = table.ScanExpansion(t.QueryRowContext(ctx, `SELECT `+table.ExpansionColumns+` FROM expansions WHERE id = ? AND finished_at IS NULL`, id))
	if errors.Is(err, sql.ErrNoRows) {
		c.PendingExpansion.ID, c.Last = id, true
		return c, nil
	}
	if err != nil {
		return c, fmt.Errorf("load expansion %d: %w", id, err)
	}
	text := `SELECT account_key FROM accounts WHERE source = ? AND directory = ? AND account_key > ? ORDER BY account_key LIMIT ?`
	args := []any{c.Source, c.Directory, c.Cursor, limit + 1}
	if c.Group != "" {
		text = `SELECT user_id FROM memberships WHERE source = ? AND directory = ? AND user_id > ? AND group_id = ? ORDER BY user_id LIMIT ?`
		args = []any{c.Source, c.Directory, c.Cursor, c.Group, limit + 1}
	}
	rows, err := t.QueryContext(ctx, text, args...)
	c.Members, err = table.All(rows, err, func(row table.Scanner) (m string, err error) {
		err = row.Scan(&m)
		return m, err
	})
	if err != nil {
		return c, fmt.Errorf("load the members of expansion %d: %w", id, err)
	}
	c.Last = len(c.Members) <= limit
	c.Members = c.Members[:min(limit, len(c.Members))]
	t.loadMembers(ctx, &c)
	if t.err != nil {
		return c, fmt.Errorf("load a chunk of expansion %d: %w", id, t.err)
	}
	return c, nil
}

// loadMembers loads what evaluating the members reads: for a directory all of each account, for a group one edge of each.
func (t *tx) loadMembers(ctx context.Context, c *store.Chunk) {
	read(ctx, t, table.ScanDirectory, c.State.PutDirectory, directoriesByID, scopeKeys([]directory.Scope{c.Scope}))
	var named [][]string
	for _, m := range c.Members {
		named = append(named, []string{c.Source, c.Directory, m})
	}
	if c.Group == "" {
		t.loadAccounts(ctx, c.State, named)
		t.loadEdges(ctx, c.State, named)
		return
	}
	read(ctx, t, table.ScanGroup, c.State.PutGroup, groupsByID, [][]string{{c.Source, c.Directory, c.Group}})
	seen := map[string]bool{}
	var keys, rivals [][]string
	read(ctx, t, table.ScanBearer, func(b table.Bearer) {
		if key := b.Key; !seen[key] {
			seen[key] = true
			keys = append(keys, []string{c.Source, c.Directory, key})
			rivals = append(rivals, []string{c.Source, c.Directory, key, c.Group})
		}
	}, usersByID, named)
	t.loadAccounts(ctx, c.State, keys)
	read(ctx, t, table.ScanEdge, c.State.PutEdge, edgesWith, rivals)
}

// each writes rows with one prepared statement.
func each[T any](ctx context.Context, t *tx, text string, rows []T, values func(T) []any) {
	if t.err != nil || len(rows) == 0 {
		return
	}
	statement, err := t.PrepareContext(ctx, text)
	if err != nil {
		t.err = err
		return
	}
	defer func() { _ = statement.Close() }()
	for _, row := range rows {
		if _, t.err = statement.ExecContext(ctx, values(row)...); t.err != nil {
			return
		}
	}
}

func insert(name, columns string) string {
	return `INSERT INTO ` + name + ` (` + columns + `) VALUES (` + strings.TrimSuffix(strings.Repeat("?, ", strings.Count(columns, ",")+1), ", ") + `)`
}

func replace(name, columns string) string {
	return strings.Replace(insert(name, columns), "INSERT", "REPLACE", 1)
}

// Save implements store.Tx.
func (t *tx) Save(ctx context.Context, b store.Batch) error {
	now := time.Now()
	if err := t.saveLedger(ctx, b.Ledger, now); err != nil {
		return err
	}
	t.saveDead(ctx, b.Dead, now)
	t.saveRegisters(ctx, b.Delta)
	t.saveAccounts(ctx, b.Delta, now)
	t.saveChanges(ctx, b.Delta, now)
	if p := b.Progress; p.ID != 0 {
		each(ctx, t, `UPDATE expansions SET cursor = ?, done = done + ?, finished_at = CASE WHEN ? THEN ? END WHERE id = ? AND finished_at IS NULL`,
			[]store.ExpansionProgress{p}, func(p store.ExpansionProgress) []any {
				return []any{p.Cursor, p.Members, p.Finished, now.UnixMicro(), p.ID}
			})
	}
	if t.err != nil {
		return fmt.Errorf("save: %w", classify(t.err))
	}
	return nil
}

func (t *tx) saveLedger(ctx context.Context, entries []store.Entry, now time.Time) error {
	for _, e := range entries {
		if e.Reopen {
			each(ctx, t, `DELETE FROM events WHERE source = ? AND id = ? AND outcome IN ('ignored', 'parked')`, []store.Entry{e}, entryKey)
			each(ctx, t, `DELETE FROM dead_events WHERE source = ? AND id = ?`, []store.Entry{e}, entryKey)
		}
	}
	if t.err != nil {
		return fmt.Errorf("open ledger entries again: %w", t.err)
	}
	each(ctx, t, insert("events", table.EventColumns), entries, func(e store.Entry) []any {
		if e.Folded.IsZero() {
			e.Folded = now
		}
		return []any{
			e.Source, e.ID, e.Type, e.Subject, e.Directory, e.Organization, timeArg(e.Occurred), e.Received.UnixMicro(), timeArg(e.Folded),
			e.Origin, string(e.Outcome), e.Reason, e.KeyVersion, timeArg(e.SignedAt), e.BodySHA256, e.Binary, e.Config,
		}
	})
	if t.err != nil && strings.Contains(t.err.Error(), "UNIQUE constraint failed: events.") {
		return fmt.Errorf("%w: %w", store.ErrConflict, t.err)
	}
	return nil
}

func entryKey(e store.Entry) []any { return []any{e.Source, e.ID} }

func (t *tx) saveDead(ctx context.Context, dead []store.Dead, now time.Time) {
	// One may be left of an entry that the ledger's retention took: the ledger alone says whether an event is new.
	each(ctx, t, replace("dead_events", table.DeadColumns), dead, func(d store.Dead) []any {
		if d.Parked.IsZero() {
			d.Parked = now
		}
		return []any{
			d.Source, d.ID, d.Type, d.Directory, d.Class, d.Error, append([]byte{}, d.Body...), d.Origin, d.Received.UnixMicro(), d.KeyVersion,
			timeArg(d.SignedAt), timeArg(d.Parked), timeArg(d.Due), d.Attempts,
		}
	})
}

func (t *tx) saveRegisters(ctx context.Context, d directory.Delta) {
	each(ctx, t, replace("directories", table.DirectoryColumns), d.Directories, func(r directory.Register) []any {
		return []any{
			r.Source, r.Directory, r.Organization, r.Name, r.Type, r.State, string(r.Version), r.Removed, string(r.Floor),
			string(r.Decision), string(r.DecisionVersion), r.Ended, string(r.EndFloor),
		}
	})
	each(ctx, t, replace("users", table.UserColumns), d.Users, func(u directory.User) []any {
		return []any{
			u.Source, u.Directory, u.ID.ID, u.Organization, string(u.Version), u.Active, u.State, u.Email, u.FirstName, u.LastName, u.Name,
			table.Attributes(u.Profile), u.Identity, u.IDPID, timeArg(u.Created), u.AccountKey(),
		}
	})
	each(ctx, t, replace("groups", table.GroupColumns), d.Groups, func(g directory.Group) []any {
		return []any{g.Source, g.Directory, g.ID.ID, g.Organization, g.IDPID, string(g.Version), g.Removed, string(g.Floor), g.Name, string(g.NameVersion)}
	})
	each(ctx, t, replace("memberships", table.EdgeColumns), d.Edges, func(e directory.Edge) []any {
		return []any{e.Source, e.Directory, e.Group, e.User, string(e.Version), e.Present}
	})
}

func (t *tx) saveAccounts(ctx context.Context, d directory.Delta, now time.Time) {
	each(ctx, t, replace("accounts", table.AccountColumns+", changed_at"), d.Accounts, func(a directory.Account) []any {
		return []any{
			a.Source, a.Directory, a.ID.ID, a.User, a.Organization, a.IDPID, a.State, a.Email, a.FirstName, a.LastName, a.Name,
			table.Attributes(a.Profile), a.Active, string(a.Version), a.TombUser, timeArg(a.TombCreated), table.Roles(a.Roles), now.UnixMicro(),
		}
	})
	each(ctx, t, insert("grants", table.GrantColumns+", granted_at")+` ON CONFLICT DO UPDATE SET roles = excluded.roles`, d.Granted, func(g directory.Grant) []any {
		return []any{g.Source, g.Directory, g.Account, g.Group, table.Roles(g.Roles), now.UnixMicro()}
	})
	each(ctx, t, `DELETE FROM grants WHERE source = ? AND directory = ? AND account_key = ? AND group_id = ?`, d.Revoked, func(g directory.GrantID) []any {
		return []any{g.Source, g.Directory, g.Account, g.Group}
	})
}

func (t *tx) saveChanges(ctx context.Context, d directory.Delta, now time.Time) {
	each(ctx, t, insert("changes", "at, "+table.ChangeColumns), d.Changes, func(c directory.Change) []any {
		return []any{
			now.UnixMicro(), c.Source, c.Directory, string(c.Kind), c.Account, c.Group, c.Role, c.Event, c.Occurred.UnixMicro(), table.Face(c.Before), table.Face(c.After),
		}
	})
	each(ctx, t, insert("expansions", "source, directory, group_id, event, occurred, cursor, done, begun"), d.Expansions, func(x directory.Expansion) []any {
		return []any{x.Source, x.Directory, x.Group, x.Event, x.Occurred.UnixMicro(), "", 0, now.UnixMicro()}
	})
}
