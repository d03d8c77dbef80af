package table

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

// The listing of a run is s (users), t (groups) and x (memberships); the registers are u, g, m and d. The arguments are the run, its
// source and directory, and the version that a register must be below to count.
const (
	listedUser  = `s.run = ?1 AND s.user_id = `
	listedGroup = `t.run = ?1 AND t.group_id = `
	listedEdge  = `x.run = ?1 AND x.group_id = m.group_id AND x.user_id = m.user_id`

	knownUser      = `u.source = ?2 AND u.directory = ?3 AND u.user_id = s.user_id`
	knownGroup     = `g.source = ?2 AND g.directory = ?3 AND g.group_id = `
	knownEdge      = `m.source = ?2 AND m.directory = ?3 AND m.group_id = x.group_id AND m.user_id = x.user_id`
	knownDirectory = `d.source = ?2 AND d.directory = ?3`

	// unlistedGroup is a group that the directory had and does not list: its end takes all its members' grants.
	unlistedGroup = `t.group_id IS NULL AND g.group_id IS NOT NULL AND NOT g.removed AND g.version <> '' AND g.version < ?4`
	// keepsUser is a user who is active, and not by a word that the directory's own end took back.
	keepsUser = `u.active AND (d.directory IS NULL OR u.version > d.end_floor)`
)

// What is not listed, an idp_id or a name, says nothing: an event that leaves it out would not move it either.
var (
	otherUser = `((s.organization <> '' AND s.organization <> u.organization) OR (s.idp_id <> '' AND s.idp_id <> u.idp_id) OR s.email <> u.email OR s.first_name <> u.first_name
		OR s.last_name <> u.last_name OR s.name <> u.name OR s.attributes IS DISTINCT FROM u.attributes)`
	otherGroup = `((t.organization <> '' AND t.organization <> g.organization) OR (t.idp_id <> '' AND t.idp_id <> g.idp_id) OR (t.name <> '' AND t.name <> g.name))`
)

// finding is one statement that finds drift: group_id, user_id and the version of the register.
type finding struct {
	kind store.DriftKind
	text string
}

var findings = []finding{
	{store.ShouldBeInactive, `SELECT '', u.user_id, u.version FROM {}users u LEFT JOIN {}reconcile_users s ON ` + listedUser + `u.user_id
		WHERE u.source = ?2 AND u.directory = ?3 AND u.active AND u.version < ?4 AND (s.user_id IS NULL OR NOT s.active)`},

	{store.ExtraMembership, `SELECT m.group_id, m.user_id, m.version FROM {}memberships m
		JOIN {}reconcile_users s ON ` + listedUser + `m.user_id AND s.active
		LEFT JOIN {}reconcile_memberships x ON ` + listedEdge + `
		LEFT JOIN {}reconcile_groups t ON ` + listedGroup + `m.group_id
		LEFT JOIN {}groups g ON ` + knownGroup + `m.group_id
		WHERE m.source = ?2 AND m.directory = ?3 AND m.present AND m.version < ?4 AND x.user_id IS NULL
			AND (g.group_id IS NULL OR NOT g.removed AND m.version > g.floor) AND NOT (` + unlistedGroup + `)`},

	{store.ExtraGroup, `SELECT g.group_id, '', g.version FROM {}groups g LEFT JOIN {}reconcile_groups t ON ` + listedGroup + `g.group_id
		WHERE g.source = ?2 AND g.directory = ?3 AND ` + unlistedGroup},

	{store.MissingDirectory, `SELECT '', '', '' FROM {}reconcile_runs r WHERE r.id = ?1
		AND NOT EXISTS (SELECT 1 FROM {}directories d WHERE ` + knownDirectory + ` AND d.version <> '') AND '' < ?4`},

	{store.MissingGroup, `SELECT t.group_id, '', coalesce(g.version, '') FROM {}reconcile_groups t LEFT JOIN {}groups g ON ` + knownGroup + `t.group_id
		WHERE t.run = ?1 AND (g.group_id IS NULL OR (g.version = '' OR g.removed) AND g.version < ?4)`},

	{store.MissingAccount, `SELECT '', s.user_id, '' FROM {}reconcile_users s LEFT JOIN {}users u ON ` + knownUser + `
		WHERE s.run = ?1 AND u.user_id IS NULL AND '' < ?4`},

	{store.Tombstone, `SELECT '', s.user_id, u.version FROM {}reconcile_users s JOIN {}users u ON ` + knownUser + ` LEFT JOIN {}directories d ON ` + knownDirectory + `
		WHERE s.run = ?1 AND s.active AND u.version < ?4 AND NOT (` + keepsUser + `)`},

	{store.Attributes, `SELECT '', s.user_id, u.version FROM {}reconcile_users s JOIN {}users u ON ` + knownUser + ` LEFT JOIN {}directories d ON ` + knownDirectory + `
		WHERE s.run = ?1 AND s.active AND u.version < ?4 AND ` + keepsUser + ` AND ` + otherUser},

	{store.Attributes, `SELECT t.group_id, '', g.version FROM {}reconcile_groups t JOIN {}groups g ON ` + knownGroup + `t.group_id
		WHERE t.run = ?1 AND NOT g.removed AND g.version <> '' AND g.version < ?4 AND ` + otherGroup},

	{store.MissingMembership, `SELECT x.group_id, x.user_id, coalesce(m.version, '') FROM {}reconcile_memberships x
		JOIN {}reconcile_users s ON ` + listedUser + `x.user_id AND s.active
		LEFT JOIN {}memberships m ON ` + knownEdge + `
		LEFT JOIN {}groups g ON ` + knownGroup + `x.group_id
		LEFT JOIN {}directories d ON ` + knownDirectory + `
		WHERE x.run = ?1 AND (m.user_id IS NULL OR (NOT m.present OR m.version <= g.floor OR m.version <= d.end_floor) AND m.version < ?4)
			AND (g.group_id IS NULL OR g.floor < ?4)`},
}

