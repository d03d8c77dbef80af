package table

import (
	"context"
	"fmt"
	"strings"

	"github.com/rollcallhq/rollcall/internal/store"
)

// Spared implements store.Binding: it looks at so many by their index, and then each up by its account.
func (b Binding) Spared(ctx context.Context, f store.SparedFilter) ([]store.SparedChange, int64, error) {
	if f.Limit == 0 {
		f.Limit = 50
	}
	seqs, err := ask(ctx, b.Read, "what took nothing", scanSeq, `SELECT c.seq FROM `+b.in("changes")+` c`+b.Dialect.By("changes_"+f.Result)+`
		WHERE (c.bound_result = '`+f.Result+`' OR c.posted_result = '`+f.Result+`') AND c.seq > `+b.mark(1)+` ORDER BY c.seq LIMIT `+b.mark(2), f.After, f.Limit)
	if err != nil || len(seqs) == 0 {
		return nil, 0, err
	}
	args := []any{seqArg(seqs), f.Source, f.Directory}
	text := `SELECT ` + Prefix("c", "seq, at, "+ChangeColumns) + `, l.app_id, l.tenant FROM ` + b.in("changes") + ` c
		JOIN ` + b.in("modes") + ` m ON m.source = c.source AND m.directory = c.directory AND m.mode <> 'observe'
		JOIN ` + b.in("links") + ` l ON l.source = c.source AND l.directory = c.directory AND l.account_key = c.account_key AND l.state = 'linked'
		WHERE ` + b.Dialect.Named("c.seq", 1) + ` AND (%2 = '' OR c.source = %2) AND (%3 = '' OR c.directory = %3) AND NOT EXISTS (` + b.since("c") + `)`
	if f.Result == store.ResultKept {
		text += ` AND NOT EXISTS (` + b.keeper() + ` AND NOT (o.source = %4 AND o.directory = %5)) AND NOT EXISTS (` + b.taker() + `)`
		args = append(args, f.Without.Source, f.Without.Directory)
	}
	for i := range args {
		text = strings.ReplaceAll(text, fmt.Sprint("%", i+1), b.mark(i+1))
	}
	found, err := ask(ctx, b.Read, "what took nothing", func(row Scanner) (c store.SparedChange, err error) {
		c.ChangeRow, err = ScanChange(And(row, &c.AppID, &c.Tenant))
		return c, err
	}, text+` ORDER BY c.seq`, args...)
	if len(seqs) < f.Limit {
		return found, 0, err
	}
	return found, seqs[len(seqs)-1], err
}

// since selects later changes that say something of the same thing.
func (b Binding) since(alias string) string {
	return strings.ReplaceAll(`SELECT 1 FROM `+b.in("changes")+` n`+b.Dialect.By("changes_account")+` WHERE n.source = %.source AND n.directory = %.directory
		AND n.account_key = %.account_key AND n.seq > %.seq AND n.group_id = %.group_id AND n.role = %.role AND n.kind <> 'account.updated'`, "%.", alias+".")
}

// others are the links of other accounts of the same person, o, each with the mode of its directory, y.
func (b Binding) others() string {
	return b.in("links") + ` o JOIN ` + b.in("modes") + ` y ON y.source = o.source AND y.directory = o.directory AND y.mode <> 'observe'`
}

const otherAccount = `o.state = 'linked' AND o.app_id = l.app_id AND o.tenant = l.tenant AND NOT (o.source = l.source AND o.directory = l.directory AND o.account_key = l.account_key)`

// keeper selects other accounts of the person that keep what the change c would take. What is active is written out as the
// view active_accounts has it: joined as a view SQLite would walk all of it for each account.
func (b Binding) keeper() string {
	return `SELECT 1 FROM ` + b.others() + `
		JOIN ` + b.in("accounts") + ` a ON a.source = o.source AND a.directory = o.directory AND a.account_key = o.account_key
		LEFT JOIN ` + b.in("directories") + ` d ON d.source = o.source AND d.directory = o.directory
		WHERE ` + otherAccount + ` AND ` + announcedActive + ` AND (c.role = '' OR ` + b.Dialect.Has("a.roles", "c.role") + `)`
}

// taker selects ends of other accounts of the person, later than the change c, that took the same on the tracks where it was kept,
// or are about to.
func (b Binding) taker() string {
	took := func(track string) string {
		return strings.ReplaceAll(fmt.Sprintf(`(coalesce(c.T_result, '') <> '%s' OR x.T_result = '%s' OR x.T_at IS NULL AND y.mode = 'enforce')`, store.ResultKept, store.ResultBound), "T_", track+"_")
	}
	return `SELECT 1 FROM ` + b.others() + `
		JOIN ` + b.in("changes") + ` x` + b.Dialect.By("changes_account") + ` ON x.source = o.source AND x.directory = o.directory AND x.account_key = o.account_key AND x.seq > c.seq
		WHERE ` + otherAccount + ` AND x.kind = c.kind AND x.role = c.role AND ` + took("bound") + ` AND ` + took("posted") + ` AND NOT EXISTS (` + b.since("x") + `)`
}
