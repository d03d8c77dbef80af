package rig

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/internal/store"
)

// fixture is a folder of sample payloads, and what they mean.
type fixture struct {
	set   []string // settings of the process that gets them, KEY=VALUE
	alias []string // ids that stand for each other in the samples: old, new, old, new, …
	steps []step
	rest  bool     // other files of the folder are events that nobody subscribed to
	want  []string // the registers after all of them, sorted
}

// step is one payload, and the accounts and grants afterwards; those of the step before when it names none.
type step struct {
	file    string
	then    []string
	ignored bool
}

var nobody = []string{} // no account, no grant

// fixtures are the folders of samples, told by hand from reading them and the rules of the fold. Where the samples of a
// folder share an id or a time, all but the first get one of their own, in the order of the steps.
var fixtures = map[string]fixture{
	// The samples speak of one directory under two ids. Eric is in no user event, so he has no account.
	"docs": {
		alias: []string{"directory_01EHWNC0FCBHZ3BJ7EGKYXK0E6", "directory_01ECAZ4NV9QMV47GW873HDCX74"},
		steps: []step{
			{file: "dsync.activated.json", then: nobody},
			{file: "dsync.user.created.json", then: []string{"account 8931 <lela.block@example.com>: active"}},
			{file: "dsync.user.updated.json"},
			{file: "dsync.group.created.json"},
			{file: "dsync.group.updated.json"},
			{file: "dsync.group.user_added.json"},
			{file: "dsync.group.user_removed.json"},
			{file: "dsync.group.deleted.json"},
			{file: "dsync.user.deleted.json", then: []string{"account 8931 <lela.block@example.com>: inactive"}},
			{file: "dsync.deleted.json"},
			{file: "data-syncing.dsync.user.updated.json", then: []string{"account 8931 <lela.block@example.com>: active"}}, // two years later
		},
		want: []string{
			`directory directory_01ECAZ4NV9QMV47GW873HDCX74 says "deleting": ended, held`,
			`group directory_group_01E1X5GPMMXF4T1DCERMVEEPVW "Developers": ended`,
			`membership of directory_user_01E1X56GH84T3FB41SD6PZGDBX in directory_group_01E1X5GPMMXF4T1DCERMVEEPVW: gone`,
			`user directory_user_01E1X1B89NH8Z3SDFJR4H7RGX7 says "active": active, account 8931`,
		},
	},
	// Every removal says `state: active`; it is a removal all the same. The directory that ends is not the people's.
	"gsuite": {
		steps: []step{
			{file: "dsync.activated.json", then: nobody},
			{file: "dsync.user.created.json", then: []string{"account 105777651754615852813 <michael.hadley@foo-corp.com>: active"}},
			{file: "dsync.group.created.json"},
			{file: "dsync.group.user_added.json", then: []string{
				"account 105777651754615852813 <michael.hadley@foo-corp.com>: active", `grant of "Account Management" to 105777651754615852813`,
			}},
			{file: "dsync.user.updated.json"},
			{file: "dsync.group.updated.json"},
			{file: "dsync.deleted.json"},
			{file: "dsync.user.deleted.json", then: []string{"account 105777651754615852813 <michael.hadley@foo-corp.com>: inactive"}},
			{file: "dsync.group.user_removed.json"},
			{file: "dsync.group.deleted.json"},
		},
		want: []string{
			`directory directory_01FMXJ1RRC9C7B4AR001TBBBHR says "linked": ended, held`,
			`group directory_group_01FM6VVN382N5NBJ310H2KMGZA "Account Management": ended`,
			`membership of directory_user_01FMV8XE3E2CJH7TRBKMSBH8QF in directory_group_01FM6VVN382N5NBJ310H2KMGZA: gone`,
			`user directory_user_01FMV8XE3E2CJH7TRBKMSBH8QF says "active": inactive, account 105777651754615852813`,
		},
	},
	"okta": {
		steps: []step{{file: "dsync.user.created.json", then: []string{"account 00u1e8mutl6wlH3lL4x7 <>: active"}}},
		want:  []string{`user directory_user_01FAEAJCR3ZBZ30D8BD1924TVG says "active": active, account 00u1e8mutl6wlH3lL4x7`},
	},
	// The oldest body has neither time nor idp_id: the time is in its id, and the account's key is the user's id.
	"legacy": {
		steps: []step{
			{file: "dsync.deactivated.json", ignored: true, then: nobody},
			{file: "gsuite.dsync.deactivated.json", ignored: true},
			{file: "python-unknown-event.kitten.created.json", ignored: true},
			{file: "dotnet.dsync.user.created.json", then: []string{"account id:directory_user_01E1X1B89NH8Z3SDFJR4H7RGX7 <veda@example.com>: active"}},
			{file: "node-events-spec.dsync.user.updated.role-change.json", then: []string{
				"account id:directory_user_01E1X1B89NH8Z3SDFJR4H7RGX7 <veda@example.com>: active", "account idp_foo <jonsnow@workos.com>: active",
			}},
		},
		want: []string{
			`user directory_user_01E1X1B89NH8Z3SDFJR4H7RGX7 says "active": active, account id:directory_user_01E1X1B89NH8Z3SDFJR4H7RGX7`,
			`user directory_user_456 says "active": active, account idp_foo`,
		},
	},
	// The whole catalogue of events; one directory under two ids again. Here the directory's end takes everybody's access.
	".": {
		set:   []string{"sources.workos.on_directory_deleted=deprovision"},
		alias: []string{"directory_01EHWNCE74X7JSDV0X3SZ3KJNY", "directory_01ECAZ4NV9QMV47GW873HDCX74"},
		rest:  true,
		steps: []step{
			{file: "dsync.activated.json", then: nobody},
			{file: "dsync.token.created.json", ignored: true},
			{file: "dsync.user.created.json", then: []string{"account 2836 <marcelina.davis@example.com>: active"}},
			{file: "dsync.user.updated.json"},
			{file: "dsync.group.created.json"},
			{file: "dsync.group.updated.json"},
			{file: "dsync.group.user_added.json", then: []string{"account 2836 <marcelina.davis@example.com>: active", `grant of "Developers" to 2836`}},
			{file: "dsync.token.revoked.json", ignored: true},
			{file: "dsync.deleted.json", then: []string{"account 2836 <marcelina.davis@example.com>: inactive"}},
			{file: "dsync.group.user_removed.json"},
			{file: "dsync.group.deleted.json"},
			{file: "dsync.user.deleted.json"},
		},
		want: []string{
			`directory directory_01ECAZ4NV9QMV47GW873HDCX74 says "active": ended`,
			`group directory_group_01E1JJS84MFPPQ3G655FHTKX6Z "Developers": ended`,
			`membership of directory_user_01E1JG7J09H96KYP8HM9B0G5SJ in directory_group_01E1JJS84MFPPQ3G655FHTKX6Z: gone`,
			`user directory_user_01E1JG7J09H96KYP8HM9B0G5SJ says "active": inactive, account 2836`,
		},
	},
}

