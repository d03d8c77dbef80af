package e2e

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/internal/simulator"
	"github.com/rollcallhq/rollcall/internal/testenv"
	"github.com/rollcallhq/rollcall/test/rig"
)

// outage is a provider that is not heard for so long. What the database says of the past is dated back by as much while it lasts, in place
// of waiting.
const outage = 10 * time.Minute

// stages are what `rollcall status` says before, during and after it. docs/OPERATIONS.md shows the same lines.
var stages = []struct {
	stage string
	code  int
	lines []string
}{
	{"before", 0, []string{
		`(?m)^GREEN +e2e at 20`,
		`(?m)^directory_01[0-9A-Z…]+ +[A-Z].* +enforce +11 +[0-9ms.]+ ago `,
		`(?m)^workos +[0-9ms]+ ago +[0-9ms.]+ ago +0 +\S+ +event_`,
	}},
	{"during", 8, []string{
		`(?m)^YELLOW +e2e at 20`,
		`(?m)^yellow +the log of workos was not read to its end for 10m[0-9.]*s: read the log: .*503`,
		`(?m)^ +→ webhooks go on; what they miss comes late until it is read again$`,
		`(?m)^directory_01[0-9A-Z…]+ +[A-Z].* +enforce +11 +`,
	}},
	{"two hours into", 5, []string{
		`(?m)^RED +e2e at 20`,
		`(?m)^red +the log of workos was not read to its end for 2h10m[0-9.]*s: read the log: .*503`,
	}},
	{"after", 8, []string{
		`(?m)^YELLOW +e2e at 20`,
		`(?m)^yellow +\S+@\S+ left directory_01[0-9A-Z…]+ and kept access for 9m[0-9.]*s \(event event_[0-9A-Z…]+\)$`,
		`(?m)^ +→ .rollcall accounts show \S+ shows where the time went$`,
		`(?m)^directory_01[0-9A-Z…]+ +[A-Z].* +enforce +9 +[0-9ms.]+ ago `,
		`(?m)^directory_01[0-9A-Z…]+ +4 +\S+ +9m[0-9.]*s +\S+@\S+ +event_[0-9A-Z…]+ +9m[0-9.]*s +[0-9.µms]+ +0 +-$`,
	}},
}

// For ten minutes neither webhooks nor the API are there, while three people leave and one joins. Whoever looks before, meanwhile and afterwards is
// told that all is well, that nobody is heard, and who kept access for how long.
func TestTheStatusTellsOfAnOutageBeforeWhileAndAfterItLasts(t *testing.T) {
	t.Parallel()
	rig.Binary(t) // so that the clock of what follows does not wait for it
	world := simulator.NewWorld(simulator.WorldConfig{Seed: 11, Start: time.Now().Add(-outage - 30*time.Hour)})
	api := simulator.NewAPI(world, simulator.APIConfig{Key: "sk_of_an_outage", Unlimited: true})
	server := httptest.NewServer(api)
	t.Cleanup(server.Close)
	dsn := testenv.Database(t)
	openApplication(t, dsn)
	site := rig.New(t, rig.Options{DSN: dsn, Application: writesItDown(""), Env: []string{"PROVIDERS_KEY=sk_of_an_outage"}, Set: []string{
		"sources.workos.api.key=env:PROVIDERS_KEY", "sources.workos.api.url=" + server.URL, "sources.workos.poll.every=1s", "sources.workos.reconcile.enabled=false",
	}})
	directory := world.FirstSync(12, 3, 2)
	people := world.Active(directory)
	world.Advance(30*time.Hour - 25*time.Minute)
	world.Leave(people[0])
	world.Advance(25 * time.Minute)
	listen(t, site, slices.Collect(world.Deliveries(0)))
	process := site.Serve(t, "worker")
	upToDate(t, site, 11)
	world.Advance(time.Now().Add(-outage).Sub(world.Now()))
	pass(t, site, -outage, "watermark")
	var said []string
	look := func() { said = append(said, stands(t, site, process, len(said))) }
	look()

	api.SetDown(true)
	rig.Until(t, "the API is seen to be down", func() bool {
		return site.Count(t, `SELECT count(*) FROM rollcall.poll_cursors WHERE error LIKE '%503%'`) == 1
	})
	for i, at := range []time.Duration{time.Minute, 4 * time.Minute, 8 * time.Minute} {
		world.Advance(at - []time.Duration{0, time.Minute, 4 * time.Minute}[i])
		world.Leave(people[i+1])
	}
	world.Hire(directory, world.Groups(directory)[0])
	world.Advance(2 * time.Minute)
	pass(t, site, outage, "watermark", "paged_at", "caught_up_at", "moved_at")
	look()

	pass(t, site, 2*time.Hour, "caught_up_at") // had it lasted
	look()
	pass(t, site, -2*time.Hour, "caught_up_at")

	api.SetDown(false)
	upToDate(t, site, 9)
	look()
	t.Log(strings.Join(said, "\n"))
}

