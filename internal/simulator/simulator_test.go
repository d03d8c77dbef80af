package simulator_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/directory/directorytest"
	"github.com/rollcallhq/rollcall/internal/provider"
	"github.com/rollcallhq/rollcall/internal/provider/workos"
	"github.com/rollcallhq/rollcall/internal/simulator"
	"github.com/rollcallhq/rollcall/internal/store"
)

var start = time.Date(2026, 7, 31, 10, 0, 0, 0, time.UTC)

// live runs a directory for some steps and returns it with all it delivered.
func live(seed uint64, steps int) (*simulator.Directory, []simulator.Delivery) {
	d, out := simulator.New(simulator.Config{Seed: seed, Directories: 4, People: 12, Groups: 5, Start: start})
	for range steps {
		out = append(out, d.Step()...)
	}
	return d, out
}

func decode(t testing.TB, deliveries []simulator.Delivery) []directory.Event {
	t.Helper()
	var events []directory.Event
	for _, d := range deliveries {
		statements, err := workos.Provider().Decode(d.Body, provider.Options{Source: "workos"})
		if err != nil || len(statements) != 1 || statements[0].Event == nil {
			t.Fatalf("Decode(%s) = %+v, %v, want one event", d.Body, statements, err)
		}
		events = append(events, *statements[0].Event)
	}
	return events
}

// fold folds the events in batches into one state, with all expansions, and returns all of it.
func fold(events []directory.Event, batch int) directory.Delta {
	state := directory.NewState(nil, directory.Roles{})
	members := map[directory.ID][]string{} // of each group, all that any event named
	for events := range slices.Chunk(events, batch) {
		for _, e := range events {
			if m := e.Membership; m != nil {
				group := directory.ID{Scope: e.Scope(), ID: m.Group}
				members[group] = append(members[group], m.User)
			}
		}
		state.Fold(events)
		for _, x := range state.TakeDelta().Expansions {
			state.EvaluateMembers(x, members[directory.ID{Scope: x.Scope, ID: x.Group}])
		}
	}
	return state.Snapshot()
}

func TestEveryDeliveryIsAnEventThatWorkOSWouldSend(t *testing.T) {
	t.Parallel()
	d, deliveries := live(1, 3000)
	seen, ids, last := map[string]int{}, map[string]bool{}, ""
	for i, e := range decode(t, deliveries) {
		delivery := deliveries[i]
		id, err := workos.Provider().Identify(delivery.Body)
		if want := (provider.Identity{ID: delivery.ID, Type: delivery.Type, Directory: delivery.Directory}); err != nil || id != want {
			t.Fatalf("Identify(%s) = %+v, %v, want %+v", delivery.Body, id, err, want)
		}
		if at, ok := directory.ULIDTime(e.ID); !e.Occurred.Equal(delivery.Occurred) || !ok || !at.Equal(delivery.Occurred) {
			t.Fatalf("%s occurred at %s by its body, %s by its id, %s by the delivery", e.ID, e.Occurred, at, delivery.Occurred)
		}
		if ids[e.ID] || e.ID < last {
			t.Fatalf("the id %s comes after %s", e.ID, last)
		}
		if delivery.Summary == "" || strings.Contains(delivery.Summary, "  ") || e.Organization == "" {
			t.Fatalf("%s: summary %q, organization %q", e.ID, delivery.Summary, e.Organization)
		}
		seen[e.Type]++
		ids[e.ID], last = true, e.ID
	}
	if want := 9; len(seen) != want {
		t.Errorf("%d types of events in 3000 steps, want %d: %v", len(seen), want, seen)
	}
	if n := d.Expected().Active(); n < 20 || n > 400 {
		t.Errorf("48 people became %d in 3000 steps", n)
	}
}