// own are the project's own samples. The last user is an older one under the same idp_id: it inherits nothing.
var own = fixture{
	steps: []step{
		{file: "current.user.created.json", then: []string{"account 104 <grace@example.com>: active"}},
		{file: "current.group.user_added.json", then: []string{"account 104 <grace@example.com>: active", `grant of "Crew" to 104`}},
		{file: "unknown.json", ignored: true},
		{file: "current.user.deactivated.json", then: []string{"account 104 <grace@example.com>: inactive"}},
		{file: "current.directory.deleted.json"},
		{file: "old.user.created.json"},
	},
	want: []string{
		`directory directory_01K1FYZ0000000000000000DIR says "deleting": ended, held`,
		`group directory_group_01K1FZ000000000000000CREW "Crew": only mentioned`,
		`membership of directory_user_01K1FZ0000000000000GRACE in directory_group_01K1FZ000000000000000CREW: present`,
		`user directory_user_01FZ1X1B89NH8Z3SDFJR4H7RGX says "active": active, account 104`,
		`user directory_user_01K1FZ0000000000000GRACE says "inactive": inactive, account 104`,
	},
}

// SiteMaker makes a site with these further settings.
type SiteMaker func(t *testing.T, set ...string) *Site

// Fixtures posts sample payloads, signed, to running processes, a site for each folder, and checks what becomes of them:
// in the order of their times after every one, and backwards at the end. The project's own samples always; and those in
// the folder that ROLLCALL_FIXTURES names, with its scenarios.
func Fixtures(t *testing.T, site SiteMaker) {
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	folders := map[string]fixture{filepath.Join(root, "internal/provider/workos/testdata"): own}
	if dir := os.Getenv("ROLLCALL_FIXTURES"); dir != "" {
		for name, f := range fixtures {
			folders[filepath.Join(dir, "workos", name)] = f
		}
		scenarios(t, site, filepath.Join(dir, "workos", "scenarios"))
	}
	for dir, f := range folders {
		for name, backwards := range map[string]bool{"in order": false, "backwards": true} {
			t.Run(filepath.Base(dir)+" "+name, func(t *testing.T) {
				t.Parallel()
				f.run(t, site(t, f.set...), dir, backwards)
			})
		}
	}
}

