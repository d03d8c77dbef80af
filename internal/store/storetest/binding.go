package storetest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/directory/directorytest"
	"github.com/rollcallhq/rollcall/internal/store"
)

// bound is a store whose database a test opens sessions on.
type bound struct {
	store.Store
	db *sql.DB
}

// RunBinding runs the suite of store.Binding and store.BindingTx. db is what the store itself writes through.
func RunBinding(t *testing.T, b Backend, db func(store.Store) *sql.DB) {
	for name, test := range map[string]func(*testing.T, bound){
		"a directory is admitted once, with what it was admitted under":       testAdmit,
		"what is observed is done on both tracks, in pieces":                  testObserved,
		"directories take turns, and removals come first":                     testTurns,
		"of many removals in a directory, others wait for none":               testManyRemovals,
		"a part of many removals is one of many":                              testManyInAFew,
		"lanes are of directories that enforce":                               testOnlyEnforced,
		"a failure stops its lane until its time, and no removal":             testFailure,
		"removals that failed wait for their time, others pass them":          testFailedRemoval,
		"many failures hide nobody":                                           testManyFailures,
		"tracks wait for themselves":                                          testTracks,
		"what waits in a lane comes in order":                                 testWaiting,
		"a change is settled once":                                            testSettleOnce,
		"what failed is counted and says why":                                 testSettleFailed,
		"what nothing is posted of is done there too":                         testSettlePosted,
		"a session that is rolled back has written nothing":                   testSession,
		"a mark is made once":                                                 testMarks,
		"the backlog says what waits and what fails":                          testBacklog,
		"links come with their accounts":                                      testLinks,
		"a row has one account of a directory":                                testTaken,
		"of two who link a row at once one gets it":                           testTakenRace,
		"an operator's link outlasts what a lookup found meanwhile":           testOperatorsLink,
		"links are saved together, and what is taken by itself":               testSaveLinks,
		"links that are due come by their time":                               testLinksDue,
		"what waits of an account can be hurried":                             testHurry,
		"siblings are active accounts of the same row":                        testSiblings,
		"somebody who left is probed until a verdict is as late as the leave": testUnprobed,
		"what was kept is lapsed when nobody keeps it":                        testLapsed,
		"what was kept is taken once, by the last who ends":                   testTakenOnce,
		"who is protected is spared until they are spoken of again":           testProtected,
		"a verdict is taken again until it is clean":                          testUnclean,
		"findings are of those who are not active, by the probes there are":   testFindings,
		"a verdict replaces the one before":                                   testVerdicts,
		"exemptions are kept until they are dropped":                          testExemptions,
		"the feed goes on where its cursor is":                                testFeed,
		"a dropped event is ignored for good":                                 testDrop,
		"what was told is what bound changes said last":                       testTold,
		"what was bound in full leaves no difference":                         testNoDifference,
		"what waits is discarded for one directory":                           testDiscard,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := b.open(t, config(directory.DecisionDeprovision))
			test(t, bound{s, db(s)})
		})
	}
}

var acme, bolt = directory.Scope{Source: "workos", Directory: "acme"}, directory.Scope{Source: "workos", Directory: "bolt"}

func (s bound) update(t testing.TB, scope directory.Scope, do func(ctx context.Context, tx store.Tx) error) {
	t.Helper()
	if err := s.Update(t.Context(), []directory.Scope{scope}, do); err != nil {
		t.Fatalf("Update() = %v", err)
	}
}

func (s bound) mode(t testing.TB, scope directory.Scope, mode store.Mode) {
	t.Helper()
	s.update(t, scope, func(ctx context.Context, tx store.Tx) error {
		return tx.SetMode(ctx, store.ModeRow{Scope: scope, Mode: mode, By: "ops", Reason: "test"})
	})
}

// say saves changes, as "kind account group role" with - for nothing, and returns their numbers.
func (s bound) say(t testing.TB, scope directory.Scope, texts ...string) (seqs []int64) {
	t.Helper()
	var changes []directory.Change
	for _, text := range texts {
		var kind, account, group, role string
		_, _ = fmt.Sscan(text, &kind, &account, &group, &role)
		some := func(v string) string { return strings.Trim(v, "-") }
		changes = append(changes, directory.Change{
			Scope: scope, Kind: directory.ChangeKind(kind), Account: some(account), Group: some(group), Role: some(role), Event: "event_1", Occurred: directorytest.Start,
			After: &directory.Face{Active: true, IDPID: account},
		})
	}
	return s.save(t, scope, changes)
}

func (s bound) save(t testing.TB, scope directory.Scope, changes []directory.Change) (seqs []int64) {
	t.Helper()
	before := s.all(t)
	s.update(t, scope, func(ctx context.Context, tx store.Tx) error {
		return tx.Save(ctx, store.Batch{Delta: directory.Delta{Changes: changes}})
	})
	for _, c := range s.all(t)[len(before):] {
		seqs = append(seqs, c.Seq)
	}
	return seqs
}

func (s bound) all(t testing.TB) []store.ChangeRow {
	t.Helper()
	rows, err := s.Changes(t.Context(), store.ChangeFilter{Limit: 1_000_000})
	if err != nil {
		t.Fatalf("Changes() = %v", err)
	}
	return rows
}

// now is a time to ask at; what failed is put off from here.
var now = directorytest.Start.Add(24 * time.Hour)

func (s bound) fail(t testing.TB, track store.Track, next time.Time, seqs ...int64) {
	t.Helper()
	var failed []store.Failed
	for _, seq := range seqs {
		failed = append(failed, store.Failed{Seq: seq, Error: "no such column", Next: next})
	}
	if err := s.Settle(t.Context(), nil, track, nil, failed, false); err != nil {
		t.Fatalf("Settle() = %v", err)
	}
}

func (s bound) done(t testing.TB, track store.Track, result string, seqs ...int64) {
	t.Helper()
	var done []store.Done
	for _, seq := range seqs {
		done = append(done, store.Done{Seq: seq, Result: result, Rows: 1, Digest: "abc"})
	}
	if err := s.Settle(t.Context(), nil, track, done, nil, false); err != nil {
		t.Fatalf("Settle() = %v", err)
	}
}

// lanes renders lanes as "directory account group": removals, many removals, removals again, others again, others.
func (s bound) lanes(t testing.TB, track store.Track, at time.Time, limit int) []string {
	t.Helper()
	lanes, _, err := s.Lanes(t.Context(), track, at, limit)
	if err != nil {
		t.Fatalf("Lanes() = %v", err)
	}
	return texts(lanes)
}

func texts(lanes store.Lanes) (out []string) {
	for _, l := range slices.Concat(lanes[:]...) {
		out = append(out, strings.TrimSpace(l.Directory+" "+l.Account+" "+l.Group))
	}
	return out
}

func (s bound) waiting(t testing.TB, track store.Track, lanes ...store.Lane) []store.WaitingChange {
	t.Helper()
	w, err := s.Waiting(t.Context(), nil, track, lanes)
	if err != nil {
		t.Fatalf("Waiting() = %v", err)
	}
	return w
}

func seqsOf(w []store.WaitingChange) (seqs []int64) {
	for _, c := range w {
		seqs = append(seqs, c.Seq)
	}
	return seqs
}

func want[T any](t testing.TB, what string, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s: want (-), got (+):\n%s", what, diff)
	}
}

func testAdmit(t *testing.T, s bound) {
	s.mode(t, acme, store.Paused)
	s.say(t, acme, "account.activated ada")
	s.say(t, bolt, "account.activated bob", "account.updated bob")
	admitted, err := s.Admit(t.Context(), store.Observe)
	if err != nil {
		t.Fatal(err)
	}
	want(t, "Admit()", admitted, []directory.Scope{bolt})
	if again, err := s.Admit(t.Context(), store.Enforce); err != nil || len(again) != 0 {
		t.Errorf("Admit() again = %v, %v, want none", again, err)
	}
	modes, err := s.Modes(t.Context())
	if err != nil || len(modes) != 2 || modes[0].Changed.IsZero() || modes[1].Changed.IsZero() {
		t.Fatalf("Modes() = %+v, %v, want two with their times", modes, err)
	}
	modes[0].Changed, modes[1].Changed = time.Time{}, time.Time{}
	want(t, "Modes()", modes, []store.ModeRow{{Scope: acme, Mode: store.Paused, By: "ops", Reason: "test"}, {Scope: bolt, Mode: store.Observe, By: "rollcall"}})

	third := directory.Scope{Source: "okta", Directory: "acme"} // the same name at another source is another one
	s.say(t, third, "account.activated cyd")
	if admitted, err = s.Admit(t.Context(), store.Enforce); err != nil {
		t.Fatal(err)
	}
	want(t, "Admit() of a third", admitted, []directory.Scope{third})
	want(t, "lanes", s.lanes(t, store.Bound, now, 10), []string{"acme cyd"})
}