// Compare implements store.Reconciling.
func (r Reconciling) Compare(ctx context.Context, run string, before directory.Version) (c store.Comparison, err error) {
	err = within(ctx, r.DB, r.Options, r.Whole, func(tx *sql.Tx) error {
		if err := r.forget(ctx, tx, run, []string{"reconcile_drift"}); err != nil {
			return err
		}
		scope, err := ask(ctx, tx, "the run", scanScope, r.said(`SELECT source, directory FROM {}reconcile_runs WHERE id = ?1 AND ended IS NULL`), run)
		if err != nil {
			return err
		}
		if len(scope) == 0 {
			return store.ErrRunLost
		}
		c.Kinds = map[store.DriftKind]int64{}
		for _, f := range findings {
			n, err := affected(tx.ExecContext(ctx, r.said(fmt.Sprintf(`INSERT INTO {}reconcile_drift (run, rank, kind, group_id, user_id, seen)
				SELECT ?1, %d, '%s', f.* FROM (%s) f`, rankOf(f.kind), f.kind, f.text)),
				run, scope[0].Source, scope[0].Directory, string(before)))
			if err != nil {
				return fmt.Errorf("look for %s: %w", f.kind, err)
			}
			c.Kinds[f.kind] += int64(n)
		}
		return r.count(ctx, tx, run, scope[0], &c)
	})
	return c, wrap("compare the listing with the registers", err)
}

// count counts what was staged, who is active, and who would lose something.
func (r Reconciling) count(ctx context.Context, tx *sql.Tx, run string, scope directory.Scope, c *store.Comparison) error {
	for _, n := range []struct {
		into *int64
		text string
		args []any
	}{
		{&c.Users, `SELECT count(*) FROM {}reconcile_users WHERE run = ?1`, []any{run}},
		{&c.ActiveUsers, `SELECT count(*) FROM {}reconcile_users WHERE run = ?1 AND active`, []any{run}},
		{&c.Groups, `SELECT count(*) FROM {}reconcile_groups WHERE run = ?1`, []any{run}},
		{&c.Memberships, `SELECT count(*) FROM {}reconcile_memberships WHERE run = ?1`, []any{run}},
		{&c.Active, `SELECT count(*) FROM {}active_accounts WHERE source = ?1 AND directory = ?2`, []any{scope.Source, scope.Directory}},
		{&c.Leavers, leavers, []any{run, scope.Source, scope.Directory}},
		{&c.Losers, losers, []any{run, scope.Source, scope.Directory}},
	} {
		if err := tx.QueryRowContext(ctx, r.said(n.text), n.args...).Scan(n.into); err != nil {
			return fmt.Errorf("count: %w", err)
		}
	}
	return nil
}

// The active accounts whose user would end, or become somebody else's; and the active users who would lose a group. CROSS JOIN keeps
// SQLite from beginning with all memberships.
var (
	leavers = `SELECT count(*) FROM {}reconcile_drift f JOIN {}users u ON u.source = ?2 AND u.directory = ?3 AND u.user_id = f.user_id
		JOIN {}active_accounts a ON a.source = ?2 AND a.directory = ?3 AND a.account_key = u.account_key AND a.user_id = u.user_id
		LEFT JOIN {}reconcile_users s ON ` + listedUser + `f.user_id
		WHERE f.run = ?1 AND f.group_id = '' AND (f.kind = 'should_be_inactive' OR f.kind = 'attributes' AND s.idp_id <> '' AND s.idp_id <> u.idp_id)`

	losers = `SELECT count(*) FROM (
		SELECT f.user_id FROM {}reconcile_drift f WHERE f.run = ?1 AND f.kind = 'extra_membership'
		UNION SELECT m.user_id FROM {}reconcile_drift f CROSS JOIN {}memberships m CROSS JOIN {}users u
			WHERE f.run = ?1 AND f.kind = 'extra_group' AND m.source = ?2 AND m.directory = ?3 AND m.group_id = f.group_id AND m.present
				AND u.source = ?2 AND u.directory = ?3 AND u.user_id = m.user_id AND u.active) l`
)