// run posts the folder's samples.
func (f fixture) run(t *testing.T, site *Site, dir string, backwards bool) {
	t.Helper()
	p := site.Serve(t, "receiver,worker")
	steps := f.all(t, dir)
	samples := f.samples(t, dir, steps)
	order := make([]int, len(steps))
	for i := range order {
		order[i] = i
	}
	if backwards {
		slices.Reverse(order)
	}
	then := nobody
	for _, i := range order {
		site.mustTake(t, p, samples[i].body)
		site.Settle(t)
		if steps[i].then != nil {
			then = steps[i].then
		}
		if _, access := site.State(t); !backwards && cmp.Diff(then, access, asSets) != "" {
			t.Errorf("after %s (-want +got):\n%s", steps[i].file, cmp.Diff(then, access, asSets))
		}
	}
	registers, access := site.State(t)
	if diff := cmp.Diff(f.want, registers); diff != "" {
		t.Errorf("the registers in the end (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(f.last(), access, asSets); diff != "" {
		t.Errorf("the accounts and grants in the end (-want +got):\n%s", diff)
	}
	for i, s := range steps {
		site.mustHave(t, samples[i].id, s)
	}
}

// asSets takes a list without lines for another one.
var asSets = cmp.Transformer("lines", func(lines []string) string { return strings.Join(lines, "\n") })

// last is what the last step that says something says.
func (f fixture) last() (then []string) {
	for _, s := range f.steps {
		if s.then != nil {
			then = s.then
		}
	}
	return then
}

// all returns the steps, and one for every other file of a folder whose rest is ignored. A sample without a step fails.
func (f fixture) all(t *testing.T, dir string) []step {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no samples in %s: %v", dir, err)
	}
	steps := slices.Clone(f.steps)
	for _, path := range files {
		file := filepath.Base(path)
		known := slices.ContainsFunc(f.steps, func(s step) bool { return s.file == file })
		switch {
		case known, file == "signature-vectors.json":
		case f.rest && !strings.HasPrefix(file, "dsync."):
			steps = append(steps, step{file: file, ignored: true})
		default:
			t.Errorf("nothing is said of what %s means", path)
		}
	}
	return steps
}

// sample is a payload as it is sent.
type sample struct {
	id   string
	body []byte
}

// samples reads the payloads and tells apart those that share an id or a time.
func (f fixture) samples(t *testing.T, dir string, steps []step) []sample {
	t.Helper()
	out := make([]sample, len(steps))
	ids, times := map[string]bool{}, map[string]bool{}
	for i, s := range steps {
		text, err := os.ReadFile(filepath.Join(dir, s.file))
		if err != nil {
			t.Fatal(err)
		}
		var envelope map[string]json.RawMessage
		if err := json.Unmarshal([]byte(strings.NewReplacer(f.alias...).Replace(string(text))), &envelope); err != nil {
			t.Fatalf("%s: %v", s.file, err)
		}
		out[i].id = textOf(t, envelope["id"])
		if ids[out[i].id] {
			out[i].id = fmt.Sprintf("%s_%d", out[i].id, i)
			envelope["id"] = jsonOf(t, out[i].id)
		}
		if at, there := envelope["created_at"]; there {
			if times[string(at)] {
				envelope["created_at"] = jsonOf(t, later(t, textOf(t, at), i))
			}
			times[string(at)] = true
		}
		ids[out[i].id] = true
		out[i].body = jsonOf(t, envelope)
	}
	return out
}

func textOf(t *testing.T, raw json.RawMessage) (s string) {
	t.Helper()
	if err := json.Unmarshal(raw, &s); err != nil {
		t.Fatalf("%s is no text: %v", raw, err)
	}
	return s
}

func jsonOf(t *testing.T, v any) json.RawMessage {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func later(t *testing.T, stamp string, seconds int) string {
	t.Helper()
	at, err := time.Parse(time.RFC3339, stamp)
	if err != nil {
		t.Fatal(err)
	}
	return at.Add(time.Duration(seconds) * time.Second).Format("2006-01-02T15:04:05.000Z")
}

// mustTake posts a body until the process takes it, which it does at once but for the moment of its start.
func (s *Site) mustTake(t *testing.T, p *Process, body []byte) {
	t.Helper()
	Until(t, "a delivery is taken", func() bool {
		a := s.Post(t, p.URL(), body)
		if a.Status != http.StatusOK && a.Status != http.StatusServiceUnavailable {
			t.Fatalf("%s is answered %d %s, want 200", body, a.Status, a.Body)
		}
		return a.Status == http.StatusOK
	})
}

// mustHave checks the ledger's line of a sample.
func (s *Site) mustHave(t *testing.T, id string, of step) {
	t.Helper()
	entry, err := s.Store.Event(t.Context(), "workos", id)
	if err != nil {
		t.Errorf("%s: %v", of.file, err)
		return
	}
	if ignored := entry.Outcome == store.Ignored; ignored != of.ignored || entry.Outcome == store.Parked {
		t.Errorf("%s was %s (%s), want ignored %t", of.file, entry.Outcome, entry.Reason, of.ignored)
	}
}
