package status

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

var (
	now  = time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
	acme = directory.Scope{Source: "workos", Directory: "acme"}
)

func ago(d time.Duration) time.Time { return now.Add(-d) }

// fine is a look at which nothing is wrong, and everything is there.
func fine() Look {
	return Look{
		At: now, Environment: "production",
		Queue: Queue{Backend: "redis", Depth: 3, Fullest: 2, Capacity: 100, Oldest: ago(time.Second), Durability: "fsynced"},
		Lags: []store.Lag{{
			Scope: acme, Heard: ago(time.Second), Received: store.Span{Recent: 9, Median: time.Second, Most: time.Hour, Worst: time.Hour},
			Folded: store.Span{Recent: 9, Median: 2 * time.Second, Most: time.Hour, Worst: time.Hour},
		}},
		Leavers: []store.Leavers{{
			Scope: acme, Done: 1, Worst: store.Leaver{Account: "ada", Event: "event_1", Occurred: ago(time.Hour), Folded: ago(time.Hour - time.Second), Bound: ago(time.Hour - time.Minute)},
			Waiting: 1, Oldest: store.Leaver{Account: "bob", Event: "event_2", Occurred: ago(time.Hour), Folded: ago(time.Second)},
		}},
		Directories: []store.DirectoryTally{{Register: directory.Register{Scope: acme, Connection: directory.Connection{State: "linked"}}, Mode: store.Enforce}},
		Polls:       []store.Poll{{Source: "workos", CaughtUp: ago(time.Minute), Holder: "a", Until: now.Add(time.Minute), Now: now, Missed: 4}},
		Every:       map[string]time.Duration{"workos": 5 * time.Second},
		Runs:        []store.Run{{Scope: acme, Begun: ago(2 * time.Hour), Ended: ago(time.Hour), Complete: true, Kinds: map[store.DriftKind]store.DriftCount{store.MissingAccount: {Found: 1, Repaired: 1}}}},
		Dead:        []store.DeadTally{{Source: "workos", Class: "future", Deferred: 2}},
		Backlog: store.Backlog{
			Waiting: map[store.Track]int64{store.Bound: 2}, Paused: map[store.Track]int64{}, Oldest: map[store.Track]time.Time{store.Bound: ago(time.Second)},
		},
		Secrets:   []Secret{{Name: "sources.workos", Version: "3", Created: ago(90 * 24 * time.Hour)}, {Name: "application.dsn", Version: "env"}},
		Inventory: &Inventory{},
	}
}