// driftColumns are a finding with all that is listed and known of it.
const driftColumns = `f.rank, f.kind, f.group_id, f.user_id, f.seen,
	s.user_id, s.organization, s.active, s.state, s.email, s.first_name, s.last_name, s.name, s.attributes, s.idp_id, s.created, s.updated,
	t.group_id, t.organization, t.idp_id, t.name, t.updated,
	u.user_id, u.organization, u.version, u.active, u.state, u.email, u.first_name, u.last_name, u.name, u.attributes, u.idp_id, u.created,
	g.group_id, g.organization, g.idp_id, g.version, g.removed, g.floor, g.name,
	m.version, m.present`

// Drift implements store.Reconciling.
func (r Reconciling) Drift(ctx context.Context, run string, after store.DriftKey, limit int) (found []store.Drift, err error) {
	text := r.said(`SELECT ` + driftColumns + ` FROM (SELECT d.*, r.source, r.directory FROM {}reconcile_drift d JOIN {}reconcile_runs r ON r.id = d.run
			WHERE d.run = ?1 AND (d.rank, d.group_id, d.user_id) > (?2, ?3, ?4) ORDER BY d.rank, d.group_id, d.user_id LIMIT ?5) f
		LEFT JOIN {}reconcile_users s ON s.run = ?1 AND s.user_id = f.user_id
		LEFT JOIN {}reconcile_groups t ON t.run = ?1 AND t.group_id = f.group_id
		LEFT JOIN {}users u ON u.source = f.source AND u.directory = f.directory AND u.user_id = f.user_id
		LEFT JOIN {}groups g ON g.source = f.source AND g.directory = f.directory AND g.group_id = f.group_id
		LEFT JOIN {}memberships m ON m.source = f.source AND m.directory = f.directory AND m.group_id = f.group_id AND m.user_id = f.user_id
		ORDER BY f.rank, f.group_id, f.user_id`)
	err = within(ctx, r.ReadDB, nil, r.Few, func(tx *sql.Tx) error {
		found, err = ask(ctx, tx, "what was found", scanDrift, text, run, after.Rank, after.Group, after.User, limit)
		return err
	})
	return found, err
}

// scanDrift reads driftColumns.
func scanDrift(row Scanner) (store.Drift, error) {
	var (
		d                                  store.Drift
		su                                 store.StagedUser
		sg                                 store.StagedGroup
		ku                                 directory.User
		kg                                 directory.Group
		ke                                 directory.Edge
		listedUser, listedGroup, user, grp sql.NullString
	)
	err := row.Scan(
		&d.Rank, &d.Kind, &d.Group, &d.User, &d.Seen,
		&listedUser, maybe(&su.Organization), maybe(&su.Active), maybe(&su.State), maybe(&su.Email), maybe(&su.FirstName), maybe(&su.LastName), maybe(&su.Name),
		document{&su.Attributes}, maybe(&su.IDPID), moment{&su.Created}, moment{&su.Updated},
		&listedGroup, maybe(&sg.Organization), maybe(&sg.IDPID), maybe(&sg.Name), moment{&sg.Updated},
		&user, maybe(&ku.Organization), maybe(&ku.Version), maybe(&ku.Active), maybe(&ku.State), maybe(&ku.Email), maybe(&ku.FirstName), maybe(&ku.LastName), maybe(&ku.Name),
		document{&ku.Attributes}, maybe(&ku.IDPID), moment{&ku.Created},
		&grp, maybe(&kg.Organization), maybe(&kg.IDPID), maybe(&kg.Version), maybe(&kg.Removed), maybe(&kg.Floor), maybe(&kg.Name),
		maybe(&ke.Version), maybe(&ke.Present),
	)
	su.ID, sg.ID, ku.ID.ID, kg.ID.ID, ke.Group, ke.User = d.User, d.Group, d.User, d.Group, d.Group, d.User
	d.ListedUser, d.ListedGroup = ifThere(&su, listedUser.Valid), ifThere(&sg, listedGroup.Valid)
	d.KnownUser, d.KnownGroup, d.KnownEdge = ifThere(&ku, user.Valid), ifThere(&kg, grp.Valid), ifThere(&ke, ke.Version != "")
	return d, err
}

func ifThere[T any](v *T, is bool) *T {
	if !is {
		return nil
	}
	return v
}

// maybe reads a column that may be null, which leaves the value as it is.
func maybe[T any](into *T) sql.Scanner { return nullable[T]{into} }

type nullable[T any] struct{ into *T }

// Scan implements sql.Scanner.
func (n nullable[T]) Scan(src any) error {
	var v sql.Null[T]
	if err := v.Scan(src); err != nil || !v.Valid {
		return err
	}
	*n.into = v.V
	return nil
}