func TestTheEnvelopeIsTheCurrentOne(t *testing.T) {
	t.Parallel()
	d, first := simulator.New(simulator.Config{Seed: 3, People: 2, Groups: 2, Start: start})
	all := slices.Concat(first, d.Rename(), d.Leave(), d.DeleteGroup())
	want := map[string][]string{
		"dsync.activated":        {"created_at", "domains", "external_key", "id", "name", "object", "organization_id", "state", "type", "updated_at"},
		"dsync.group.created":    {"created_at", "directory_id", "id", "idp_id", "name", "object", "organization_id", "raw_attributes", "updated_at"},
		"dsync.group.user_added": {"directory_id", "group", "user"},
		"dsync.user.created": {
			"created_at", "custom_attributes", "directory_id", "email", "first_name", "id", "idp_id", "last_name", "name", "object", "organization_id",
			"raw_attributes", "role", "roles", "state", "updated_at",
		},
	}
	want["dsync.group.deleted"] = want["dsync.group.created"]
	want["dsync.user.updated"] = slices.Sorted(slices.Values(append([]string{"previous_attributes"}, want["dsync.user.created"]...)))
	for _, delivery := range all {
		var envelope map[string]json.RawMessage
		var data map[string]any
		if err := json.Unmarshal(delivery.Body, &envelope); err != nil {
			t.Fatal(err)
		}
		if keys := slices.Sorted(maps.Keys(envelope)); !slices.Equal(keys, []string{"context", "created_at", "data", "event", "id", "object"}) {
			t.Fatalf("the envelope has %v", keys)
		}
		if err := json.Unmarshal(envelope["data"], &data); err != nil {
			t.Fatal(err)
		}
		keys, known := want[delivery.Type]
		if diff := cmp.Diff(keys, slices.Sorted(maps.Keys(data))); known && diff != "" {
			t.Errorf("%s (-want +got):\n%s", delivery.Type, diff)
		}
	}
}

func TestFoldingAllDeliveriesGivesWhatTheDirectoryExpects(t *testing.T) {
	t.Parallel()
	for seed := range uint64(5) {
		d, deliveries := live(seed, 1500)
		events := decode(t, deliveries)
		for name, got := range map[string]directory.Delta{
			"one by one, in order": fold(events, 1),
			"in batches, in order": fold(events, 100),
			"one by one, jumbled":  fold(directorytest.Shuffled(seed, events), 1),
			"in batches, jumbled":  fold(directorytest.Shuffled(seed+99, events), 37),
		} {
			if diff := d.Expected().Diff(got); len(diff) > 0 {
				t.Errorf("seed %d, %d events %s: %d differences, such as\n%s", seed, len(events), name, len(diff), strings.Join(diff[:min(len(diff), 10)], "\n"))
			}
		}
	}
}

func TestEveryStepGivesWhatTheDirectoryExpects(t *testing.T) {
	t.Parallel()
	d, deliveries := simulator.New(simulator.Config{Seed: 11, People: 6, Groups: 3, Start: start})
	events := decode(t, deliveries)
	for step := range uint64(150) {
		if diff := d.Expected().Diff(fold(directorytest.Shuffled(step, events), 50)); len(diff) > 0 {
			t.Fatalf("after step %d, %q:\n%s", step, deliveries[len(deliveries)-1].Summary, strings.Join(diff, "\n"))
		}
		deliveries = d.Step()
		events = append(events, decode(t, deliveries)...)
	}
}

func TestAnAddressIsOnePersonsAtATimeAndThenAnothers(t *testing.T) {
	t.Parallel()
	d, _ := simulator.New(simulator.Config{Seed: 13, People: 10, Start: start})
	for step := range 2000 {
		if d.Step(); step%4 > 0 {
			continue
		}
		holders := map[string]string{}
		for id, a := range d.Expected().Accounts {
			if other, taken := holders[a.Email]; a.Active && taken {
				t.Fatalf("%s is the address of %s and of %s", a.Email, other, id.ID)
			}
			if a.Active {
				holders[a.Email] = id.ID
			}
		}
	}
	recycled, holders := 0, map[string]int{}
	for _, a := range d.Expected().Accounts {
		if holders[a.Email]++; holders[a.Email] == 2 {
			recycled++
		}
	}
	if recycled == 0 {
		t.Error("no address was given to a second person in 2000 steps")
	}
}

func TestOneSeedGivesOneHistory(t *testing.T) {
	t.Parallel()
	d, one := live(5, 1500)
	e, other := live(5, 1500)
	if !reflect.DeepEqual(one, other) {
		t.Error("the same seed gave other deliveries")
	}
	if diff := cmp.Diff(d.Expected(), e.Expected()); diff != "" {
		t.Errorf("the same seed (-once +again):\n%s", diff)
	}
	if _, different := live(6, 1500); different[0].ID == one[0].ID {
		t.Errorf("seeds 5 and 6 both begin with %s", one[0].ID)
	}
}