func testObserved(t *testing.T, s bound) {
	paused, enforced := directory.Scope{Source: "workos", Directory: "cafe"}, directory.Scope{Source: "workos", Directory: "dodo"}
	for scope, mode := range map[directory.Scope]store.Mode{acme: store.Observe, bolt: store.Observe, paused: store.Paused, enforced: store.Enforce} {
		s.mode(t, scope, mode)
		s.say(t, scope, "account.activated ada", "group.created - eng", "directory.activated")
	}
	for i, want := range []int{4, 2, 0} {
		if n, err := s.Observed(t.Context(), 4); err != nil || n != want {
			t.Errorf("Observed() call %d = %d, %v, want %d", i+1, n, err, want)
		}
	}
	for scope, count := range map[directory.Scope]int{acme: 0, bolt: 0, paused: 1, enforced: 1} {
		for _, track := range []store.Track{store.Bound, store.Posted} {
			if got := s.waiting(t, track, store.Lane{Scope: scope, Account: "ada"}); len(got) != count {
				t.Errorf("%s %s: %d changes wait, want %d", scope.Directory, track, len(got), count)
			}
		}
	}
}

func testTurns(t *testing.T, s bound) {
	s.mode(t, acme, store.Enforce)
	s.mode(t, bolt, store.Enforce)
	s.say(t, acme, "directory.activated", "group.created - eng", "account.activated a1", "account.activated a2", "grant.added a1 eng", "account.activated a3")
	s.say(t, bolt, "account.activated b1", "account.activated b2", "role.revoked b3 - admin")
	s.say(t, acme, "account.deactivated a4")
	s.say(t, acme, "grant.revoked a2 eng")
	want(t, "Lanes()", s.lanes(t, store.Bound, now, 100), []string{
		"bolt b3", "acme a4", // removals, those that wait longer before the others
		"acme a2", // has one too, behind its activation
		"acme", "bolt b1",
		"acme  eng", "bolt b2",
		"acme a1", "acme a3",
	})
	want(t, "Lanes() of 2 in each class", s.lanes(t, store.Bound, now, 2), []string{"bolt b3", "acme a4", "acme", "bolt b1"})
}

// testManyRemovals is a directory that ends, and somebody who leaves another one.
func testManyRemovals(t *testing.T, s bound) {
	s.mode(t, acme, store.Enforce)
	s.mode(t, bolt, store.Enforce)
	var few, leave []string
	for n := range store.Few {
		few = append(few, fmt.Sprintf("account.deactivated b%d", n))
	}
	for n := range 2 * store.Few {
		leave = append(leave, fmt.Sprintf("account.deactivated a%d", n))
	}
	s.say(t, acme, append(leave, "account.activated a0")...)
	s.say(t, bolt, few...)
	lanes, _, err := s.Lanes(t.Context(), store.Bound, now, 100)
	if err != nil {
		t.Fatalf("Lanes() = %v", err)
	}
	if few, many, all := len(lanes[store.Removals]), len(lanes[store.ManyRemovals]), len(texts(lanes)); few != store.Few || many != 2*store.Few || all != few+many {
		t.Errorf("Lanes() = %d removals, %d of many, %d in all, want %d, %d, and no other", few, many, all, store.Few, 2*store.Few)
	}
	for _, l := range lanes[store.Removals] {
		if l.Scope != bolt {
			t.Errorf("%v is not one of many, want only those of %s so", l, bolt.Directory)
		}
	}
}

// testManyInAFew is a directory that ends, of which little is read: each who leaves has several removals.
func testManyInAFew(t *testing.T, s bound) {
	s.mode(t, acme, store.Enforce)
	var leave []string
	for n := range 64 {
		name := fmt.Sprintf("a%d", n)
		leave = append(leave, "account.deactivated "+name)
		for _, group := range []string{"eng", "ops", "all"} {
			leave = append(leave, "grant.revoked "+name+" "+group)
		}
	}
	s.say(t, acme, leave...)
	lanes, more, err := s.Lanes(t.Context(), store.Bound, now, 4)
	if err != nil || len(lanes[store.Removals]) != 0 || len(lanes[store.ManyRemovals]) != 4 || !more[store.ManyRemovals] {
		t.Errorf("Lanes() of a few = %v, %v, %v, want four of many, and that there are more", lanes, more, err)
	}
	if lanes, more, err = s.Lanes(t.Context(), store.Bound, now, 1000); err != nil || len(lanes[store.ManyRemovals]) != 64 || more != (store.More{}) {
		t.Errorf("Lanes() = %v, %v, %v, want all, and no more", lanes, more, err)
	}
}

func testOnlyEnforced(t *testing.T, s bound) {
	s.say(t, acme, "account.deactivated ada")
	want(t, "lanes without a mode", s.lanes(t, store.Bound, now, 10), nil)
	for _, mode := range []store.Mode{store.Observe, store.Paused} {
		s.mode(t, acme, mode)
		want(t, "lanes under "+string(mode), s.lanes(t, store.Bound, now, 10), nil)
	}
	s.mode(t, acme, store.Enforce)
	want(t, "lanes under enforce", s.lanes(t, store.Bound, now, 10), []string{"acme ada"})
}

func testFailure(t *testing.T, s bound) {
	s.mode(t, acme, store.Enforce)
	seqs := s.say(t, acme, "account.activated ada", "grant.added ada eng", "group.created - eng", "group.updated - eng", "group.created - ops", "account.activated bob", "directory.activated")
	next := now.Add(time.Minute)
	s.fail(t, store.Bound, next, seqs[0], seqs[2])
	others := []string{"acme  ops", "acme bob", "acme"}
	want(t, "Lanes() beside failures", s.lanes(t, store.Bound, now, 10), others)
	want(t, "Lanes() again", s.lanes(t, store.Bound, now, 10), others)
	if got := s.waiting(t, store.Bound, store.Lane{Scope: acme, Account: "ada"}); len(got) != 2 || !got[0].Next.Equal(next) || !got[1].Next.IsZero() || got[1].Attempts != 0 {
		t.Errorf("Waiting() = %+v, want a failed change and one that has not failed", got)
	}
	want(t, "Lanes() just before its time", s.lanes(t, store.Bound, next.Add(-time.Microsecond), 10), others)
	want(t, "Lanes() at its time", s.lanes(t, store.Bound, next, 10), append([]string{"acme ada", "acme  eng"}, others...))

	s.say(t, acme, "grant.added ada ops")
	want(t, "Lanes() after another change behind it", s.lanes(t, store.Bound, now, 10), others)
	s.say(t, acme, "account.deactivated ada")
	want(t, "Lanes() with a removal behind it", s.lanes(t, store.Bound, now, 10), append([]string{"acme ada"}, others...))
}

func testFailedRemoval(t *testing.T, s bound) {
	s.mode(t, acme, store.Enforce)
	seqs := s.say(t, acme, "account.deactivated ada", "grant.revoked ada eng", "account.deactivated bob")
	next := now.Add(time.Minute)
	s.fail(t, store.Bound, next, seqs[0], seqs[2])
	want(t, "Lanes()", s.lanes(t, store.Bound, now, 10), []string{"acme ada"})
	s.done(t, store.Bound, store.ResultBound, seqs[1])
	want(t, "Lanes() when the second is bound", s.lanes(t, store.Bound, now, 10), nil)
	s.say(t, acme, "account.activated bob")
	want(t, "Lanes() with an activation behind a failed removal", s.lanes(t, store.Bound, now, 10), nil)
	want(t, "Lanes() in time", s.lanes(t, store.Bound, next, 10), []string{"acme ada", "acme bob"})
	passed := s.say(t, acme, "account.activated cyd", "grant.revoked cyd eng")
	s.fail(t, store.Bound, next, passed[1])
	want(t, "Lanes() with what a failed removal passed", s.lanes(t, store.Bound, now, 10), []string{"acme cyd"})
	s.done(t, store.Bound, store.ResultBound, passed...)
	if err := s.Settle(t.Context(), nil, store.Bound, nil, []store.Failed{{Seq: seqs[0], Error: "no"}}, false); err != nil {
		t.Fatal(err)
	}
	want(t, "Lanes() of one that is to be tried at once", s.lanes(t, store.Bound, time.Now().Add(time.Minute), 10), []string{"acme ada", "acme bob"})
}

// testManyFailures is a broken binding: everybody's first change failed, and another waits behind it.
func testManyFailures(t *testing.T, s bound) {
	s.mode(t, acme, store.Enforce)
	var first, second []string
	for n := range 300 {
		first = append(first, fmt.Sprintf("account.activated a%d", n))
		second = append(second, fmt.Sprintf("grant.added a%d eng", n))
	}
	next := now.Add(time.Minute)
	s.fail(t, store.Bound, next, s.say(t, acme, first...)...)
	s.say(t, acme, append(second, "account.activated newcomer")...)
	var got []string
	for call := 0; len(got) == 0 && call < 10; call++ {
		got = s.lanes(t, store.Bound, now, 5)
	}
	want(t, "Lanes()", got, []string{"acme newcomer"})
	want(t, "Lanes() again", s.lanes(t, store.Bound, now, 5), []string{"acme newcomer"})
	if got := s.lanes(t, store.Bound, next, 1000); len(got) != 301 {
		t.Errorf("Lanes() in time = %d, want all 301", len(got))
	}
	s.fail(t, store.Bound, next.Add(time.Minute), seqsOf(s.waiting(t, store.Bound, store.Lane{Scope: acme, Account: "a0"}))[0])
	for range 10 { // what is behind is put off again
		got = s.lanes(t, store.Bound, next, 1000)
	}
	if len(got) != 300 || slices.Contains(got, "acme a0") {
		t.Errorf("Lanes() after another failure = %d, want the 300 others", len(got))
	}
}