// cases are changes of a look at which nothing is wrong, and what is to be said of each. One without reasons is at the edge.
var cases = map[string]struct {
	change func(*Look)
	want   []Reason
}{
	"nothing":                       {func(*Look) {}, nil},
	"nothing was seen":              {func(l *Look) { *l = Look{At: now} }, nil},
	"a delivery waits, to the edge": {func(l *Look) { l.Queue.Oldest = ago(time.Minute) }, nil},
	"a delivery waits": {func(l *Look) { l.Queue.Oldest = ago(time.Minute + time.Millisecond) }, []Reason{
		{Red, "3 deliveries wait to be folded, the oldest for 1m", "is a worker up, and what does its log say? `rollcall doctor`"},
	}},
	"the queue is down": {func(l *Look) { l.Queue = Queue{Err: "connection refused"} }, []Reason{
		{Red, "the queue does not answer from here: connection refused", "`rollcall doctor` says why; senders are told to come again"},
	}},
	"the queue fills, to the edge": {func(l *Look) { l.Queue.Fullest = 80 }, nil},
	"the queue fills": {func(l *Look) { l.Queue.Fullest = 81 }, []Reason{
		{Yellow, "a partition of the queue holds 81 of 100 deliveries; when it is full senders are told 503", "start a worker, or find why the database is slow"},
	}},
	"the queue may lose": {func(l *Look) { l.Queue.Durability, l.Queue.Detail = "everysec", "appendfsync is everysec" }, []Reason{
		{Yellow, "what is answered 200 may be lost: the queue is everysec: appendfsync is everysec", "Redis: appendonly yes, appendfsync always, maxmemory-policy noeviction"},
	}},
	"a leaver waits, to the edge": {func(l *Look) { l.Leavers[0].Oldest.Folded = ago(time.Minute) }, nil},
	"a leaver waits": {func(l *Look) { l.Leavers[0].Oldest.Folded = ago(2 * time.Minute) }, []Reason{
		{Red, "1 leavers of acme keep their access: their changes wait, bob's for 2m (event event_2)", "`rollcall bindings list` and `rollcall links list --held` say what holds them; lock them by hand if it lasts"},
	}},
	"nobody waits any more":          {func(l *Look) { l.Leavers[0].Waiting, l.Leavers[0].Oldest.Folded = 0, ago(time.Hour) }, nil},
	"a leaver was slow, to the edge": {func(l *Look) { l.Leavers[0].Worst.Bound = l.Leavers[0].Worst.Occurred.Add(5 * time.Minute) }, nil},
	"a leaver was slow": {func(l *Look) {
		l.Leavers[0].Worst.Bound, l.Leavers[0].Worst.Email = l.Leavers[0].Worst.Occurred.Add(50*time.Minute), "ada@example.com"
	}, []Reason{
		{Yellow, "ada@example.com left acme and kept access for 50m (event event_1)", "`rollcall accounts show ada` shows where the time went"},
	}},
	"a directory was deleted": {func(l *Look) { l.Ended = []Ended{{acme, "Acme", ago(50 * time.Hour)}, {Scope: acme}} }, []Reason{
		{Red, "directory acme (Acme) was deleted at the provider 2d ago; its accounts are held, and who leaves is not told of", "`rollcall directories deprovision acme` ends its accounts, `hold` lets them be"},
		{Red, "directory acme was deleted at the provider; its accounts are held, and who leaves is not told of", "`rollcall directories deprovision acme` ends its accounts, `hold` lets them be"},
	}},
	"a directory is not followed": {func(l *Look) { l.Directories[0].State = "invalid_credentials" }, []Reason{
		{Yellow, "directory acme is invalid_credentials: who leaves it is not told of", "the customer's administrator connects it again, in the provider's portal"},
	}},
	"a directory that ended is not followed": {func(l *Look) { l.Directories[0].State, l.Directories[0].Removed = "deleting", true }, nil},
	"a binding is broken": {func(l *Look) { l.Broken = []Broken{{"lock-out", "no such column"}} }, []Reason{
		{Red, "binding lock-out does not fit the application's database: no such column", "mend the statement or the schema; its changes wait"},
	}},
	"removals fail": {func(l *Look) {
		l.Backlog.Failing = []store.Failing{{Kind: directory.AccountActivated, Count: 2, Error: "let-in: dup\nhint: x", Since: ago(time.Hour)}, {Kind: directory.GrantRevoked, Count: 1, Error: "e", Since: ago(time.Minute)}}
	}, []Reason{
		{Red, "1 changes grant.revoked fail, since 1m: e", "`rollcall bindings list` has the whole error; they are tried again by themselves"},
		{Yellow, "2 changes account.activated fail, since 1h: let-in: dup", "`rollcall bindings list` has the whole error; they are tried again by themselves"},
	}},
	"changes wait, to the edge": {func(l *Look) { l.Backlog.Oldest[store.Bound] = ago(5 * time.Minute) }, nil},
	"changes wait": {func(l *Look) { l.Backlog.Oldest[store.Bound] = ago(6 * time.Minute) }, []Reason{
		{Yellow, "2 changes wait to be bound, the oldest for 6m", "`rollcall bindings list`; is a worker up?"},
	}},
	"a directory is paused": {func(l *Look) { l.Backlog.Paused[store.Posted] = 7 }, []Reason{
		{Yellow, "7 changes of paused directories wait to be posted", "`rollcall directories enforce` lets them go on, leavers first"},
	}},
	"one link is held": {func(l *Look) { l.Links = []HeldLinks{{acme, store.Ambiguous, 1, ago(3 * time.Hour)}} }, []Reason{
		{Yellow, "of 1 account of acme it is not known which user they are (ambiguous), since 3h: their changes wait", "`rollcall links list --held` says why, `links set` decides"},
	}},
	"links are held": {func(l *Look) { l.Links = []HeldLinks{{acme, store.Ambiguous, 2, ago(3 * time.Hour)}} }, []Reason{
		{Yellow, "of 2 accounts of acme it is not known which user they are (ambiguous), since 3h: their changes wait", "`rollcall links list --held` says why, `links set` decides"},
	}},
	"probes find something": {func(l *Look) { l.Probes = Probes{Dirty: 1, Unknown: 2} }, []Reason{
		{Red, "1 leavers have something left in the application", "`rollcall accounts show WHO` names the probe and the rows"},
		{Yellow, "of 2 leavers it is not known whether they have something left", "a probe failed or their link is not known: `rollcall accounts show WHO`"},
	}},
	"the log is behind, to the edge": {func(l *Look) { l.Polls[0].CaughtUp, l.Polls[0].Error = ago(5*time.Minute), "502" }, nil},
	"the log cannot be read": {func(l *Look) { l.Polls[0].CaughtUp, l.Polls[0].Error = ago(6*time.Minute), "502\nhint: wait" }, []Reason{
		{Yellow, "the log of workos was not read to its end for 6m: 502", "webhooks go on; what they miss comes late until it is read again"},
	}},
	"the log could not be read for hours": {func(l *Look) { l.Polls[0].CaughtUp, l.Polls[0].Error = ago(3*time.Hour), "502" }, []Reason{
		{Red, "the log of workos was not read to its end for 3h: 502", "webhooks go on; what they miss comes late until it is read again"},
	}},
	"the log was never read to its end": {func(l *Look) {
		l.Polls[0].CaughtUp, l.Polls[0].Failed, l.Polls[0].Error = time.Time{}, ago(20*time.Minute), "401"
	}, []Reason{
		{Yellow, "the log of workos was not read to its end for 20m: 401", "webhooks go on; what they miss comes late until it is read again"},
	}},
	"nobody polls": {func(l *Look) { l.Polls[0].CaughtUp, l.Polls[0].Holder = ago(time.Hour), "" }, []Reason{
		{Yellow, "nobody reads the log of workos, for 1h", "is a worker up? `rollcall doctor`"},
	}},
	"nobody polls, to the edge": {func(l *Look) { l.Polls[0].CaughtUp, l.Polls[0].Holder = ago(time.Minute), "" }, nil},
	"nobody polls any more": {func(l *Look) { l.Polls[0].CaughtUp, l.Polls[0].Holder = ago(2*time.Minute), "" }, []Reason{
		{Yellow, "nobody reads the log of workos, for 2m", "is a worker up? `rollcall doctor`"},
	}},
	"the log is read hourly": {func(l *Look) {
		l.Every["workos"], l.Polls[0].CaughtUp, l.Polls[0].Holder = time.Hour, ago(2*time.Hour), ""
	}, nil},
	"the log was never read": {func(l *Look) { l.Polls = nil }, []Reason{
		{Yellow, "the log of workos was never read", "is a worker up whose configuration has sources.workos.api.key? `rollcall doctor`"},
	}},
	"the log was never read, and somebody was to": {func(l *Look) { l.Polls[0] = store.Poll{Source: "workos", Now: now} }, []Reason{
		{Yellow, "the log of workos was never read", "is a worker up whose configuration has sources.workos.api.key? `rollcall doctor`"},
	}},
	"the log is read for the first time": {func(l *Look) { l.Polls[0].CaughtUp, l.Polls[0].Paged = time.Time{}, ago(time.Second) }, nil},
	"the process is not ready": {func(l *Look) { l.Unready = "http://127.0.0.1:9090/readyz" }, []Reason{
		{Yellow, "the process is not ready, by http://127.0.0.1:9090/readyz", "`rollcall health` says why"},
	}},
	"the log is long": {func(l *Look) { l.Polls[0].CaughtUp = ago(time.Hour) }, []Reason{
		{Yellow, "the log of workos was not read to its end for 1h", "the worker's log says how it goes on"},
	}},
	"a cursor expired yesterday": {func(l *Look) { l.Polls[0].Restarted = ago(24 * time.Hour) }, nil},
	"a cursor expired": {func(l *Look) { l.Polls[0].Restarted = ago(23 * time.Hour) }, []Reason{
		{Yellow, "the provider had forgotten where workos was read to; events may be missing", "compare its directories with their listing: `rollcall reconcile plan`"},
	}},
	"a directory was not compared, to the edge": {func(l *Look) { l.Runs[0].Ended = ago(26 * time.Hour) }, nil},
	"a directory was not compared": {func(l *Look) {
		l.Runs[0].Ended = ago(30 * time.Hour)
		l.Runs = append([]store.Run{{Scope: acme, Ended: ago(time.Hour), Reason: "the listing was cut short"}}, l.Runs...)
	}, []Reason{{Yellow, "directory acme was last 30h ago compared with its whole listing: the listing was cut short", "workers compare it again by themselves; `rollcall reconcile plan acme` looks now"}}},
	"a log was never read": {func(l *Look) { l.Every["okta"] = time.Second }, []Reason{
		{Yellow, "the log of okta was never read", "is a worker up whose configuration has sources.okta.api.key? `rollcall doctor`"},
	}},
	"somebody holds a log and never read it": {func(l *Look) {
		l.Polls = []store.Poll{{Source: "workos", Holder: "a", Until: now.Add(time.Minute), Now: now}}
	}, []Reason{
		{Yellow, "the log of workos was never read", "is a worker up whose configuration has sources.workos.api.key? `rollcall doctor`"},
	}},
	"nobody ever compared a directory": {func(l *Look) { l.Runs, l.Compared = nil, map[string]time.Duration{"workos": time.Hour} }, []Reason{
		{Yellow, "directory acme was never compared with its listing", "is a worker up whose configuration has sources.workos.api.key? `rollcall doctor`"},
	}},
	"nobody is to compare it": {func(l *Look) { l.Runs = nil }, nil},
	"a directory that ended was never compared": {func(l *Look) {
		l.Runs, l.Compared, l.Directories[0].Removed = nil, map[string]time.Duration{"workos": 0}, true
	}, nil},
	"a directory is compared every three days, to the edge": {func(l *Look) {
		l.Runs[0].Ended, l.Compared = ago(74*time.Hour), map[string]time.Duration{"workos": 72 * time.Hour}
	}, nil},
	"a plan found what nobody repaired": {func(l *Look) {
		l.Runs[0].Kinds = map[store.DriftKind]store.DriftCount{store.ShouldBeInactive: {Found: 3}}
	}, []Reason{
		{Red, "3 of should be inactive by the listing of acme, and not repaired", "`rollcall reconcile plan acme` shows them, `reconcile apply` approves of their repair"},
	}},
	"a directory was never compared": {func(l *Look) { l.Runs[0].Complete, l.Runs[0].Reason = false, "the listing was cut short" }, []Reason{
		{Yellow, "directory acme was never compared with its whole listing: the listing was cut short", "workers compare it again by themselves; `rollcall reconcile plan acme` looks now"},
	}},
	"a first comparison is under way": {func(l *Look) { l.Runs = []store.Run{{Scope: acme, Begun: ago(time.Minute)}} }, nil},
	"drift is held": {func(l *Look) {
		l.Runs[0].Kinds = map[store.DriftKind]store.DriftCount{store.ShouldBeInactive: {Found: 60, Held: 60}, store.Tombstone: {Found: 2, Asked: 2}}
	}, []Reason{
		{Red, "60 of should be inactive by the listing of acme, and not repaired", "`rollcall reconcile plan acme` shows them, `reconcile apply` approves of their repair"},
		{Yellow, "2 of tombstone by the listing of acme, and not repaired", "`rollcall reconcile plan acme` shows them, `reconcile apply` approves of their repair"},
	}},
	"events are dead": {func(l *Look) {
		l.Dead = []store.DeadTally{{Source: "workos", Class: "data", Count: 2, Oldest: ago(time.Hour)}}
	}, []Reason{
		{Yellow, "2 events of workos could not be folded (data), since 1h", "`rollcall dead list` and `dead show` say why; `dead replay` folds them when that is mended"},
	}},
	"the provider is late, to the edge": {func(l *Look) { l.Lags[0].Received.Median, l.Lags[0].Folded.Median = 5*time.Minute, 5*time.Minute }, nil},
	"the provider is late": {func(l *Look) { l.Lags[0].Received.Median, l.Lags[0].Folded.Median = 6*time.Minute, 6*time.Minute }, []Reason{
		{Yellow, "events of acme come 6m after their time, as a rule of the last hour", "the provider is late: its status page; nothing is lost"},
	}},
	"folding is late, to the edge": {func(l *Look) { l.Lags[0].Folded.Median = 11 * time.Second }, nil},
	"folding is late": {func(l *Look) { l.Lags[0].Folded.Median = 12 * time.Second }, []Reason{
		{Yellow, "events of acme are folded 11s after they came, as a rule of the last hour", "the workers or the database are slow: `rollcall queue`, the workers' log"},
	}},
	"a secret is old, to the edge": {func(l *Look) { l.Secrets[0].Created = ago(365 * 24 * time.Hour) }, nil},
	"a secret is old": {func(l *Look) { l.Secrets[0].Created = ago(400 * 24 * time.Hour) }, []Reason{
		{Yellow, "secret sources.workos is 400d old (version 3)", "rotate it: docs/OPERATIONS.md, Rotating a signing secret"},
	}},
	"the application went its own way": {func(l *Look) { l.Inventory = &Inventory{1, 2, 3, 4, 5} }, []Reason{
		{Red, "1 leavers are active in the application again, and no event explains it", "`rollcall orphans` lists them"},
		{Yellow, "2 accounts of the application are in no directory", "`rollcall orphans` lists them; `orphans exempt` is for whom somebody answers"},
		{Yellow, "3 memberships of the application are in no directory", "`rollcall orphans` lists them"},
		{Yellow, "4 accounts and memberships are not in the application, which was told of them", "`rollcall orphans` lists them"},
		{Yellow, "5 accounts and memberships of the application could not be judged", "`rollcall orphans` says why"},
	}},
}