func TestEachHappeningTellsWhatItIs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		prepare, happen func(d *simulator.Directory) []simulator.Delivery
		typ, summary    string // of the first delivery, or of the last; %s is a name
		active          int    // more than before
	}{
		"join":         {nil, (*simulator.Directory).Join, "dsync.user.created", "joined Harbour Bikes", 1},
		"move":         {nil, (*simulator.Directory).Move, "dsync.group.user_", "", 0},
		"leave":        {nil, (*simulator.Directory).Leave, "dsync.", "left", -1},
		"suspend":      {nil, (*simulator.Directory).Suspend, "dsync.user.updated", "was suspended", -1},
		"purge":        {(*simulator.Directory).Suspend, (*simulator.Directory).Purge, "dsync.user.deleted", "was deleted", 0},
		"return":       {(*simulator.Directory).Leave, (*simulator.Directory).Return, "dsync.user.", "came back", 1},
		"rehire":       {(*simulator.Directory).Leave, (*simulator.Directory).Rehire, "dsync.user.created", "was rehired under a new id", 1},
		"rename":       {nil, (*simulator.Directory).Rename, "dsync.user.updated", "is now", 0},
		"new group":    {nil, (*simulator.Directory).NewGroup, "dsync.group.created", "was created", 0},
		"rename group": {nil, (*simulator.Directory).RenameGroup, "dsync.group.updated", "is now", 0},
		"delete group": {nil, (*simulator.Directory).DeleteGroup, "dsync.group.deleted", "was deleted", 0},
	} {
		d, _ := simulator.New(simulator.Config{Seed: 2, People: 5, Groups: 3, Start: start})
		if c.prepare != nil {
			c.prepare(d)
		}
		before := d.Expected().Active()
		got := c.happen(d)
		if len(got) == 0 || !strings.HasPrefix(got[0].Type, c.typ) || !strings.Contains(got[0].Summary, c.summary) {
			t.Errorf("%s gave %v, want %s, %q", name, got, c.typ, c.summary)
		}
		if more := d.Expected().Active() - before; more != c.active {
			t.Errorf("%s made %d more active, want %d", name, more, c.active)
		}
	}
}

func TestNothingHappensToNobody(t *testing.T) {
	t.Parallel()
	d, first := simulator.New(simulator.Config{})
	if got := len(first); got != 5 {
		t.Errorf("an empty directory gives %d deliveries, want its activation and 4 groups", got)
	}
	for name, happen := range map[string]func() []simulator.Delivery{
		"move": d.Move, "leave": d.Leave, "suspend": d.Suspend, "purge": d.Purge, "return": d.Return, "rehire": d.Rehire, "rename": d.Rename,
	} {
		if got := happen(); len(got) > 0 {
			t.Errorf("%s in an empty directory gave %v", name, got)
		}
	}
	if got := d.Step(); len(got) == 0 {
		t.Error("a step gave nothing")
	}
}

func TestALiveClockIsFollowedAndNeverStandsStill(t *testing.T) {
	t.Parallel()
	now := start
	d, _ := simulator.New(simulator.Config{Start: start, Step: time.Hour, Now: func() time.Time { return now }})
	first, second := d.Join()[0].Occurred, d.Join()[0].Occurred
	if got := second.Sub(first); got != time.Millisecond {
		t.Errorf("two happenings of one moment are %s apart, want 1ms", got)
	}
	now = start.Add(time.Minute)
	if got := d.Join()[0].Occurred; !got.Equal(now) {
		t.Errorf("the happening is at %s, want %s", got, now)
	}
}

