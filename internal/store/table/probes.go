package table

import (
	"context"
	"fmt"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

const verdictColumns = `source, directory, account_key, probe, seq, at, verdict, rows, detail`

// SaveVerdicts implements store.Binding: each over the one of its probe and account that was.
func (b Binding) SaveVerdicts(ctx context.Context, v []store.Verdict) error {
	if len(v) == 0 {
		return nil
	}
	_, err := b.Write.ExecContext(ctx, `INSERT INTO `+b.in("probes")+` (`+verdictColumns+`) SELECT `+Prefix("k", verdictColumns)+`
		FROM `+b.Dialect.Rows(1, "source text, directory text, account_key text, probe text, seq bigint, at timestamptz, verdict text, rows bigint, detail text")+`
		WHERE true ON CONFLICT (source, directory, account_key, probe) DO UPDATE SET seq = excluded.seq, at = excluded.at, verdict = excluded.verdict, rows = excluded.rows, detail = excluded.detail`,
		rows(v, func(v store.Verdict) map[string]any {
			return map[string]any{
				"source": v.Source, "directory": v.Directory, "account_key": v.ID.ID, "probe": v.Probe, "seq": v.Seq, "at": b.at(v.At), "verdict": v.Result,
				"rows": v.Rows, "detail": directory.Text(v.Detail, maxError),
			}
		}))
	return wrap(fmt.Sprintf("save %d verdicts", len(v)), err)
}

// Verdicts implements store.Binding: by source, directory, account and probe.
func (b Binding) Verdicts(ctx context.Context, account directory.ID) ([]store.Verdict, error) {
	q := Reader{Dialect: b.Dialect}.from(verdictColumns, "probes")
	q.equal("source", account.Source)
	q.equal("directory", account.Directory)
	q.equal("account_key", account.ID)
	text, args := q.end("source, directory, account_key, probe", all)
	return ask(ctx, b.Read, "verdicts", fields(func(v *store.Verdict) []any {
		return []any{&v.Source, &v.Directory, &v.ID.ID, &v.Probe, &v.Seq, moment{&v.At}, &v.Result, &v.Rows, &v.Detail}
	}), text, args...)
}

// all is a limit that none of these lists reaches.
const all = 1 << 31

var scanAccountID = fields(func(id *directory.ID) []any { return []any{&id.Source, &id.Directory, &id.ID} })

// ofLink says that a table's row is of the account of the link l.
func ofLink(alias string) string { return alias + fmt.Sprintf(sameAccount, alias) }

// left says of a link l and its account a that they are of somebody who left, and that nobody active has the row.
func (b Binding) left() string {
	return `l.state = 'linked' AND NOT a.active AND NOT EXISTS (` + b.active() + `)`
}

// active selects active accounts that are linked with the row of the link l.
func (b Binding) active() string {
	return `SELECT 1 FROM ` + b.in("links") + ` o JOIN ` + b.in("active_accounts") + ` v ON v.source = o.source AND v.directory = o.directory AND v.account_key = o.account_key
				WHERE o.state = 'linked' AND o.app_id = l.app_id AND o.tenant = l.tenant`
}

// ofProbes says that a verdict is of one of the probes that the n-th argument names: what others said that there are no more
// would never be said anew.
func (b Binding) ofProbes(n int) string {
	return `p.probe IN (SELECT k.probe FROM ` + b.Dialect.Rows(n, "probe text") + `)`
}

func probeArg(probes []string) string {
	return rows(probes, func(probe string) map[string]any { return map[string]any{"probe": probe} })
}

// Unprobed implements store.Binding: by source, directory and account.
func (b Binding) Unprobed(ctx context.Context, probes []string, limit int) ([]directory.ID, error) {
	of := ofLink
	return ask(ctx, b.Read, "accounts to probe", scanAccountID, `SELECT l.source, l.directory, l.account_key FROM `+b.in("links")+` l JOIN `+b.in("accounts")+` a ON `+of("a")+`
		WHERE `+b.left()+`
			AND ((SELECT count(*) FROM `+b.in("probes")+` p WHERE `+of("p")+` AND `+b.ofProbes(1)+`) < `+b.mark(2)+`
				OR EXISTS (SELECT 1 FROM `+b.in("changes")+` c WHERE `+of("c")+` AND c.kind = 'account.deactivated' AND c.bound_result = '`+store.ResultBound+`'
					AND c.seq > (SELECT max(p.seq) FROM `+b.in("probes")+` p WHERE `+of("p")+`)))
		ORDER BY l.source, l.directory, l.account_key LIMIT `+b.mark(3), probeArg(probes), len(probes), limit)
}

// A verdict that is not clean is taken again after the shortest time at the soonest, and after the longest in any case.
const soonest, longest = time.Minute, time.Hour

// Unclean implements store.Binding.
func (b Binding) Unclean(ctx context.Context, probes []string, now time.Time, limit int) ([]directory.ID, error) {
	return ask(ctx, b.Read, "accounts to probe again", scanAccountID, `SELECT u.source, u.directory, u.account_key FROM (
			SELECT l.source, l.directory, l.account_key, min(p.at) AS at FROM `+b.in("probes")+` p
			JOIN `+b.in("links")+` l ON `+ofLink("p")+`
			JOIN `+b.in("accounts")+` a ON `+ofLink("a")+`
			LEFT JOIN `+b.in("changes")+` c ON c.seq = p.seq
			WHERE p.verdict <> 'clean' AND `+b.ofProbes(5)+` AND p.at <= `+b.mark(1)+` AND (p.at <= `+b.mark(2)+` OR p.at - c.bound_at <= `+b.mark(3)+` - p.at) AND `+b.left()+`
			GROUP BY l.source, l.directory, l.account_key) u
		ORDER BY u.at, u.source, u.directory, u.account_key LIMIT `+b.mark(4),
		b.Dialect.Time(now.Add(-soonest)), b.Dialect.Time(now.Add(-longest)), b.Dialect.Time(now), limit, probeArg(probes))
}

// Findings implements store.Binding. It reads what is not clean alone.
func (b Binding) Findings(ctx context.Context, probes []string) (map[string]int64, error) {
	type finding struct {
		verdict string
		count   int64
	}
	found, err := ask(ctx, b.Read, "what probes found", fields(func(f *finding) []any { return []any{&f.verdict, &f.count} }), `SELECT w.verdict, count(*) FROM (
			SELECT CASE WHEN max(CASE WHEN p.verdict = 'dirty' THEN 1 ELSE 0 END) = 1 THEN 'dirty' ELSE 'unknown' END AS verdict FROM `+b.in("probes")+` p
			JOIN `+b.in("accounts")+` a ON a.source = p.source AND a.directory = p.directory AND a.account_key = p.account_key
			LEFT JOIN `+b.in("links")+` l ON `+ofLink("p")+` AND l.state = 'linked'
			WHERE p.verdict <> 'clean' AND `+b.ofProbes(1)+` AND NOT a.active AND NOT EXISTS (`+b.active()+`)
			GROUP BY p.source, p.directory, p.account_key) w GROUP BY w.verdict`, probeArg(probes))
	counts := map[string]int64{}
	for _, f := range found {
		counts[f.verdict] = f.count
	}
	return counts, err
}

const exemptionColumns = `tenant, app_id, owner, reason, created_at, created_by, expires_at`

// Exemptions implements store.Binding: by tenant and id. Expired ones are among them.
func (b Binding) Exemptions(ctx context.Context) ([]store.Exemption, error) {
	return ask(ctx, b.Read, "exemptions", fields(func(e *store.Exemption) []any {
		return []any{&e.Tenant, &e.AppID, &e.Owner, &e.Reason, moment{&e.Created}, &e.By, moment{&e.Expires}}
	}), `SELECT `+exemptionColumns+` FROM `+b.in("exemptions")+` ORDER BY tenant, app_id`)
}

// SaveExemption implements store.Binding: over the one of the same account that was.
func (b Binding) SaveExemption(ctx context.Context, e store.Exemption) error {
	if e.Created.IsZero() {
		e.Created = time.Now()
	}
	_, err := b.Write.ExecContext(ctx, `INSERT INTO `+b.in("exemptions")+` (`+exemptionColumns+`)
		VALUES (`+b.mark(1)+`, `+b.mark(2)+`, `+b.mark(3)+`, `+b.mark(4)+`, `+b.mark(5)+`, `+b.mark(6)+`, `+b.mark(7)+`)
		ON CONFLICT (tenant, app_id) DO UPDATE SET owner = excluded.owner, reason = excluded.reason, created_at = excluded.created_at,
		created_by = excluded.created_by, expires_at = excluded.expires_at`,
		e.Tenant, e.AppID, e.Owner, e.Reason, b.Dialect.Time(e.Created), e.By, b.Dialect.Time(e.Expires))
	return wrap("save the exemption of "+e.AppID, err)
}

// DropExemption implements store.Binding.
func (b Binding) DropExemption(ctx context.Context, tenant, appID string) error {
	n, err := affected(b.Write.ExecContext(ctx, `DELETE FROM `+b.in("exemptions")+` WHERE tenant = `+b.mark(1)+` AND app_id = `+b.mark(2), tenant, appID))
	return wrap("drop the exemption of "+appID, there(n, err))
}

// Drop implements store.Binding. The ledger comes first, as it does when an event is opened again.
func (b Binding) Drop(ctx context.Context, keys []store.EventKey, by, reason string) (int, error) {
	if len(keys) == 0 {
		return 0, nil
	}
	tx, err := b.Write.BeginTx(ctx, nil)
	if err != nil {
		return 0, fmt.Errorf("drop %d dead events: %w", len(keys), err)
	}
	defer func() { _ = tx.Rollback() }()
	list := rows(keys, func(k store.EventKey) map[string]any { return map[string]any{"source": k.Source, "id": k.ID} })
	named := `(source, id) IN (SELECT k.source, k.id FROM ` + b.Dialect.Rows(1, "source text, id text") + `)`
	if _, err := tx.ExecContext(ctx, `UPDATE `+b.in("events")+` SET outcome = 'ignored', reason = `+b.mark(2)+` WHERE `+named+` AND outcome = 'parked'`,
		list, directory.Text("dropped by "+by+": "+reason, maxError)); err != nil {
		return 0, fmt.Errorf("write into the ledger who dropped %d events: %w", len(keys), err)
	}
	n, err := affected(tx.ExecContext(ctx, `DELETE FROM `+b.in("dead_events")+` WHERE `+named, list))
	if err != nil {
		return 0, fmt.Errorf("drop %d dead events: %w", len(keys), err)
	}
	return n, wrap("drop dead events", tx.Commit())
}
