package workos_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/provider"
	"github.com/rollcallhq/rollcall/internal/provider/workos"
)

var options = provider.Options{Source: "workos", Attributes: []string{"role", "roles", "custom_attributes.department", "custom_attributes.floor"}}

func decode(t testing.TB, body string) provider.Statement {
	t.Helper()
	statements, err := workos.Provider().Decode([]byte(body), options)
	if err != nil || len(statements) != 1 {
		t.Fatalf("Decode(%s) = %v, %v, want one statement", body, statements, err)
	}
	return statements[0]
}

const (
	directoryID = "directory_01K1FYZ0000000000000000DIR"
	userID      = "directory_user_01K1FZ00000000000000000ADA"
	groupID     = "directory_group_01K1FZ0000000000000000ENG"
	person      = `"object":"directory_user","id":"` + userID + `","directory_id":"` + directoryID + `","organization_id":"org_1","idp_id":"118","email":"ada@example.com",
		"first_name":"Ada","last_name":"Lovelace","state":"active","raw_attributes":{},"custom_attributes":{"department":"Engines","floor":3,"salary":"secret"},
		"role":{"slug":"admin"},"roles":[{"slug":"member"},{"slug":"admin"}],"created_at":"2026-07-30T09:00:00.000Z","updated_at":"2026-07-31T09:59:59.000Z"`
	team = `"object":"directory_group","id":"` + groupID + `","directory_id":"` + directoryID + `","organization_id":"org_1","idp_id":"grp-eng","name":"Engineering",
		"created_at":"2026-07-30T09:00:00.000Z","updated_at":"2026-07-31T09:59:59.000Z"`
	connection = `"object":"directory","id":"` + directoryID + `","organization_id":"org_1","type":"gsuite directory","state":"active","name":"Acme",
		"created_at":"2026-07-30T09:00:00.000Z","updated_at":"2026-07-31T09:59:59.000Z"`
	edge = `"directory_id":"` + directoryID + `","user":{` + person + `},"group":{` + team + `}`
)

func payload(event, data string) string {
	return fmt.Sprintf(`{"object":"event","id":"event_01K1FZ5Q7Y0000000000000001","event":%q,"data":{%s},"created_at":"2026-07-31T10:00:00.123Z","context":{}}`, event, data)
}

func TestTheTenEventsMeanWhatTheySay(t *testing.T) {
	t.Parallel()
	at := func(s string) time.Time { v, _ := time.Parse(time.RFC3339Nano, s); return v }
	base := directory.Event{
		Source: "workos", ID: "event_01K1FZ5Q7Y0000000000000001", Directory: directoryID, Organization: "org_1",
		Occurred: at("2026-07-31T10:00:00.123Z"), Updated: at("2026-07-31T09:59:59Z"),
	}
	ada := directory.Person{
		ID: userID, IDPID: "118", State: "active", Created: at("2026-07-30T09:00:00Z"),
		Profile: directory.Profile{
			Email: "ada@example.com", FirstName: "Ada", LastName: "Lovelace",
			Attributes: map[string]string{"role": "admin", "roles": "admin,member", "custom_attributes.department": "Engines", "custom_attributes.floor": "3"},
		},
	}
	for _, c := range []struct {
		event, data string
		removes     bool
		want        func(e *directory.Event)
	}{
		{"dsync.activated", connection, false, func(e *directory.Event) {
			e.Subject, e.Connection = directory.SubjectDirectory, &directory.Connection{Name: "Acme", Type: "gsuite directory", State: "active"}
		}},
		{"dsync.deleted", connection, true, func(e *directory.Event) {
			e.Subject, e.Connection = directory.SubjectDirectory, &directory.Connection{Name: "Acme", Type: "gsuite directory", State: "active"}
		}},
		{"dsync.user.created", person, false, func(e *directory.Event) { e.Subject, e.User = directory.SubjectUser, &ada }},
		{"dsync.user.updated", person, false, func(e *directory.Event) { e.Subject, e.User = directory.SubjectUser, &ada }},
		{"dsync.user.deleted", person, true, func(e *directory.Event) { e.Subject, e.User = directory.SubjectUser, &ada }},
		{"dsync.group.created", team, false, func(e *directory.Event) {
			e.Subject, e.Group = directory.SubjectGroup, &directory.Team{ID: groupID, IDPID: "grp-eng", Name: "Engineering"}
		}},
		{"dsync.group.updated", team, false, func(e *directory.Event) {
			e.Subject, e.Group = directory.SubjectGroup, &directory.Team{ID: groupID, IDPID: "grp-eng", Name: "Engineering"}
		}},
		{"dsync.group.deleted", team, true, func(e *directory.Event) {
			e.Subject, e.Group = directory.SubjectGroup, &directory.Team{ID: groupID, IDPID: "grp-eng", Name: "Engineering"}
		}},
		{"dsync.group.user_added", edge, false, func(e *directory.Event) {
			e.Updated, e.Subject = time.Time{}, directory.SubjectMembership
			e.Membership = &directory.Membership{Group: groupID, User: userID, GroupName: "Engineering"}
		}},
		{"dsync.group.user_removed", edge, true, func(e *directory.Event) {
			e.Updated, e.Subject = time.Time{}, directory.SubjectMembership
			e.Membership = &directory.Membership{Group: groupID, User: userID, GroupName: "Engineering"}
		}},
	} {
		want := base
		want.Type, want.Removes = c.event, c.removes
		c.want(&want)
		if diff := cmp.Diff(&want, decode(t, payload(c.event, c.data)).Event); diff != "" {
			t.Errorf("%s: want (-), got (+):\n%s", c.event, diff)
		}
	}
}

