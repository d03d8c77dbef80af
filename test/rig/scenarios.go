package rig

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/internal/directory"
)

// scenario is a sequence of events in the order of their arrival, and what somebody else's service makes of it. The
// bodies name neither users' ids nor directories.
type scenario struct {
	Events []struct {
		ID        string         `json:"id"`
		Event     string         `json:"event"`
		CreatedAt string         `json:"created_at"`
		Data      map[string]any `json:"data"`
	} `json:"events"`
	Expected struct {
		outcome
		After map[string]outcome `json:"-"`
	} `json:"expected"`
}

// outcome is what a scenario states. Memberships at the end are what people have; on the way, what is kept of them.
type outcome struct {
	Users []struct {
		IDPID  string `json:"idp_id"`
		Active bool   `json:"active"`
	} `json:"users"`
	ActiveUsers []struct {
		IDPID string `json:"idp_id"`
	} `json:"active_users"`
	Memberships []struct {
		Group string `json:"group"`
		User  string `json:"user_idp_id"`
	} `json:"memberships"`
}

// removalWins are the scenarios whose events have one time and contradict each other. They state the order in which a
// list gives them; here the one that takes access away counts, whatever the order.
var removalWins = map[string]bool{"same-created-at-in-events-api-order.json": true}

func scenarios(t *testing.T, site SiteMaker, dir string) {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios in %s: %v", dir, err)
	}
	for _, path := range files {
		t.Run("scenario "+strings.TrimSuffix(filepath.Base(path), ".json"), func(t *testing.T) {
			t.Parallel()
			readScenario(t, path).run(t, site(t), removalWins[filepath.Base(path)])
		})
	}
}

func readScenario(t *testing.T, path string) (s scenario) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var named struct {
		Expected map[string]json.RawMessage `json:"expected"`
	}
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &named); err != nil {
		t.Fatal(err)
	}
	s.Expected.After = map[string]outcome{}
	for key, raw := range named.Expected {
		if event, ok := strings.CutPrefix(key, "after_"); ok {
			var o outcome
			if err := json.Unmarshal(raw, &o); err != nil {
				t.Fatal(err)
			}
			s.Expected.After[event] = o
		}
	}
	return s
}

func (s scenario) run(t *testing.T, site *Site, removed bool) {
	t.Helper()
	p := site.Serve(t, "receiver,worker")
	for _, e := range s.Events {
		body := jsonOf(t, map[string]any{
			"object": "event", "id": e.ID, "event": e.Event, "created_at": e.CreatedAt, "data": complete(e.Data),
		})
		site.mustTake(t, p, body)
		site.Settle(t)
		if want, ok := s.Expected.After[e.ID]; ok {
			got := site.look(t)
			want.compare(t, "after "+e.ID, got, got.kept)
		}
	}
	want := s.Expected.outcome
	if removed {
		for i := range want.Users {
			want.Users[i].Active = false
		}
		want.Memberships = nil
	}
	got := site.look(t)
	want.compare(t, "in the end", got, got.granted)
}

// complete gives the objects the ids that real ones have: the person's from the idp_id, the group's from the directory's.
func complete(data map[string]any) map[string]any {
	const scope = "directory_of_the_scenario"
	data["directory_id"] = scope
	user, group := data, map[string]any(nil)
	if inner, ok := data["user"].(map[string]any); ok {
		user = inner
		group, _ = data["group"].(map[string]any)
	}
	user["id"], user["directory_id"] = fmt.Sprint("directory_user_", user["idp_id"]), scope
	if raw, ok := group["raw_attributes"].(map[string]any); ok {
		group["id"], group["directory_id"] = fmt.Sprint("directory_group_", raw["externalId"]), scope
	}
	return data
}

// seen is what a site's database says in the terms of a scenario.
type seen struct {
	active        map[string]bool // account → is it
	granted, kept []string        // "group/person": grants, and memberships that are present
}

func (s *Site) look(t *testing.T) seen {
	t.Helper()
	d, err := s.Store.Dump(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out, names := seen{active: map[string]bool{}}, map[string]string{}
	for _, a := range d.Accounts {
		out.active[a.ID.ID] = a.Active
	}
	for _, g := range d.Groups {
		names[g.ID.ID] = g.Name
	}
	for _, g := range d.Granted {
		out.granted = append(out.granted, names[g.Group]+"/"+g.Account)
	}
	for _, e := range d.Edges {
		if e.Present {
			out.kept = append(out.kept, names[e.Group]+"/"+personOf(d.Users, e.User))
		}
	}
	return out
}

func personOf(users []directory.User, id string) string {
	for i := range users {
		if users[i].ID.ID == id {
			return users[i].AccountKey()
		}
	}
	return id
}

func (o outcome) compare(t *testing.T, when string, got seen, memberships []string) {
	t.Helper()
	for _, u := range o.Users {
		if active, known := got.active[u.IDPID]; !known || active != u.Active {
			t.Errorf("%s: %s is known %t and active %t, want active %t", when, u.IDPID, known, active, u.Active)
		}
	}
	if o.ActiveUsers != nil {
		want, have := map[string]bool{}, map[string]bool{}
		for _, u := range o.ActiveUsers {
			want[u.IDPID] = true
		}
		for id, active := range got.active {
			if active {
				have[id] = true
			}
		}
		if diff := cmp.Diff(want, have); diff != "" {
			t.Errorf("%s: the active people (-want +got):\n%s", when, diff)
		}
	}
	var want []string
	for _, m := range o.Memberships {
		want = append(want, m.Group+"/"+m.User)
	}
	slices.Sort(want)
	slices.Sort(memberships)
	if diff := cmp.Diff(want, memberships, asSets); diff != "" {
		t.Errorf("%s: the memberships (-want +got):\n%s", when, diff)
	}
}