func testTracks(t *testing.T, s bound) {
	s.mode(t, acme, store.Enforce)
	seqs := s.say(t, acme, "account.activated ada", "account.activated bob", "account.deactivated cyd")
	s.done(t, store.Bound, store.ResultBound, seqs[0])
	s.fail(t, store.Posted, now.Add(time.Hour), seqs[1])
	want(t, "bound lanes", s.lanes(t, store.Bound, now, 10), []string{"acme cyd", "acme bob"})
	want(t, "posted lanes", s.lanes(t, store.Posted, now, 10), []string{"acme cyd", "acme ada"})
}

func testWaiting(t *testing.T, s bound) {
	s.mode(t, acme, store.Paused)
	seqs := s.say(t, acme, "account.activated ada", "group.created - eng", "directory.activated", "grant.added ada eng", "account.activated bob", "role.added ada - admin", "group.ended - eng", "directory.ended")
	s.say(t, bolt, "account.activated ada", "group.created - eng", "directory.activated")
	ada, eng, itself := store.Lane{Scope: acme, Account: "ada"}, store.Lane{Scope: acme, Group: "eng"}, store.Lane{Scope: acme}
	want(t, "an account's", seqsOf(s.waiting(t, store.Bound, ada)), []int64{seqs[0], seqs[3], seqs[5]})
	want(t, "a group's", seqsOf(s.waiting(t, store.Bound, eng)), []int64{seqs[1], seqs[6]})
	want(t, "the directory's", seqsOf(s.waiting(t, store.Bound, itself)), []int64{seqs[2], seqs[7]})
	want(t, "of several, named twice", seqsOf(s.waiting(t, store.Posted, itself, ada, eng, ada)), []int64{seqs[0], seqs[1], seqs[2], seqs[3], seqs[5], seqs[6], seqs[7]})
	want(t, "of none", seqsOf(s.waiting(t, store.Bound)), nil)
	got := s.waiting(t, store.Bound, ada)
	for i, w := range got {
		if w.Lane() != ada || w.ChangeRow.Event != "event_1" || w.After == nil || w.At.IsZero() {
			t.Errorf("Waiting()[%d] = %+v, want it whole, and in its lane", i, w)
		}
	}
	if got[2].Role != "admin" {
		t.Errorf("Waiting() = %+v, want the role", got[2])
	}
	s.done(t, store.Bound, store.ResultSkipped, seqs[0])
	want(t, "what is left", seqsOf(s.waiting(t, store.Bound, ada)), []int64{seqs[3], seqs[5]})
}

func testSettleOnce(t *testing.T, s bound) {
	s.mode(t, acme, store.Enforce)
	seqs := s.say(t, acme, "account.activated ada", "account.updated ada")
	s.done(t, store.Bound, store.ResultBound, seqs[0])
	s.done(t, store.Bound, store.ResultSkipped, seqs...)
	s.fail(t, store.Bound, now, seqs...)
	var results []string
	for _, seq := range seqs {
		var result, digest string
		var rows int64
		var failures int
		if err := s.db.QueryRowContext(t.Context(), s.table("SELECT bound_result, bound_rows, bound_digest, bound_attempts FROM %schanges WHERE seq = ", seq)).Scan(&result, &rows, &digest, &failures); err != nil {
			t.Fatal(err)
		}
		results = append(results, fmt.Sprint(result, " ", rows, " ", digest, " ", failures))
	}
	want(t, "results", results, []string{"bound 1 abc 0", "skipped 1 abc 0"})
}

// table completes a statement about one change.
func (s bound) table(statement string, seq int64) string {
	schema := ""
	if _, err := s.db.ExecContext(context.Background(), "SELECT 1 FROM rollcall.changes LIMIT 1"); err == nil {
		schema = "rollcall."
	}
	return fmt.Sprintf(statement, schema) + fmt.Sprint(seq)
}

func testSettleFailed(t *testing.T, s bound) {
	s.mode(t, acme, store.Enforce)
	seq := s.say(t, acme, "account.activated ada")[0]
	s.fail(t, store.Bound, now, seq)
	long := strings.Repeat("é", 2000) + "\x00"
	if err := s.Settle(t.Context(), nil, store.Bound, nil, []store.Failed{{Seq: seq, Error: long, Next: now.Add(time.Minute)}}, false); err != nil {
		t.Fatal(err)
	}
	got := s.waiting(t, store.Bound, store.Lane{Scope: acme, Account: "ada"})
	if len(got) != 1 || got[0].Attempts != 2 || !got[0].Next.Equal(now.Add(time.Minute)) || got[0].Error != strings.Repeat("é", 1024) {
		t.Errorf("Waiting() = %+v, want two attempts, the later time, and 2048 bytes of the error", got)
	}
	if other := s.waiting(t, store.Posted, store.Lane{Scope: acme, Account: "ada"}); other[0].Attempts != 0 || other[0].Error != "" {
		t.Errorf("the other track says %+v, want it untouched", other[0])
	}
}

func testSettlePosted(t *testing.T, s bound) {
	s.mode(t, acme, store.Enforce)
	seqs := s.say(t, acme, "account.activated ada", "account.activated bob", "account.activated cyd")
	s.done(t, store.Posted, store.ResultDead, seqs[0])
	err := s.Settle(t.Context(), nil, store.Bound, []store.Done{{Seq: seqs[0], Result: store.ResultBound}, {Seq: seqs[1], Result: store.ResultBound}}, []store.Failed{{Seq: seqs[2], Next: now}}, true)
	if err != nil {
		t.Fatal(err)
	}
	want(t, "what is to be posted", s.lanes(t, store.Posted, now, 10), []string{"acme cyd"})
	var first, second string
	if err := errors.Join(
		s.db.QueryRowContext(t.Context(), s.table("SELECT posted_result FROM %schanges WHERE seq = ", seqs[0])).Scan(&first),
		s.db.QueryRowContext(t.Context(), s.table("SELECT posted_result FROM %schanges WHERE seq = ", seqs[1])).Scan(&second),
	); err != nil || first != store.ResultDead || second != store.ResultNone {
		t.Errorf("posted: %q, %q, %v, want what was there, and that there is no binding", first, second, err)
	}
}

func (s bound) begin(t testing.TB) *sql.Tx {
	t.Helper()
	tx, err := s.db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback() })
	return tx
}