func TestOnlyTheStateActiveIsNoRemoval(t *testing.T) {
	t.Parallel()
	for state, removes := range map[string]bool{`"active"`: false, `"inactive"`: true, `"suspended"`: true, `"Active"`: true, `"brand new"`: true, `null`: true, `7`: true} {
		s := decode(t, payload("dsync.user.updated", strings.Replace(person, `"state":"active"`, `"state":`+state, 1)))
		if s.Event.Removes != removes {
			t.Errorf("state %s: Removes = %t, want %t", state, s.Event.Removes, removes)
		}
	}
}

func TestTimeFallsBackToUpdatedAtThenToTheID(t *testing.T) {
	t.Parallel()
	whole := payload("dsync.user.created", person)
	without := strings.Replace(whole, `"created_at":"2026-07-31T10:00:00.123Z"`, `"created_at":null`, 1)
	if got := decode(t, without).Event.Occurred; !got.Equal(time.Date(2026, 7, 31, 9, 59, 59, 0, time.UTC)) {
		t.Errorf("without created_at: Occurred = %s, want updated_at", got)
	}
	neither := strings.Replace(without, `"updated_at":"2026-07-31T09:59:59.000Z"`, `"updated_at":"yesterday"`, 1)
	ulid, _ := directory.ULIDTime("event_01K1FZ5Q7Y0000000000000001")
	if got := decode(t, neither).Event.Occurred; ulid.IsZero() || !got.Equal(ulid) {
		t.Errorf("without any time: Occurred = %s, want the id's %s", got, ulid)
	}
	timeless := strings.Replace(neither, "event_01K1FZ5Q7Y0000000000000001", "event_1", 1)
	if _, err := workos.Provider().Decode([]byte(timeless), options); !errors.Is(err, directory.ErrInvalid) {
		t.Errorf("without any time at all: Decode() = %v, want ErrInvalid", err)
	}
}

func TestTimesAreReadInEveryFormEverSent(t *testing.T) {
	t.Parallel()
	want := time.Date(2026, 7, 31, 10, 0, 0, 0, time.UTC)
	for _, form := range []string{
		"2026-07-31T10:00:00Z", "2026-07-31T10:00:00.000Z", "2026-07-31 10:00:00.000", "2026-07-31 10:00:00.000000", "2026-07-31T10:00:00+0000",
		"2026-07-31T12:00:00+02:00", "2026-07-31T10:00:00",
	} {
		if got := decode(t, strings.Replace(payload("dsync.user.created", person), "2026-07-31T10:00:00.123Z", form, 1)).Event.Occurred; !got.Equal(want) {
			t.Errorf("%q: Occurred = %s, want %s", form, got, want)
		}
	}
}