// listen lets webhooks tell of all that happened so far, as if each had come soon after.
func listen(t *testing.T, site *rig.Site, told []simulator.Delivery) {
	t.Helper()
	p := site.Serve(t, "receiver,worker", "sources.workos.poll.enabled=false")
	p.AwaitReady(t)
	accepted(t, site, p, told)
	site.Settle(t)
	allBound(t, site)
	p.Terminate()
	p.Ended(t)
	const soon = `(SELECT e.received - e.occurred - interval '120 ms' FROM rollcall.events e WHERE e.source = c.source AND e.id = c.event)`
	execute(t, site, `UPDATE rollcall.changes c SET at = at - `+soon+`, bound_at = bound_at - `+soon+` WHERE event <> ''`)
	execute(t, site, `UPDATE rollcall.events SET folded = folded - (received - occurred - interval '120 ms'), received = occurred + interval '120 ms'`)
}

// upToDate waits until the log is read to its end, so many are active, and the application knows.
func upToDate(t *testing.T, site *rig.Site, active int) {
	t.Helper()
	rig.Until(t, "the log is read to its end", func() bool {
		return site.Count(t, `SELECT count(*) FROM rollcall.poll_cursors WHERE error = '' AND caught_up_at > now() - interval '1 minute'`) == 1 &&
			site.Count(t, `SELECT count(*) FROM rollcall.active_accounts`) == active
	})
	allBound(t, site)
}

func allBound(t *testing.T, site *rig.Site) {
	t.Helper()
	rig.Until(t, "the application is told of everything", func() bool { return site.Count(t, `SELECT count(*) FROM rollcall.changes WHERE bound_at IS NULL`) == 0 })
}

// pass dates back what the database says of the past, and of how far the log is read in these columns.
func pass(t *testing.T, site *rig.Site, by time.Duration, polls ...string) {
	t.Helper()
	for table, columns := range map[string][]string{
		"events": {"occurred", "received", "folded"}, "changes": {"at", "bound_at"},
		"poll_cursors": polls,
	} {
		var set []string
		for _, c := range columns {
			set = append(set, c+" = "+c+" - $1::bigint * interval '1 microsecond'")
		}
		execute(t, site, `UPDATE rollcall.`+table+` SET `+strings.Join(set, ", "), by.Microseconds())
	}
}

func execute(t *testing.T, site *rig.Site, statement string, args ...any) {
	t.Helper()
	if _, err := site.Store.Reader.DB.ExecContext(t.Context(), statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// stands asks how it stands, and checks that it is as it should be at this stage, and that the documents say so.
func stands(t *testing.T, site *rig.Site, process *rig.Process, stage int) string {
	t.Helper()
	want := stages[stage]
	code, out, talk := site.Command(t, "status", "--set", "ops.address="+process.OpsAddress())
	if code != want.code {
		t.Errorf("%s the outage, status exits with %d, want %d:\n%s%s", want.stage, code, want.code, out, talk)
	}
	root, err := rig.Root()
	if err != nil {
		t.Fatal(err)
	}
	document, err := os.ReadFile(filepath.Join(root, "docs", "OPERATIONS.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range want.lines {
		pattern := regexp.MustCompile(line)
		if !pattern.MatchString(out) {
			t.Errorf("%s the outage, status does not say %s:\n%s", want.stage, line, out)
		}
		if !pattern.Match(document) {
			t.Errorf("docs/OPERATIONS.md does not show what status says %s the outage: %s", want.stage, line)
		}
	}
	return out
}