func TestEachThingThatIsWrongIsSaidWithWhatToDo(t *testing.T) {
	t.Parallel()
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := fine()
			c.change(&l)
			got := Judge(l)
			if diff := cmp.Diff(c.want, got.Reasons); diff != "" {
				t.Errorf("Judge() gives other reasons (-want +got):\n%s", diff)
			}
			want := Green
			if len(c.want) > 0 {
				want = c.want[0].Color
			}
			if got.Color != want {
				t.Errorf("Judge() is %s, want %s", got.Color, want)
			}
		})
	}
}

func TestNoRuleIsWithoutItsCase(t *testing.T) {
	t.Parallel()
	for i := range rules {
		without := slices.Delete(slices.Clone(rules), i, i+1)
		missed := false
		for _, c := range cases {
			l := fine()
			c.change(&l)
			missed = missed || len(judge(l, without).Reasons) < len(c.want)
		}
		if !missed {
			t.Errorf("no case needs rule %d", i)
		}
	}
}

func TestTheWorstIsSaidFirst(t *testing.T) {
	t.Parallel()
	l := fine()
	l.Dead = []store.DeadTally{{Source: "workos", Class: "data", Count: 1}}
	l.Secrets[0].Created = ago(500 * 24 * time.Hour)
	l.Probes.Dirty = 1
	v := Judge(l)
	if v.Color != Red || len(v.Reasons) != 3 || v.Reasons[0].Color != Red || v.Reasons[1].Color != Yellow {
		t.Errorf("Judge() = %+v, want what is red first", v)
	}
}

func TestDurationsAreShort(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "0s", 1234567 * time.Nanosecond: "1ms", 1234 * time.Millisecond: "1.2s", time.Minute: "1m", 90 * time.Second: "1m30s",
		time.Hour: "1h", 61 * time.Minute: "1h1m", 47 * time.Hour: "47h", 49 * time.Hour: "2d", time.Hour + time.Second: "1h0m1s", 10 * time.Minute: "10m",
	} {
		if got := Short(d); got != want {
			t.Errorf("Short(%d) = %s, want %s", d, got, want)
		}
	}
}