func TestDiffSaysEachDifference(t *testing.T) {
	t.Parallel()
	scope := directory.Scope{Source: "workos", Directory: "dir"}
	id := func(s string) directory.ID { return directory.ID{Scope: scope, ID: s} }
	e := simulator.Expectation{
		Source: "workos",
		Accounts: map[directory.ID]simulator.Account{
			id("ada"):   {Name: "Ada", Email: "ada@example.com", Active: true, Groups: map[string]string{"g1": "Engineering", "g2": "Data"}},
			id("grace"): {Name: "Grace", Email: "grace@example.com"},
			id("alan"):  {Name: "Alan", Email: "alan@example.com", Active: true},
		},
		Groups: map[directory.ID]simulator.Group{id("g1"): {"Engineering", true}, id("g2"): {"Data", true}, id("g3"): {"Legal", false}, id("g4"): {"Sales", true}},
	}
	account := func(key, email string, active bool) directory.Account {
		name := strings.ToUpper(key[:1]) + key[1:]
		return directory.Account{ID: id(key), Active: active, Profile: directory.Profile{Name: name, Email: email}}
	}
	other := account("eve", "", true)
	other.Source = "okta"
	grant := func(account, group string) directory.Grant {
		return directory.Grant{GrantID: directory.GrantID{Scope: scope, Account: account, Group: group}}
	}
	got := e.Diff(directory.Delta{
		Accounts: []directory.Account{account("ada", "lovelace@example.com", true), account("grace", "grace@example.com", true), account("mallory", "m@example.com", true), other},
		Granted:  []directory.Grant{grant("ada", "g1"), grant("ada", "g3"), grant("nobody", "g1")},
		Groups:   []directory.Group{{ID: id("g1"), Name: "Eng"}, {ID: id("g2"), Name: "Data", Removed: true}, {ID: id("g3"), Name: "Legal", Removed: true}, {ID: id("g9"), Name: "X"}},
	})
	want := []string{
		`dir/ada (Ada): Ada <ada@example.com> in the directory, Ada <lovelace@example.com> in the database`,
		`dir/ada (Ada): in Data in the directory, not in the database`,
		`dir/ada (Ada): in Engineering in the directory, it is called "Eng" in the database`,
		`dir/ada (Ada): in Legal (g3) in the database, not in the directory`,
		`dir/alan (Alan): in the directory, not in the database`,
		`dir/g1 (Engineering): the group is "Eng" in the database`,
		`dir/g2 (Data): the group is live in the directory, deleted in the database`,
		`dir/g4 (Sales): a group in the directory, not in the database`,
		`dir/g9 (X): a group in the database, never in the directory`,
		`dir/grace (Grace): not active in the directory, active in the database`,
		`dir/mallory (m@example.com): in the database, never in the directory`,
		`dir/nobody: granted g1 without an account`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Diff() (-want +got):\n%s", diff)
	}

	rows := []store.AccountRow{
		{Account: account("ada", "ada@example.com", true), EffectivelyActive: true, Groups: []store.GroupRow{{ID: "g1", Name: "Engineering"}, {ID: "g2", Name: "Data"}}},
		{Account: account("grace", "grace@example.com", false)},
		{Account: account("alan", "alan@example.com", true)},
	}
	if diff := cmp.Diff([]string{`dir/alan (Alan): active in the directory, not active in the database`}, e.DiffRows(rows)); diff != "" {
		t.Errorf("DiffRows() (-want +got):\n%s", diff)
	}
}

func TestALostDeliveryShows(t *testing.T) {
	t.Parallel()
	d, deliveries := simulator.New(simulator.Config{Seed: 8, People: 20, Start: start})
	left := d.Leave()
	if diff := d.Expected().Diff(fold(decode(t, append(deliveries, left[:len(left)-1]...)), 10)); len(diff) == 0 {
		t.Errorf("nobody missed %q", left[len(left)-1].Summary)
	}
}

func BenchmarkStep(b *testing.B) {
	d, _ := simulator.New(simulator.Config{Directories: 4, People: 500, Groups: 20, Start: start})
	deliveries, bytes := 0, 0
	for b.Loop() {
		for _, delivery := range d.Step() {
			deliveries++
			bytes += len(delivery.Body)
		}
	}
	b.ReportMetric(float64(deliveries)/b.Elapsed().Seconds(), "deliveries/s")
	b.ReportMetric(float64(bytes)/float64(deliveries), "B/delivery")
}

func Example() {
	d, first := simulator.New(simulator.Config{Seed: 1, People: 1, Groups: 1, Start: start})
	for _, delivery := range append(first, d.Leave()...) {
		fmt.Println(delivery.Type, "·", delivery.Summary)
	}
	fmt.Println(d.Expected().Active(), "active")
	// Output:
	// dsync.activated · Harbour Bikes was activated
	// dsync.group.created · Legal was created
	// dsync.user.created · Omar Rahman joined Harbour Bikes
	// dsync.group.user_added · Omar Rahman joined Legal
	// dsync.user.deleted · Omar Rahman left Harbour Bikes
	// 0 active
}