func TestOddShapesOfOptionalFieldsCostNothing(t *testing.T) {
	t.Parallel()
	for _, odd := range []string{`null`, `"text"`, `7`, `[]`, `{}`, `[null]`, `[7]`, `{"slug":7}`, `[{"slug":null}]`, `true`} {
		data := person
		for _, field := range []string{`"role":{"slug":"admin"}`, `"roles":[{"slug":"member"},{"slug":"admin"}]`, `"raw_attributes":{}`} {
			name, _, _ := strings.Cut(field, ":")
			data = strings.Replace(data, field, name+":"+odd, 1)
		}
		data += `,"emails":` + odd + `,"previous_attributes":` + odd
		if got := decode(t, payload("dsync.user.updated", data)).Event.User.Email; got != "ada@example.com" {
			t.Errorf("odd %s: Email = %q", odd, got)
		}
	}
}

func TestAddressComesFromTheOlderListToo(t *testing.T) {
	t.Parallel()
	data := strings.Replace(person, `"email":"ada@example.com"`, `"emails":[{"value":"b@example.com"},{"value":"a@example.com","primary":true}]`, 1)
	if got := decode(t, payload("dsync.user.created", data)).Event.User.Email; got != "a@example.com" {
		t.Errorf("Email = %q, want the primary one", got)
	}
}

func TestNothingIsKeptThatTheAllowListDoesNotName(t *testing.T) {
	t.Parallel()
	statements, err := workos.Provider().Decode([]byte(payload("dsync.user.created", person)), provider.Options{Source: "workos"})
	if err != nil || statements[0].Event.User.Attributes != nil {
		t.Errorf("Decode() = %+v, %v, want no attributes", statements[0].Event.User, err)
	}
	if got := decode(t, payload("dsync.user.created", person)).Event.User.Attributes; strings.Contains(fmt.Sprint(maps.Keys(got), got), "secret") {
		t.Errorf("Attributes = %v, which holds what is not on the list", got)
	}
}

func TestWhatIsNoEventOfADirectoryIsIgnored(t *testing.T) {
	t.Parallel()
	for _, event := range []string{"kitten.created", "dsync.deactivated", "dsync.token.created", "connection.activated", "group.member_added", ""} {
		s := decode(t, payload(event, connection))
		if s.Event != nil || s.Ignored == "" || s.ID == "" {
			t.Errorf("%s: %+v, want it ignored with a reason", event, s)
		}
	}
}

func TestBodiesThatAreNoEventAreInvalid(t *testing.T) {
	t.Parallel()
	valid := payload("dsync.user.created", person)
	for name, body := range map[string]string{
		"empty": "", "null": "null", "a list": "[" + valid + "]", "a text": `"x"`, "cut": valid[:len(valid)-1], "more behind": valid + "{}",
		"a byte order mark": "\xef\xbb\xbf" + valid, "not UTF-8": strings.Replace(valid, "Ada", "A\xff", 1), "no id": strings.Replace(valid, `"id":"event_`, `"ie":"event_`, 1),
		"id of another type": strings.Replace(valid, `"id":"event_01K1FZ5Q7Y0000000000000001"`, `"id":7`, 1), "id with a space": strings.Replace(valid, `"event_`, `"event `, 1),
		"no user id": strings.Replace(valid, userID, "", 1),
		"no data":    `{"id":"event_1","event":"dsync.user.created","created_at":"2026-07-31T10:00:00Z"}`,
		"deep":       strings.Repeat(`{"data":`, 20_000) + "1" + strings.Repeat("}", 20_000),
	} {
		if s, err := workos.Provider().Decode([]byte(body), options); !errors.Is(err, directory.ErrInvalid) {
			t.Errorf("%s: Decode() = %+v, %v, want ErrInvalid", name, s, err)
		} else if strings.Contains(err.Error(), "Ada") {
			t.Errorf("%s: the error %q tells the content", name, err)
		}
	}
}