func testSession(t *testing.T, s bound) {
	s.mode(t, acme, store.Enforce)
	seqs := s.say(t, acme, "account.activated ada", "account.updated ada", "account.updated ada")
	lane := store.Lane{Scope: acme, Account: "ada"}
	link := store.Link{ID: directory.ID{Scope: acme, ID: "ada"}, State: store.Linked, AppID: "7"}
	tx := s.begin(t)
	err := errors.Join(
		s.Settle(t.Context(), tx, store.Bound, []store.Done{{Seq: seqs[0], Result: store.ResultBound}}, []store.Failed{{Seq: seqs[1], Next: now}}, true),
		s.Mark(t.Context(), tx, []store.Mark{{Seq: seqs[0], Binding: "create"}}), s.SaveLink(t.Context(), tx, link),
	)
	inside, waitErr := s.Waiting(t.Context(), tx, store.Bound, []store.Lane{lane})
	marks, markErr := s.Marks(t.Context(), tx, seqs)
	links, linkErr := s.LinksOf(t.Context(), tx, []store.Lane{lane})
	if err := errors.Join(err, waitErr, markErr, linkErr); err != nil || len(inside) != 2 || inside[0].Attempts != 1 || len(marks) != 1 || links[lane].AppID != "7" {
		t.Fatalf("within: %d wait, %d marks, links %v, %v, want the session to see what it wrote", len(inside), len(marks), links, err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	marks, markErr = s.Marks(t.Context(), nil, seqs)
	links, linkErr = s.LinksOf(t.Context(), nil, []store.Lane{lane})
	if got := s.waiting(t, store.Bound, lane); len(got) != 3 || got[1].Attempts != 0 || len(marks) != 0 || len(links) != 0 || markErr != nil || linkErr != nil {
		t.Errorf("after: %+v, marks %v, links %v, want nothing written", got, marks, links)
	}
}

func testMarks(t *testing.T, s bound) {
	at := directorytest.Start.Add(time.Microsecond)
	marks := []store.Mark{{Seq: 7, Binding: "create", At: at, Rows: 1, Digest: "abc"}, {Seq: 7, Binding: "team", At: at, Rows: 3, Digest: "def"}, {Seq: 9, Binding: "create", At: at}}
	if err := errors.Join(s.Mark(t.Context(), nil, marks), s.Mark(t.Context(), nil, nil)); err != nil {
		t.Fatal(err)
	}
	got, err := s.Marks(t.Context(), nil, []int64{9, 8, 7})
	want(t, fmt.Sprint("Marks() ", err), got, marks)
	if got, err := s.Marks(t.Context(), nil, []int64{9}); err != nil || len(got) != 1 {
		t.Errorf("Marks(9) = %v, %v, want one", got, err)
	}
	if got, err := s.Marks(t.Context(), nil, nil); err != nil || len(got) != 0 {
		t.Errorf("Marks() of nothing = %v, %v, want none", got, err)
	}
	if err := s.Mark(t.Context(), nil, []store.Mark{{Seq: 10, Binding: "new"}, {Seq: 7, Binding: "team"}}); err == nil {
		t.Error("Mark() of what is marked = nil, want an error")
	}
	if got, err := s.Marks(t.Context(), nil, []int64{10}); err != nil || len(got) != 0 {
		t.Errorf("Marks() = %v, %v, want nothing of what was refused", got, err)
	}
	if err := s.Mark(t.Context(), nil, []store.Mark{{Seq: 11, Binding: "new"}}); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Marks(t.Context(), nil, []int64{11}); err != nil || got[0].At.IsZero() {
		t.Errorf("Marks() = %v, %v, want the time set", got, err)
	}
}

func testBacklog(t *testing.T, s bound) {
	if b, err := s.Backlog(t.Context()); err != nil || len(b.Failing) != 0 || !b.LastDone.IsZero() {
		t.Fatalf("Backlog() of nothing = %+v, %v", b, err)
	}
	observed := directory.Scope{Source: "workos", Directory: "cafe"}
	s.mode(t, acme, store.Enforce)
	s.mode(t, bolt, store.Paused)
	s.mode(t, observed, store.Observe)
	seqs := s.say(t, acme, "account.activated ada", "account.activated bob", "account.deactivated cyd", "account.activated dan", "grant.added dan eng")
	s.say(t, bolt, "account.activated eve")
	s.say(t, observed, "account.activated fay")
	if _, err := s.Observed(t.Context(), 10); err != nil {
		t.Fatal(err)
	}
	if b, err := s.Backlog(t.Context()); err != nil || !b.LastDone.IsZero() {
		t.Errorf("Backlog() = %+v, %v, want nothing done: it was only observed", b, err)
	}
	s.done(t, store.Bound, store.ResultBound, seqs[0])
	s.fail(t, store.Bound, now, seqs[1], seqs[2])
	if err := s.Settle(t.Context(), nil, store.Bound, nil, []store.Failed{{Seq: seqs[3], Error: "the latest"}}, false); err != nil {
		t.Fatal(err)
	}
	s.fail(t, store.Posted, now, seqs[4])
	b, err := s.Backlog(t.Context())
	if err != nil || b.LastDone.IsZero() {
		t.Fatalf("Backlog() = %+v, %v, want when something was done", b, err)
	}
	rows := s.all(t)
	if !b.Oldest[store.Bound].Equal(rows[0].At) || !b.Failing[0].Since.Equal(rows[1].At) {
		t.Errorf("Backlog() = %+v, want the times of changes", b)
	}
	for i := range b.Failing {
		b.Failing[i].Since = time.Time{}
	}
	b.Oldest, b.LastDone = nil, time.Time{}
	want(t, "Backlog()", b, store.Backlog{
		Waiting: map[store.Track]int64{store.Bound: 4, store.Posted: 5}, Paused: map[store.Track]int64{store.Bound: 1, store.Posted: 1},
		Failing: []store.Failing{
			{Track: store.Bound, Kind: directory.AccountActivated, Count: 2, Error: "the latest"},
			{Track: store.Bound, Kind: directory.AccountDeactivated, Count: 1, Error: "no such column"},
			{Track: store.Posted, Kind: directory.GrantAdded, Count: 1, Error: "no such column"},
		},
	})
}

// people folds a user event of everybody who is named, in a directory.
func (s bound) people(t testing.TB, scope directory.Scope, names ...string) {
	t.Helper()
	for _, name := range names {
		fold(t, s, ada("event_"+scope.Directory+name, 1, in(scope.Directory), func(e *directory.Event) {
			e.User.ID, e.User.IDPID, e.User.Email = "user_"+name, name, strings.ToUpper(name)+"@example.com"
		}))
	}
}

func (s bound) leaves(t testing.TB, scope directory.Scope, name string) {
	t.Helper()
	fold(t, s, ada("leave_"+scope.Directory+name, 9, removes, in(scope.Directory), func(e *directory.Event) {
		e.User.ID, e.User.IDPID, e.User.Email = "user_"+name, name, strings.ToUpper(name)+"@example.com"
	}))
}

// ends ends a directory, and leaves its accounts to an expansion.
func (s bound) ends(t testing.TB, scope directory.Scope) {
	t.Helper()
	end := ada("end_"+scope.Directory, 9, removes, in(scope.Directory))
	end.Subject, end.User, end.Connection = directory.SubjectDirectory, nil, &directory.Connection{Name: scope.Directory}
	fold(t, s, end)
}

func linkOf(scope directory.Scope, account string, state store.LinkState, appID string) store.Link {
	return store.Link{ID: directory.ID{Scope: scope, ID: account}, State: state, AppID: appID, Tenant: "t1", How: "id", Changed: directorytest.Start, By: "rollcall"}
}

func (s bound) link(t testing.TB, links ...store.Link) {
	t.Helper()
	for _, l := range links {
		if err := s.SaveLink(t.Context(), nil, l); err != nil {
			t.Fatalf("SaveLink(%s) = %v", l.ID.ID, err)
		}
	}
}

func testLinks(t *testing.T, s bound) {
	s.people(t, acme, "ada", "bob")
	s.leaves(t, acme, "bob")
	linked := linkOf(acme, "ada", store.Linked, "7")
	held := store.Link{
		ID: directory.ID{Scope: acme, ID: "bob"}, State: store.Ambiguous, How: "email", Detail: "rows 8 and 9", Changed: directorytest.Start, By: "rollcall", Tries: 3, Next: now,
	}
	none := linkOf(bolt, "never seen", store.Unlinked, "")
	s.link(t, linked, held, none)
	linked.Email, linked.Active, held.Email = "ADA@example.com", true, "BOB@example.com"
	for name, c := range map[string]struct {
		filter store.LinkFilter
		want   []store.Link
	}{
		"all": {store.LinkFilter{}, []store.Link{linked, held, none}}, "one": {store.LinkFilter{Limit: 1}, []store.Link{linked}},
		"directory": {store.LinkFilter{Source: "workos", Directory: "bolt"}, []store.Link{none}}, "source": {store.LinkFilter{Source: "okta"}, nil},
		"state": {store.LinkFilter{State: store.Unlinked}, []store.Link{none}}, "held": {store.LinkFilter{Held: true}, []store.Link{held}},
		"email": {store.LinkFilter{Who: "bob@EXAMPLE.com"}, []store.Link{held}}, "app id": {store.LinkFilter{Who: "7"}, []store.Link{linked}},
		"user": {store.LinkFilter{Who: "user_ada"}, []store.Link{linked}}, "key": {store.LinkFilter{Who: "never seen"}, []store.Link{none}},
	} {
		got, err := s.Links(t.Context(), c.filter)
		want(t, fmt.Sprintf("%s: Links() %v", name, err), got, c.want)
	}
	if b, err := s.Backlog(t.Context()); err != nil || b.Held != 1 {
		t.Errorf("Backlog() = %+v, %v, want the one link that is held", b, err)
	}
	lanes := []store.Lane{{Scope: acme, Account: "ada"}, {Scope: acme, Account: "nobody"}, {Scope: acme, Group: "eng"}, {Scope: acme}}
	of, err := s.LinksOf(t.Context(), nil, lanes)
	want(t, fmt.Sprint("LinksOf() ", err), of, map[store.Lane]store.Link{lanes[0]: linked})

	again := linkOf(acme, "bob", store.Linked, "8")
	again.Changed = time.Time{}
	s.link(t, again)
	if got, err := s.Links(t.Context(), store.LinkFilter{Who: "bob"}); err != nil || len(got) != 1 || got[0].AppID != "8" || got[0].Detail != "" || !got[0].Next.IsZero() || got[0].Changed.IsZero() {
		t.Errorf("Links() = %+v, %v, want the later one, and when it was saved", got, err)
	}
	if err := s.DropLink(t.Context(), again.ID); err != nil {
		t.Errorf("DropLink() = %v", err)
	}
	if got, err := s.Links(t.Context(), store.LinkFilter{Who: "bob"}); err != nil || len(got) != 1 || got[0].State != store.Unlinked || got[0].AppID != "" || got[0].How != "missed" || got[0].Next.IsZero() {
		t.Errorf("Links() = %+v, %v, want one that is to be looked up again", got, err)
	}
	if err := s.DropLink(t.Context(), directory.ID{Scope: acme, ID: "nobody"}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("DropLink() of nobody = %v, want ErrNotFound", err)
	}
}

func testTaken(t *testing.T, s bound) {
	otherTenant := linkOf(acme, "dan", store.Linked, "7")
	otherTenant.Tenant = "t2"
	// The row's account may be saved again; other directories and tenants may have the same id; one that is not linked has nothing.
	s.link(t, linkOf(acme, "ada", store.Linked, "7"), linkOf(acme, "ada", store.Linked, "7"), linkOf(bolt, "ada", store.Linked, "7"), otherTenant,
		linkOf(acme, "cyd", store.Taken, "7"), linkOf(acme, "bob", store.Linked, "8"))
	tx := s.begin(t)
	for _, l := range []store.Link{linkOf(acme, "bob", store.Linked, "7"), linkOf(acme, "eve", store.Linked, "7")} {
		if err := s.SaveLink(t.Context(), tx, l); !errors.Is(err, store.ErrTaken) || !strings.Contains(err.Error(), "account ada") {
			t.Errorf("SaveLink(%s) = %v, want ErrTaken that names ada", l.ID.ID, err)
		}
	}
	if err := errors.Join(s.SaveLink(t.Context(), tx, linkOf(acme, "eve", store.Linked, "9")), tx.Commit()); err != nil {
		t.Fatalf("going on in the session = %v, want nil", err)
	}
	got, err := s.Links(t.Context(), store.LinkFilter{Directory: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, l := range got {
		texts = append(texts, l.ID.ID+" "+string(l.State)+" "+l.Tenant+" "+l.AppID)
	}
	want(t, "Links()", texts, []string{"ada linked t1 7", "bob linked t1 8", "cyd taken t1 7", "dan linked t2 7", "eve linked t1 9"})
	if err := errors.Join(s.DropLink(t.Context(), linkOf(acme, "ada", "", "").ID), s.SaveLink(t.Context(), nil, linkOf(acme, "bob", store.Linked, "7"))); err != nil {
		t.Errorf("SaveLink() of a row that is free again = %v, want nil", err)
	}
}

// testTakenRace has two transactions link one row, each of which could: the first commits when the second waits, or has
// nothing to wait for.
func testTakenRace(t *testing.T, s bound) {
	s.link(t, linkOf(acme, "bob", store.Unlinked, ""))
	first := s.begin(t)
	if err := s.SaveLink(t.Context(), first, linkOf(acme, "ada", store.Linked, "7")); err != nil {
		t.Fatal(err)
	}
	began, second := make(chan struct{}), make(chan error, 1)
	go func() {
		close(began)
		tx, err := s.db.BeginTx(t.Context(), nil)
		if err != nil {
			second <- err
			return
		}
		defer func() { _ = tx.Rollback() }()
		if err := s.SaveLink(t.Context(), tx, linkOf(acme, "bob", store.Linked, "7")); !errors.Is(err, store.ErrTaken) {
			second <- fmt.Errorf("the second got %w, want ErrTaken", err)
			return
		}
		second <- errors.Join(s.SaveLink(t.Context(), tx, linkOf(acme, "bob", store.Linked, "8")), tx.Commit())
	}()
	<-began
	select {
	case err := <-second:
		t.Fatalf("the second did not wait: %v", err)
	case <-time.After(200 * time.Millisecond): // it waits; there is nothing to wait for
	}
	if err := errors.Join(first.Commit(), <-second); err != nil {
		t.Fatal(err)
	}

	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() {
			errs[i] = s.SaveLink(t.Context(), nil, linkOf(bolt, fmt.Sprint("account", i), store.Linked, "7"))
		})
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else if !errors.Is(err, store.ErrTaken) {
			t.Errorf("SaveLink() = %v, want ErrTaken", err)
		}
	}
	if won != 1 {
		t.Errorf("%d of %d got the row, want 1", won, len(errs))
	}
}

func testOperatorsLink(t *testing.T, s bound) {
	theirs := linkOf(acme, "ada", store.Linked, "7")
	theirs.How = "operator"
	s.link(t, theirs)
	if err := s.SaveLink(t.Context(), nil, linkOf(acme, "ada", store.Unlinked, "")); err != nil {
		t.Errorf("SaveLink() of a lookup that found none = %v, want nil", err)
	}
	if err := s.SaveLink(t.Context(), nil, linkOf(acme, "ada", store.Linked, "8")); !errors.Is(err, store.ErrConflict) {
		t.Errorf("SaveLink() of a lookup that found another = %v, want ErrConflict", err)
	}
	s.linksAre(t, theirs)
	mine := theirs
	mine.AppID = "9"
	s.link(t, mine)
	s.linksAre(t, mine)
}

func testSaveLinks(t *testing.T, s bound) {
	first, second, third := linkOf(acme, "ada", store.Linked, "7"), linkOf(acme, "bob", store.Linked, "7"), linkOf(acme, "cyd", store.Linked, "8")
	s.link(t, first)
	for link, holder := range map[*store.Link]string{&second: "ada", &third: "", &first: ""} {
		if got, err := s.Holder(t.Context(), nil, *link); got != holder || err != nil {
			t.Errorf("Holder() of %s for %s = %q, %v, want %q", link.AppID, link.ID.ID, got, err, holder)
		}
	}
	err := s.SaveLinks(t.Context(), []store.Link{second, third}, func(l store.Link, err error) store.Link {
		if !errors.Is(err, store.ErrTaken) {
			t.Errorf("taken() of %s is told %v, want ErrTaken", l.ID.ID, err)
		}
		l.State, l.AppID = store.Taken, ""
		return l
	})
	if err != nil {
		t.Fatalf("SaveLinks() = %v", err)
	}
	second.State, second.AppID = store.Taken, ""
	s.linksAre(t, first, second, third)
}

func (s bound) linksAre(t *testing.T, links ...store.Link) {
	t.Helper()
	got, err := s.Links(t.Context(), store.LinkFilter{})
	want(t, fmt.Sprintf("Links() %v", err), got, links)
}

func testHurry(t *testing.T, s bound) {
	s.mode(t, acme, store.Enforce)
	seqs := s.say(t, acme, "account.updated ada", "account.updated bob")
	s.fail(t, store.Bound, now.Add(time.Hour), seqs...)
	if err := s.Hurry(t.Context(), directory.ID{Scope: acme, ID: "ada"}); err != nil {
		t.Fatalf("Hurry() = %v", err)
	}
	got, _, err := s.Lanes(t.Context(), store.Bound, now, 10)
	want(t, fmt.Sprintf("Lanes() %v", err), got, store.Lanes{store.Others: {{Scope: acme, Account: "ada"}}})
}

func testLinksDue(t *testing.T, s bound) {
	s.people(t, acme, "ada")
	later, sooner, never := linkOf(acme, "bob", store.Unlinked, ""), linkOf(acme, "ada", store.Unlinked, ""), linkOf(acme, "cyd", store.Linked, "7")
	later.Next, sooner.Next = now, now.Add(-time.Minute)
	s.link(t, later, sooner, never)
	sooner.Email, sooner.Active = "ADA@example.com", true
	for at, due := range map[time.Time][]store.Link{now.Add(-time.Hour): nil, now.Add(-time.Microsecond): {sooner}, now: {sooner, later}} {
		got, err := s.LinksDue(t.Context(), at, 10)
		want(t, fmt.Sprintf("LinksDue(%s) %v", at, err), got, due)
	}
	got, err := s.LinksDue(t.Context(), now, 1)
	want(t, fmt.Sprintf("LinksDue() of one, %v", err), got, []store.Link{sooner})
}

func testSiblings(t *testing.T, s bound) {
	ended, third := directory.Scope{Source: "workos", Directory: "ended"}, directory.Scope{Source: "workos", Directory: "third"}
	for _, scope := range []directory.Scope{acme, bolt, ended, third} {
		s.people(t, scope, "ada", "bob")
	}
	s.mode(t, bolt, store.Enforce)
	s.leaves(t, third, "ada")
	s.ends(t, ended)
	elsewhere := linkOf(bolt, "bob", store.Linked, "7")
	elsewhere.Tenant = "t2"
	s.link(t, linkOf(acme, "ada", store.Linked, "7"), linkOf(acme, "bob", store.Linked, "8"), linkOf(bolt, "ada", store.Linked, "7"), elsewhere,
		linkOf(ended, "ada", store.Linked, "7"), linkOf(third, "ada", store.Linked, "7"), linkOf(third, "bob", store.Ambiguous, "7"))
	exec(t, s.Store, `UPDATE %saccounts SET roles = '["admin"]' WHERE directory = 'bolt'`)
	got, err := s.Siblings(t.Context(), nil, linkOf(acme, "ada", store.Linked, "7"))
	want(t, fmt.Sprint("Siblings() ", err), got, []store.Sibling{{ID: directory.ID{Scope: bolt, ID: "ada"}, Mode: store.Enforce, Roles: []string{"admin"}}})
	got, err = s.Siblings(t.Context(), nil, linkOf(bolt, "ada", store.Linked, "7"))
	want(t, fmt.Sprint("Siblings() of the other ", err), got, []store.Sibling{{ID: directory.ID{Scope: acme, ID: "ada"}}})
}

func testUnprobed(t *testing.T, s bound) {
	s.people(t, acme, "ada", "bob", "cyd", "dan", "eve")
	s.people(t, bolt, "eve")
	for _, name := range []string{"ada", "bob", "cyd", "eve"} {
		s.leaves(t, acme, name)
	}
	s.link(t, linkOf(acme, "ada", store.Linked, "1"), linkOf(acme, "bob", store.Unlinked, ""), linkOf(acme, "dan", store.Linked, "4"),
		linkOf(acme, "eve", store.Linked, "5"), linkOf(bolt, "eve", store.Linked, "5"))
	unprobed := func() (names []string) {
		ids, err := s.Unprobed(t.Context(), []string{"sessions"}, 10)
		if err != nil {
			t.Fatalf("Unprobed() = %v", err)
		}
		for _, id := range ids {
			names = append(names, id.Directory+" "+id.ID)
		}
		return names
	}
	want(t, "Unprobed() without verdicts: who is linked, not active, and no other active account's", unprobed(), []string{"acme ada"})
	s.link(t, linkOf(acme, "cyd", store.Linked, "3"))
	want(t, "Unprobed() with another link", unprobed(), []string{"acme ada", "acme cyd"})
	ended := directory.Scope{Source: "workos", Directory: "ended"}
	s.people(t, ended, "fay")
	s.link(t, linkOf(ended, "fay", store.Linked, "6"))
	s.ends(t, ended)
	want(t, "Unprobed() before an end has reached its accounts", unprobed(), []string{"acme ada", "acme cyd"})
	if ids, err := s.Unprobed(t.Context(), []string{"sessions"}, 1); err != nil || len(ids) != 1 {
		t.Errorf("Unprobed(1) = %v, %v, want one", ids, err)
	}

	deactivated := func(name string) (seq int64) {
		for _, c := range s.all(t) {
			if c.Account == name && c.Kind == directory.AccountDeactivated {
				seq = c.Seq
			}
		}
		return seq
	}
	verdict := func(seq int64) {
		t.Helper()
		if err := s.SaveVerdicts(t.Context(), []store.Verdict{{ID: directory.ID{Scope: acme, ID: "ada"}, Probe: "sessions", Seq: seq, At: now, Result: "clean"}}); err != nil {
			t.Fatal(err)
		}
	}
	first := deactivated("ada")
	verdict(first - 1)
	want(t, "Unprobed() with a verdict, the deactivation not bound", unprobed(), []string{"acme cyd"})
	s.done(t, store.Bound, store.ResultBound, first)
	want(t, "Unprobed() when it is bound", unprobed(), []string{"acme ada", "acme cyd"})
	verdict(first)
	want(t, "Unprobed() with a verdict on it", unprobed(), []string{"acme cyd"})
	s.done(t, store.Bound, store.ResultSkipped, s.say(t, acme, "account.deactivated ada")...)
	want(t, "Unprobed() after one that was skipped", unprobed(), []string{"acme cyd"})
	s.done(t, store.Bound, store.ResultBound, s.say(t, acme, "account.deactivated ada")...)
	want(t, "Unprobed() after another leave", unprobed(), []string{"acme ada", "acme cyd"})
	verdict(first + 100)
	want(t, "Unprobed() with a verdict on that", unprobed(), []string{"acme cyd"})
	ids, err := s.Unprobed(t.Context(), []string{"keys", "sessions"}, 10)
	if err != nil || len(ids) != 2 {
		t.Errorf("Unprobed() with a probe that is new = %v, %v, want everybody", ids, err)
	}
}

// spared renders what Spared returns as "directory account kind role row tenant".
func (s bound) spared(t testing.TB, f store.SparedFilter) (lines []string) {
	t.Helper()
	found, next, err := s.Spared(t.Context(), f)
	if err != nil || next != 0 {
		t.Fatalf("Spared(%+v) goes on after %d, %v, want it to have looked at all", f, next, err)
	}
	for _, c := range found {
		lines = append(lines, strings.Join(strings.Fields(fmt.Sprint(c.Directory, " ", c.Account, " ", c.Kind, " ", c.Role, " ", c.AppID, " ", c.Tenant)), " "))
	}
	return lines
}

// twice are ada and bob in both directories, each one person, and what ada lost in acme and another account keeps.
func (s bound) twice(t testing.TB) (ends []int64) {
	t.Helper()
	for _, scope := range []directory.Scope{acme, bolt} {
		s.people(t, scope, "ada", "bob")
		s.mode(t, scope, store.Enforce)
		s.link(t, linkOf(scope, "ada", store.Linked, "7"), linkOf(scope, "bob", store.Linked, "8"))
	}
	exec(t, s.Store, `UPDATE %saccounts SET roles = '["admin"]' WHERE directory = 'bolt'`)
	exec(t, s.Store, `UPDATE %saccounts SET active = false WHERE directory = 'acme' AND account_key = 'ada'`)
	ends = s.say(t, acme, "account.deactivated ada", "role.revoked ada - admin")
	s.done(t, store.Bound, store.ResultKept, ends...)
	return ends
}

func testLapsed(t *testing.T, s bound) {
	kept := store.SparedFilter{Result: store.ResultKept}
	both := []string{"acme ada account.deactivated 7 t1", "acme ada role.revoked admin 7 t1"}
	ends := s.twice(t)
	want(t, "Spared() while the other account keeps it", s.spared(t, kept), nil)
	without := kept
	without.Without = bolt
	want(t, "Spared() without the other directory", s.spared(t, without), both)
	s.mode(t, bolt, store.Paused)
	want(t, "Spared() while the other directory is paused", s.spared(t, kept), nil)
	s.mode(t, bolt, store.Observe)
	want(t, "Spared() when the other directory is observed", s.spared(t, kept), both)
	for what, f := range map[string]store.SparedFilter{
		"of another directory": {Result: store.ResultKept, Scope: bolt}, "after the last": {Result: store.ResultKept, After: ends[1]}, "of whom is protected": {Result: store.ResultProtected},
	} {
		want(t, "Spared() "+what, s.spared(t, f), nil)
	}
	if one, next, err := s.Spared(t.Context(), store.SparedFilter{Result: store.ResultKept, Scope: acme, Limit: 1}); err != nil || len(one) != 1 || next != ends[0] {
		t.Errorf("Spared(1) = %v, %d, %v, want the first, and to go on after it", one, next, err)
	}
	want(t, "Spared() after the first", s.spared(t, store.SparedFilter{Result: store.ResultKept, After: ends[0]}), both[1:])
	s.mode(t, acme, store.Observe)
	want(t, "Spared() of what is observed itself", s.spared(t, kept), nil)
	s.mode(t, acme, store.Enforce)
	s.mode(t, bolt, store.Enforce)

	exec(t, s.Store, `UPDATE %saccounts SET roles = '["editor"]' WHERE directory = 'bolt'`)
	want(t, "Spared() when the other has the role no more", s.spared(t, kept), both[1:])
	if err := s.DropLink(t.Context(), linkOf(bolt, "ada", "", "").ID); err != nil {
		t.Fatal(err)
	}
	want(t, "Spared() when the other's link is dropped", s.spared(t, kept), both)
	s.link(t, linkOf(bolt, "ada", store.Linked, "9"))
	want(t, "Spared() when the other is somebody else", s.spared(t, kept), both)
	s.say(t, acme, "account.updated ada", "account.activated bob", "role.added ada - editor", "grant.revoked ada group_1")
	want(t, "Spared() when other things were said", s.spared(t, kept), both)
	s.say(t, acme, "account.activated ada")
	want(t, "Spared() when they came back", s.spared(t, kept), both[1:])
	if err := s.DropLink(t.Context(), linkOf(acme, "ada", "", "").ID); err != nil {
		t.Fatal(err)
	}
	want(t, "Spared() without a link", s.spared(t, kept), nil)
}

func testTakenOnce(t *testing.T, s bound) {
	kept := store.SparedFilter{Result: store.ResultKept}
	lapsed := []string{"acme ada account.deactivated 7 t1"}
	ends := s.twice(t)
	s.done(t, store.Posted, store.ResultKept, ends[0])
	s.say(t, acme, "role.added ada - admin")
	s.leaves(t, bolt, "ada")
	all := s.all(t)
	i := slices.IndexFunc(all, func(c store.ChangeRow) bool { return c.Directory == "bolt" && c.Kind == directory.AccountDeactivated })
	if i < 0 {
		t.Fatal("nobody left")
	}
	end := all[i].Seq
	want(t, "Spared() before the other's end has taken it", s.spared(t, kept), nil)
	s.mode(t, bolt, store.Paused)
	want(t, "Spared() while the other's end waits for longer", s.spared(t, kept), lapsed)
	s.mode(t, bolt, store.Enforce)
	s.done(t, store.Bound, store.ResultBound, end)
	s.done(t, store.Posted, store.ResultNone, end)
	want(t, "Spared() when the other's end took it on one track, and not on the one where it was kept", s.spared(t, kept), lapsed)
	exec(t, s.Store, `UPDATE %schanges SET posted_result = 'bound' WHERE seq = `+fmt.Sprint(end))
	want(t, "Spared() when the other's end took it", s.spared(t, kept), nil)
	exec(t, s.Store, `UPDATE %schanges SET bound_result = 'kept' WHERE seq = `+fmt.Sprint(end))
	want(t, "Spared() when both were kept", s.spared(t, kept), append(lapsed, "bolt ada account.deactivated 7 t1"))
	exec(t, s.Store, `UPDATE %schanges SET bound_result = 'bound' WHERE seq = `+fmt.Sprint(end))
	s.say(t, bolt, "account.activated ada")
	want(t, "Spared() when the other came back since", s.spared(t, kept), lapsed)
}

func testProtected(t *testing.T, s bound) {
	protected := store.SparedFilter{Result: store.ResultProtected}
	s.people(t, acme, "ada")
	s.mode(t, acme, store.Enforce)
	s.link(t, linkOf(acme, "ada", store.Linked, "7"))
	ends := s.say(t, acme, "account.deactivated ada", "grant.revoked ada group_1", "grant.revoked ada group_2")
	s.done(t, store.Bound, store.ResultProtected, ends...)
	s.done(t, store.Posted, store.ResultProtected, ends...)
	all := []string{"acme ada account.deactivated 7 t1", "acme ada grant.revoked 7 t1", "acme ada grant.revoked 7 t1"}
	want(t, "Spared() of whom is protected", s.spared(t, protected), all)
	s.say(t, acme, "grant.added ada group_1", "account.activated ada")
	want(t, "Spared() when they are back in one group", s.spared(t, protected), all[2:])
}

func testUnclean(t *testing.T, s bound) {
	s.people(t, acme, "ada", "bob", "cyd", "dan")
	s.leaves(t, acme, "ada")
	s.leaves(t, acme, "bob")
	s.link(t, linkOf(acme, "ada", store.Linked, "1"), linkOf(acme, "bob", store.Linked, "2"), linkOf(acme, "cyd", store.Linked, "3"))
	var end int64
	for _, c := range s.all(t) {
		if c.Account == "ada" && c.Kind == directory.AccountDeactivated {
			end = c.Seq
		}
	}
	s.done(t, store.Bound, store.ResultBound, end)
	settled, err := s.Settled(t.Context(), []int64{end})
	if err != nil {
		t.Fatal(err)
	}
	bound := settled[end].At
	verdict := func(name, probe, result string, seq int64, at time.Time) {
		t.Helper()
		if err := s.SaveVerdicts(t.Context(), []store.Verdict{{ID: directory.ID{Scope: acme, ID: name}, Probe: probe, Seq: seq, At: at, Result: result}}); err != nil {
			t.Fatal(err)
		}
	}
	unclean := func(at time.Time) (names []string) {
		ids, err := s.Unclean(t.Context(), []string{"keys", "sessions", "tokens"}, at, 10)
		if err != nil {
			t.Fatalf("Unclean() = %v", err)
		}
		for _, id := range ids {
			names = append(names, id.ID)
		}
		return names
	}
	verdict("ada", "keys", "clean", end, bound)
	verdict("cyd", "sessions", "dirty", 0, bound) // who is active
	verdict("dan", "sessions", "dirty", 0, bound) // who has no link
	want(t, "Unclean() with none that is not", unclean(bound.Add(24*time.Hour)), nil)
	verdict("ada", "sessions", "dirty", end, bound)
	verdict("ada", "tokens", "unknown", end, bound)
	want(t, "Unclean() before a minute", unclean(bound.Add(time.Minute-time.Microsecond)), nil)
	want(t, "Unclean() after a minute", unclean(bound.Add(time.Minute)), []string{"ada"})
	for _, after := range []time.Duration{10 * time.Minute, 5 * time.Hour} {
		at := bound.Add(after)
		wait := min(after, time.Hour)
		verdict("ada", "sessions", "dirty", end, at)
		verdict("ada", "tokens", "clean", end, at)
		want(t, fmt.Sprint("Unclean() sooner than as long again after ", after), unclean(at.Add(wait-time.Microsecond)), nil)
		want(t, fmt.Sprint("Unclean() as long again after ", after), unclean(at.Add(wait)), []string{"ada"})
	}
	verdict("bob", "sessions", "dirty", 0, bound)
	want(t, "Unclean() with one whose end was not bound", unclean(bound.Add(time.Hour)), []string{"bob"})
	if ids, err := s.Unclean(t.Context(), []string{"sessions"}, bound.Add(48*time.Hour), 1); err != nil || len(ids) != 1 || ids[0].ID != "bob" {
		t.Errorf("Unclean(1) = %v, %v, want the oldest", ids, err)
	}
	if ids, err := s.Unclean(t.Context(), []string{"others"}, bound.Add(48*time.Hour), 10); err != nil || len(ids) != 0 {
		t.Errorf("Unclean() by a probe that said nothing = %v, %v, want none", ids, err)
	}
}

func testFindings(t *testing.T, s bound) {
	s.people(t, acme, "ada", "bob", "cyd", "dan", "eve")
	s.people(t, bolt, "dan")
	for _, name := range []string{"ada", "bob", "dan", "eve"} {
		s.leaves(t, acme, name)
	}
	s.link(t, linkOf(acme, "ada", store.Linked, "1"), linkOf(acme, "bob", store.Linked, "2"), linkOf(acme, "cyd", store.Linked, "3"),
		linkOf(acme, "dan", store.Linked, "4"), linkOf(bolt, "dan", store.Linked, "4"))
	var verdicts []store.Verdict
	for _, v := range []string{
		"ada keys dirty", "ada sessions unknown", "bob keys clean", "bob sessions unknown",
		"cyd keys dirty",     // who is active
		"dan keys dirty",     // whose row another active account has
		"eve sessions dirty", // who is linked with none
		"eve keys clean",
	} {
		f := strings.Fields(v)
		verdicts = append(verdicts, store.Verdict{ID: directory.ID{Scope: acme, ID: f[0]}, Probe: f[1], At: now, Result: f[2]})
	}
	if err := s.SaveVerdicts(t.Context(), verdicts); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		probes []string
		want   map[string]int64
	}{
		{[]string{"keys", "sessions"}, map[string]int64{"dirty": 2, "unknown": 1}},
		{[]string{"keys"}, map[string]int64{"dirty": 1}},
		{[]string{"sessions", "tokens"}, map[string]int64{"dirty": 1, "unknown": 2}},
		{nil, map[string]int64{}},
	} {
		got, err := s.Findings(t.Context(), c.probes)
		want(t, fmt.Sprint("Findings() of ", c.probes, " ", err), got, c.want)
	}
}

func testVerdicts(t *testing.T, s bound) {
	v := func(scope directory.Scope, account, probe, result string) store.Verdict {
		return store.Verdict{ID: directory.ID{Scope: scope, ID: account}, Probe: probe, Seq: 3, At: now, Result: result, Rows: 2, Detail: "2 rows: 1, 2"}
	}
	first := []store.Verdict{v(acme, "ada", "keys", "clean"), v(acme, "ada", "sessions", "dirty"), v(bolt, "ada", "keys", "unknown")}
	if err := errors.Join(s.SaveVerdicts(t.Context(), first), s.SaveVerdicts(t.Context(), nil)); err != nil {
		t.Fatal(err)
	}
	got, err := s.Verdicts(t.Context(), directory.ID{})
	want(t, fmt.Sprint("Verdicts() of all ", err), got, first)
	later := v(acme, "ada", "sessions", "clean")
	later.Rows, later.Detail, later.Seq = 0, "", 4
	if err := s.SaveVerdicts(t.Context(), []store.Verdict{later}); err != nil {
		t.Fatal(err)
	}
	got, err = s.Verdicts(t.Context(), directory.ID{Scope: acme, ID: "ada"})
	want(t, fmt.Sprint("Verdicts() of Ada ", err), got, []store.Verdict{first[0], later})
}

func testExemptions(t *testing.T, s bound) {
	first := store.Exemption{Tenant: "t1", AppID: "7", Owner: "it@example.com", Reason: "break glass", Created: directorytest.Start, By: "ops", Expires: now}
	second := store.Exemption{Tenant: "t2", AppID: "7", Owner: "it@example.com", Reason: "robot", By: "ops", Expires: now}
	if err := errors.Join(s.SaveExemption(t.Context(), second), s.SaveExemption(t.Context(), first)); err != nil {
		t.Fatal(err)
	}
	first.Reason = "still"
	if err := s.SaveExemption(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	got, err := s.Exemptions(t.Context())
	if err != nil || len(got) != 2 || got[1].Created.IsZero() {
		t.Fatalf("Exemptions() = %+v, %v, want two, with the time set", got, err)
	}
	second.Created = got[1].Created
	want(t, "Exemptions()", got, []store.Exemption{first, second})
	if err := s.DropExemption(t.Context(), "t1", "7"); err != nil {
		t.Errorf("DropExemption() = %v", err)
	}
	if err := s.DropExemption(t.Context(), "t1", "7"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("DropExemption() again = %v, want ErrNotFound", err)
	}
	got, err = s.Exemptions(t.Context())
	want(t, fmt.Sprint("Exemptions() ", err), got, []store.Exemption{second})
}

func testFeed(t *testing.T, s bound) {
	for range 3 {
		s.say(t, acme, "account.activated ada", "role.added ada - admin")
		s.say(t, bolt, "account.activated bob")
	}
	cursor, read := s.feed(t, "", 9)
	want(t, "all pages", read, s.all(t))
	if rows, err := s.Feed(t.Context(), cursor, 2); err != nil || len(rows) != 0 {
		t.Errorf("Feed(%q) at the end = %d, %v, want nothing", cursor, len(rows), err)
	}
	if rows, err := s.Feed(t.Context(), "", 9); err != nil || len(rows) != 9 || rows[8].Cursor != cursor {
		t.Errorf("Feed() of all = %d, %v, want 9 with the same cursors as by pages", len(rows), err)
	}
	s.say(t, acme, "account.deactivated ada")
	if _, rows := s.feed(t, cursor, 1); rows[0].Kind != directory.AccountDeactivated {
		t.Errorf("Feed() after the end = %+v, want what came since", rows)
	}
	for _, bad := range []string{"7", "a-b", "-1", "1-", "0-0-0", " 0-0", "0-99999999999999999999"} {
		if _, err := s.Feed(t.Context(), bad, 10); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("Feed(%q) = %v, want ErrNotFound", bad, err)
		}
	}
}

// feed reads so many changes behind the cursor. Some may be held back meanwhile: the server has other transactions.
func (s bound) feed(t testing.TB, cursor string, count int) (next string, read []store.ChangeRow) {
	t.Helper()
	for next = cursor; len(read) < count; {
		rows, err := s.Feed(t.Context(), next, 2)
		if err != nil {
			t.Fatalf("Feed(%q) = %v", next, err)
		}
		for _, r := range rows {
			read, next = append(read, r.ChangeRow), r.Cursor
		}
	}
	return next, read
}

func testDrop(t *testing.T, s bound) {
	park(t, s.Store, ada("event_1", 1), time.Time{})
	park(t, s.Store, ada("event_2", 1), now)
	park(t, s.Store, ada("event_3", 1), time.Time{})
	fold(t, s.Store, ada("event_4", 2))
	var keys []store.EventKey
	for _, id := range []string{"event_1", "event_2", "event_4", "event_5"} {
		keys = append(keys, store.EventKey{Source: "workos", ID: id})
	}
	for i, want := range []int{2, 0} {
		if n, err := s.Drop(t.Context(), keys, "ops", "a test tenant"); err != nil || n != want {
			t.Errorf("Drop() call %d = %d, %v, want %d", i+1, n, err, want)
		}
	}
	for id, want := range map[string]string{"event_1": "ignored dropped by ops: a test tenant", "event_2": "ignored dropped by ops: a test tenant", "event_3": "parked data: no", "event_4": "applied "} {
		e, err := s.Event(t.Context(), "workos", id)
		if got := string(e.Outcome) + " " + e.Reason; err != nil || got != want {
			t.Errorf("the ledger says of %s: %q, %v, want %q", id, got, err, want)
		}
	}
	dead, err := s.DeadEvents(t.Context(), store.EventFilter{})
	if err != nil || len(dead) != 1 || dead[0].ID != "event_3" {
		t.Errorf("DeadEvents() = %+v, %v, want the one that was not named", dead, err)
	}
}

func (s bound) announced(t testing.TB, scope directory.Scope) (announced, told directory.Announced) {
	t.Helper()
	s.update(t, scope, func(ctx context.Context, tx store.Tx) (err error) {
		announced, told, err = tx.Announced(ctx, scope)
		return err
	})
	return announced, told
}

func testTold(t *testing.T, s bound) {
	face := func(email string, active bool) *directory.Face {
		return &directory.Face{User: "user_ada", IDPID: "idp", Organization: "org", State: "active", Active: active, Profile: directory.Profile{Email: email, Attributes: map[string]string{"k": "v"}}}
	}
	change := func(kind directory.ChangeKind, account, group, role string, after *directory.Face) directory.Change {
		return directory.Change{Scope: acme, Kind: kind, Account: account, Group: group, Role: role, Event: "e", Occurred: now, After: after}
	}
	seqs := s.save(t, acme, []directory.Change{
		change(directory.DirectoryActivated, "", "", "", &directory.Face{Organization: "org", State: "linked", Active: true, Profile: directory.Profile{Name: "Acme"}}),
		change(directory.GroupCreated, "", "eng", "", &directory.Face{Active: true, GroupName: "Eng", IDPID: "g1"}),
		change(directory.GroupUpdated, "", "eng", "", &directory.Face{Active: true, GroupName: "Engineers", IDPID: "g1"}),
		change(directory.GroupCreated, "", "ops", "", &directory.Face{Active: true, GroupName: "Ops"}),
		change(directory.GroupEnded, "", "ops", "", &directory.Face{GroupName: "Ops"}),
		change(directory.AccountActivated, "ada", "", "", face("old@example.com", true)),
		change(directory.AccountUpdated, "ada", "", "", face("new@example.com", true)),
		change(directory.GrantAdded, "ada", "eng", "", face("", true)),
		change(directory.GrantAdded, "ada", "ops", "", face("", true)),
		{Scope: acme, Kind: directory.GrantRevoked, Account: "ada", Group: "ops", Event: "e", Occurred: now, Before: face("", true)},
		change(directory.RoleAdded, "ada", "", "writer", face("", true)),
		change(directory.RoleAdded, "ada", "", "admin", face("", true)),
		change(directory.RoleAdded, "ada", "", "lost", face("", true)),
		{Scope: acme, Kind: directory.RoleRevoked, Account: "ada", Role: "lost", Event: "e", Occurred: now, Before: face("", true)},
		change(directory.AccountActivated, "bob", "", "", face("bob@example.com", true)),
		{Scope: acme, Kind: directory.AccountDeactivated, Account: "bob", Event: "e", Occurred: now, Before: face("bob@example.com", true)}, // its register is gone
		change(directory.RoleAdded, "cyd", "", "admin", face("cyd@example.com", true)),                                                      // nothing binds accounts
		change(directory.AccountActivated, "never", "", "", face("never@example.com", true)),
		change(directory.AccountUpdated, "ada", "", "", face("unbound@example.com", true)),
	})
	last := len(seqs) - 2
	s.done(t, store.Bound, store.ResultBound, seqs[:last]...)
	s.done(t, store.Bound, store.ResultObserved, seqs[last])
	s.done(t, store.Bound, store.ResultBound, s.say(t, bolt, "account.activated eve")...)

	_, told := s.announced(t, acme)
	account := func(key, email string, active bool, roles ...string) directory.Account {
		return directory.Account{
			ID: directory.ID{Scope: acme, ID: key}, User: "user_ada", IDPID: "idp", Organization: "org", State: "active", Active: active, Roles: roles,
			Profile: directory.Profile{Email: email, Attributes: map[string]string{"k": "v"}},
		}
	}
	want(t, "told", told, directory.Announced{
		Directory: &directory.Register{Scope: acme, Organization: "org", Connection: directory.Connection{Name: "Acme", State: "linked"}},
		Groups:    []directory.Group{{ID: directory.ID{Scope: acme, ID: "eng"}, Name: "Engineers", IDPID: "g1"}},
		Accounts:  []directory.Account{account("ada", "new@example.com", true, "admin", "writer"), account("bob", "bob@example.com", false), account("cyd", "cyd@example.com", true, "admin")},
		Grants:    []directory.Grant{{GrantID: directory.GrantID{Scope: acme, Account: "ada", Group: "eng"}}},
	})
}

// testNoDifference folds histories, binds some of the changes, and tells the difference: then nothing is left to tell.
func testNoDifference(t *testing.T, s bound) {
	for seed := range uint64(12) {
		events := directorytest.Generate(2000+seed, 60)
		for i := range events {
			events[i].Source = fmt.Sprintf("%s-%d", directorytest.Source, seed)
		}
		fold(t, s, events...)
	}
	drain(t, s, 10)
	scopes := map[directory.Scope]int{}
	for i, c := range s.all(t) {
		scopes[c.Scope]++
		switch {
		case c.Source == directorytest.Source+"-0":
			s.done(t, store.Bound, store.ResultBound, c.Seq)
		case i%3 > 0:
			s.done(t, store.Bound, []string{store.ResultSkipped, store.ResultBound}[i%2], c.Seq)
		}
	}
	for scope := range scopes {
		announced, told := s.announced(t, scope)
		missing := directory.Difference(announced, told)
		if scope.Source == directorytest.Source+"-0" && len(missing) != 0 {
			t.Errorf("%v: all of it was bound, and %d changes are to be told: %+v", scope, len(missing), missing)
		}
		s.update(t, scope, func(ctx context.Context, tx store.Tx) error {
			for i := range missing {
				missing[i].Event, missing[i].Occurred = "enforce", now
			}
			_, err := tx.Discard(ctx, scope, store.ResultObserved)
			return errors.Join(err, tx.Save(ctx, store.Batch{Delta: directory.Delta{Changes: missing}}))
		})
		for _, c := range s.all(t) {
			if c.Scope == scope && c.Event == "enforce" {
				s.done(t, store.Bound, store.ResultBound, c.Seq)
			}
		}
		if again := directory.Difference(s.announced(t, scope)); len(again) != 0 {
			t.Errorf("%v: after %d changes another %d are to be told: %+v", scope, len(missing), len(again), again)
		}
	}
}

func testDiscard(t *testing.T, s bound) {
	s.mode(t, acme, store.Paused)
	s.mode(t, bolt, store.Paused)
	seqs := s.say(t, acme, "account.activated ada", "grant.added ada eng", "account.deactivated bob")
	s.say(t, bolt, "account.activated ada")
	s.done(t, store.Bound, store.ResultBound, seqs[0])
	s.fail(t, store.Bound, now.Add(time.Hour), seqs[1])
	s.done(t, store.Posted, store.ResultDead, seqs[1])
	s.update(t, acme, func(ctx context.Context, tx store.Tx) error {
		if n, err := tx.Discard(ctx, acme, store.ResultObserved); err != nil || n != 3 {
			t.Errorf("Discard() = %d, %v, want 3: two wait on one track only", n, err)
		}
		err := tx.SetMode(ctx, store.ModeRow{Scope: acme, Mode: store.Enforce, By: "ops"})
		later := directory.Change{Scope: acme, Kind: directory.AccountActivated, Account: "cyd", Event: "enforce", Occurred: now, After: &directory.Face{}}
		return errors.Join(err, tx.Save(ctx, store.Batch{Delta: directory.Delta{Changes: []directory.Change{later}}}))
	})
	for _, track := range []store.Track{store.Bound, store.Posted} {
		want(t, string(track)+" lanes", s.lanes(t, track, now.Add(2*time.Hour), 10), []string{"acme cyd"})
		if got := s.waiting(t, track, store.Lane{Scope: bolt, Account: "ada"}); len(got) != 1 {
			t.Errorf("the other directory has %d, want 1", len(got))
		}
	}
	var result string
	if err := s.db.QueryRowContext(t.Context(), s.table("SELECT bound_result FROM %schanges WHERE seq = ", seqs[0])).Scan(&result); err != nil || result != store.ResultBound {
		t.Errorf("what was bound says %q, %v, want bound", result, err)
	}
}