// samples are the payloads in testdata and, where the folder is given, the published ones.
func samples(t testing.TB) map[string][]byte {
	out := map[string][]byte{}
	roots := []string{"testdata"}
	if dir := os.Getenv("ROLLCALL_FIXTURES"); dir != "" {
		roots = append(roots, filepath.Join(dir, "workos"))
	}
	for _, root := range roots {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() && (d.Name() == "api" || d.Name() == "scenarios" || d.Name() == "fuzz") {
				return fs.SkipDir
			}
			if filepath.Ext(path) != ".json" || d.Name() == "signature-vectors.json" {
				return nil
			}
			body, err := os.ReadFile(path)
			out[path] = body
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func TestSamplesDecode(t *testing.T) {
	t.Parallel()
	decoded := 0
	for path, body := range samples(t) {
		var e struct{ Event string }
		if err := json.Unmarshal(body, &e); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		s := decode(t, string(body))
		wanted := strings.HasPrefix(e.Event, "dsync.") && e.Event != "dsync.deactivated" && !strings.HasPrefix(e.Event, "dsync.token.") && e.Event != "dsync.robot.created"
		if (s.Event != nil) != wanted || s.Type != e.Event {
			t.Errorf("%s: %+v, want an event: %t", path, s, wanted)
		}
		if s.Event != nil {
			decoded++
		}
	}
	if decoded < 4 {
		t.Fatalf("%d samples held an event: the test shows nothing", decoded)
	}
}

func FuzzDecode(f *testing.F) {
	for _, body := range samples(f) {
		f.Add(body)
	}
	f.Add([]byte(payload("dsync.group.user_added", edge)))
	f.Fuzz(func(t *testing.T, body []byte) {
		p := workos.Provider()
		id, idErr := p.Identify(body)
		statements, err := p.Decode(body, options)
		if err != nil && !errors.Is(err, directory.ErrInvalid) {
			t.Fatalf("Decode() = %v, which is not ErrInvalid", err)
		}
		if idErr != nil && !errors.Is(idErr, directory.ErrInvalid) {
			t.Fatalf("Identify() = %v, which is not ErrInvalid", idErr)
		}
		if idErr != nil && err == nil {
			t.Fatalf("Decode() takes what Identify() refuses: %v", idErr)
		}
		again, errAgain := p.Decode(body, options)
		if diff := cmp.Diff(statements, again); diff != "" || fmt.Sprint(err) != fmt.Sprint(errAgain) {
			t.Fatalf("Decode() says another thing the second time: %v, then %v:\n%s", err, errAgain, diff)
		}
		for _, s := range statements {
			if s.Identity != id {
				t.Fatalf("Decode() says %+v, Identify() %+v", s.Identity, id)
			}
			if s.Event == nil {
				continue
			}
			if err := s.Event.Validate(); err != nil {
				t.Fatalf("Decode() gave an invalid event: %v", err)
			}
			if s.Event.Directory != id.Directory || s.Event.ID != id.ID {
				t.Fatalf("the event is %s of %s, the delivery %+v", s.Event.ID, s.Event.Directory, id)
			}
		}
	})
}

func BenchmarkIdentify(b *testing.B) {
	body := []byte(payload("dsync.group.user_added", edge))
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := workos.Provider().Identify(body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	body := []byte(payload("dsync.user.updated", person))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := workos.Provider().Decode(body, options); err != nil {
			b.Fatal(err)
		}
	}
}

// Whoever may edit their own profile must not be able to keep their removal from being folded.
func TestNothingInAProfileKeepsARemovalFromBeingDecoded(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", 3000)
	for what, field := range map[string]string{
		"a NUL in the name":      `"first_name":"A\u0000da"`,
		"a long name":            `"last_name":"` + long + `"`,
		"a long address":         `"email":"` + long + `@example.com"`,
		"a long attribute":       `"custom_attributes":{"bio":"` + long + `"}`,
		"a NUL in an attribute":  `"custom_attributes":{"bio":"\u0000"}`,
		"a name of another type": `"name":{"first":["Ada"]}`,
	} {
		body := `{"id":"event_1","event":"dsync.user.deleted","created_at":"2026-07-31T10:00:00Z",
			"data":{"id":"directory_user_1","directory_id":"directory_1","idp_id":"1","state":"inactive",` + field + `}}`
		got, err := workos.Provider().Decode([]byte(body), provider.Options{Source: "workos", Attributes: []string{"custom_attributes.bio"}})
		if err != nil || len(got) != 1 || got[0].Event == nil || !got[0].Event.Removes {
			t.Errorf("%s: Decode() = %+v, %v, want the removal", what, got, err)
		}
	}
}
