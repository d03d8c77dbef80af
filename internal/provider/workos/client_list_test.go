package workos_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/provider"
)

// Every listing would differ from every webhook otherwise.
func TestAPersonAndAGroupAreTheSameInAListingAndInAnEvent(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		file, event string
		list        func(ctx context.Context, s *sim, page func(context.Context, provider.ListedPage) error) error
	}{
		"users": {"users.json", "dsync.user.updated", func(ctx context.Context, s *sim, page func(context.Context, provider.ListedPage) error) error {
			return s.Users(ctx, directoryID, page)
		}},
		"members": {"users.json", "dsync.user.updated", func(ctx context.Context, s *sim, page func(context.Context, provider.ListedPage) error) error {
			return s.Members(ctx, groupID, page)
		}},
		"groups": {"groups.json", "dsync.group.updated", func(ctx context.Context, s *sim, page func(context.Context, provider.ListedPage) error) error {
			return s.Groups(ctx, directoryID, page)
		}},
		"groups of a user": {"groups.json", "dsync.group.updated", func(ctx context.Context, s *sim, page func(context.Context, provider.ListedPage) error) error {
			return s.GroupsOf(ctx, userID, page)
		}},
	} {
		body := file(t, c.file)
		var objects struct{ Data []json.RawMessage }
		if err := json.Unmarshal([]byte(body), &objects); err != nil {
			t.Fatal(err)
		}
		var want []provider.Listed
		for _, o := range objects.Data {
			e := decode(t, fmt.Sprintf(`{"id":"event_01K1FZ5Q7Y0000000000000001","event":%q,"data":%s}`, c.event, o)).Event
			listed := provider.Listed{Directory: e.Directory, Organization: e.Organization, User: e.User, Group: e.Group, Updated: e.Updated}
			if e.User != nil {
				listed.Created = e.User.Created
			}
			want = append(want, listed)
		}
		simulate(t, says(200, body, "Date: Fri, 31 Jul 2026 10:00:00 GMT"), func(t *testing.T, s *sim) {
			var got []provider.Listed
			err := c.list(t.Context(), s, func(_ context.Context, p provider.ListedPage) error {
				got = append(got, p.Items...)
				if !p.Date.Equal(time.Date(2026, 7, 31, 10, 0, 0, 0, time.UTC)) {
					t.Errorf("%s: Date = %s, want that of the header", name, p.Date)
				}
				return nil
			})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			for i := range got {
				if got[i].Group != nil {
					got[i].Created = time.Time{} // which an event does not keep
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: in events (-), listed (+):\n%s", name, diff)
			}
		})
	}
}

func TestOneUserIsReadAsAListedOne(t *testing.T) {
	t.Parallel()
	simulate(t, says(200, "{"+person+`,"groups":[]}`), func(t *testing.T, s *sim) {
		got, err := s.User(t.Context(), userID)
		want := decode(t, payload("dsync.user.created", person)).Event
		if err != nil || got.Directory != directoryID || got.Organization != "org_1" || got.Group != nil || !got.Updated.Equal(want.Updated) {
			t.Errorf("User() = %+v, %v", got, err)
		}
		if diff := cmp.Diff(want.User, got.User); diff != "" {
			t.Errorf("in an event (-), read (+):\n%s", diff)
		}
		if _, err := s.User(t.Context(), "directory_user_2"); !errors.Is(err, provider.ErrAnswer) {
			t.Errorf("another user's answer: User() = %v, want ErrAnswer", err)
		}
	})
}

func TestDirectoriesAreListedInTheWordsOfEvents(t *testing.T) {
	t.Parallel()
	created, updated := time.Date(2026, 7, 30, 9, 0, 0, 0, time.UTC), time.Date(2026, 7, 31, 9, 59, 59, 0, time.UTC)
	date := time.Date(2026, 7, 31, 10, 0, 0, 0, time.UTC)
	want := []provider.ListedDirectory{
		{
			ID: directoryID, Organization: "org_01K1FYZ00000000000000000ORG", Connection: directory.Connection{Name: "Acme", Type: "gsuite directory", State: "active"},
			Created: created, Updated: updated, Counted: true, Active: 2, Inactive: 1, Groups: 2, Date: date,
		},
		{ID: "directory_01K1FYZ0000000000000000NEW", Connection: directory.Connection{Name: "Initech", Type: "a directory nobody knew", State: "inactive"}, Created: created, Updated: updated, Date: date},
		{ID: "directory_01K1FYZ0000000000000000BAD", Connection: directory.Connection{Name: "Umbrella", Type: "okta scim v2.0", State: "invalid_credentials"}, Created: created, Updated: updated, Date: date},
	}
	var objects struct{ Data []json.RawMessage }
	if err := json.Unmarshal([]byte(file(t, "directories.json")), &objects); err != nil {
		t.Fatal(err)
	}
	simulate(t, func(w http.ResponseWriter, r *http.Request) {
		body := file(t, "directories.json")
		if r.URL.Path != "/directories" {
			body = string(objects.Data[0])
		}
		says(200, body, "Date: Fri, 31 Jul 2026 10:00:00 GMT")(w, r)
	}, func(t *testing.T, s *sim) {
		var got []provider.ListedDirectory
		err := s.Directories(t.Context(), func(_ context.Context, d []provider.ListedDirectory) error {
			got = append(got, d...)
			return nil
		})
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("Directories() = %v, want (-), got (+):\n%s", err, diff)
		}
		one, err := s.Directory(t.Context(), directoryID)
		if diff := cmp.Diff(want[0], one); err != nil || diff != "" {
			t.Errorf("Directory() = %v, want (-), got (+):\n%s", err, diff)
		}
		if _, err := s.Directory(t.Context(), "directory_2"); !errors.Is(err, provider.ErrAnswer) {
			t.Errorf("another directory's answer: Directory() = %v, want ErrAnswer", err)
		}
	})
}

func TestAListingGoesOnUntilItIsToldToItsEnd(t *testing.T) {
	t.Parallel()
	simulate(t, inTurn(says(200, list(`"c1"`, ofDirectory("u1"), ofDirectory("u2"))), says(200, list(`"c2"`, ofDirectory("u3"))), says(200, list("null"))), func(t *testing.T, s *sim) {
		ids, err := s.everyUser()
		if want := []string{"u1", "u2", "u3"}; err != nil || !slices.Equal(ids, want) {
			t.Errorf("Users() = %v, %v, want %v", ids, err, want)
		}
		var cursors []string
		for _, r := range s.requests() {
			cursors = append(cursors, r.URL.Query().Get("after"))
		}
		if want := []string{"", "c1", "c2"}; !slices.Equal(cursors, want) {
			t.Errorf("asked behind %q, want %q", cursors, want)
		}
	})
	simulate(t, says(200, list("null")), func(t *testing.T, s *sim) {
		pages := 0
		err := s.Groups(t.Context(), directoryID, func(context.Context, provider.ListedPage) error { pages++; return nil })
		if err != nil || pages != 1 {
			t.Errorf("of nothing: Groups() = %v with %d pages, want one, which has the time", err, pages)
		}
	})
}

func TestAListingThatIsNotWholeIsNeverTakenForOne(t *testing.T) {
	t.Parallel()
	u1, u2 := ofDirectory("u1"), ofDirectory("u2")
	broken := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "5000")
		_, _ = w.Write([]byte(list("null", u2)))
		panic(http.ErrAbortHandler)
	}
	for name, c := range map[string]struct {
		second http.HandlerFunc
		target error
	}{
		"empty, and then the end":    {inTurn(says(200, list(`"c2"`)), says(200, list("null"))), provider.ErrCutShort},
		"the same cursor again":      {says(200, list(`"c1"`, u2)), provider.ErrCutShort},
		"empty, and more":            {says(200, list(`"c2"`)), provider.ErrCutShort},
		"no word on what follows":    {says(200, `{"data":[`+u2+`]}`), provider.ErrCutShort},
		"metadata without the word":  {says(200, `{"data":[`+u2+`],"list_metadata":{"before":null}}`), provider.ErrCutShort},
		"metadata that is null":      {says(200, `{"data":[`+u2+`],"list_metadata":null}`), provider.ErrCutShort},
		"an empty cursor":            {says(200, list(`""`, u2)), provider.ErrAnswer},
		"a cursor that is no text":   {says(200, list(`{}`, u2)), provider.ErrAnswer},
		"null data":                  {says(200, `{"data":null,"list_metadata":{"after":null}}`), provider.ErrAnswer},
		"an item that is null":       {says(200, list("null", u2, "null")), provider.ErrAnswer},
		"an item that is a text":     {says(200, list("null", `"u2"`)), provider.ErrAnswer},
		"an item without an id":      {says(200, list("null", `{"directory_id":"`+directoryID+`","state":"active"}`)), provider.ErrAnswer},
		"an id that is a number":     {says(200, list("null", strings.Replace(u2, `"u2"`, "2", 1))), provider.ErrAnswer},
		"an id that is too long":     {says(200, list("null", ofDirectory(strings.Repeat("x", 256)))), provider.ErrAnswer},
		"of another directory":       {says(200, list("null", u2, strings.Replace(u2, directoryID, "directory_2", 1))), provider.ErrAnswer},
		"an error in the middle":     {says(422, `{"message":"Validation failed"}`), nil},
		"a directory that went away": {says(404, `{"message":"Not Found"}`), provider.ErrNotListed},
		"a connection that breaks":   {broken, nil},
	} {
		simulate(t, inTurn(says(200, list(`"c1"`, u1)), c.second), func(t *testing.T, s *sim) {
			ids, err := s.everyUser()
			if err == nil || c.target != nil && !errors.Is(err, c.target) || !slices.Equal(ids[:1], []string{"u1"}) {
				t.Errorf("%s: Users() = %v, %v, want the first page, then %v", name, ids, err, c.target)
			}
			if len(ids) > 1 && ids[1] != "u2" {
				t.Errorf("%s: it lists %q", name, ids)
			}
		})
	}
}

func TestPagesThatGoRoundInACircleEnd(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ before, around int }{{0, 1}, {0, 2}, {0, 7}, {5, 3}, {40, 11}} {
		next := func(r *http.Request) int {
			var n int
			_, _ = fmt.Sscanf(r.URL.Query().Get("after"), "c%d", &n)
			if n++; n > c.before+c.around {
				n = c.before + 1
			}
			return n
		}
		simulate(t, func(w http.ResponseWriter, r *http.Request) {
			says(200, list(fmt.Sprintf(`"c%d"`, next(r)), ofDirectory("u")))(w, r)
		}, func(t *testing.T, s *sim) {
			_, err := s.everyUser()
			if n := len(s.requests()); !errors.Is(err, provider.ErrCutShort) || n > 5*(c.before+c.around)+5 {
				t.Errorf("%+v: Users() = %v after %d requests", c, err, n)
			}
		})
	}
}

func TestMembersAreOfOneDirectoryOrDoNotSayIt(t *testing.T) {
	t.Parallel()
	silent := `{"id":"u0","state":"active"}`
	simulate(t, says(200, list("null", silent, ofDirectory("u1"), silent)), func(t *testing.T, s *sim) {
		var got []string
		err := s.Members(t.Context(), groupID, func(_ context.Context, p provider.ListedPage) error {
			for _, m := range p.Items {
				got = append(got, m.Directory)
			}
			return nil
		})
		if want := []string{"", directoryID, ""}; err != nil || !slices.Equal(got, want) {
			t.Errorf("Members() = %v, of the directories %q, want %q", err, got, want)
		}
		var first string
		err = s.Users(t.Context(), directoryID, func(_ context.Context, p provider.ListedPage) error {
			first = p.Items[0].Directory
			return nil
		})
		if err != nil || first != directoryID {
			t.Errorf("Users() = %v, the first of %q, want the directory that was asked for", err, first)
		}
	})
	simulate(t, inTurn(says(200, list(`"c1"`, ofDirectory("u1"))), says(200, list("null", strings.ReplaceAll(ofDirectory("u2"), directoryID, "directory_2")))), func(t *testing.T, s *sim) {
		err := s.Members(t.Context(), groupID, func(context.Context, provider.ListedPage) error { return nil })
		if !errors.Is(err, provider.ErrAnswer) || !strings.Contains(err.Error(), "u2 is of the directory directory_2") {
			t.Errorf("members of two directories: Members() = %v, want ErrAnswer", err)
		}
	})
}

func TestTheCallersErrorEndsAListingAtOnce(t *testing.T) {
	t.Parallel()
	enough := errors.New("enough")
	simulate(t, says(200, list(`"c1"`, ofDirectory("u1"))), func(t *testing.T, s *sim) {
		err := s.Users(t.Context(), directoryID, func(context.Context, provider.ListedPage) error { return enough })
		if err != enough || len(s.requests()) != 1 { //nolint:errorlint // as it is, says the contract
			t.Errorf("Users() = %v after %d requests, want the function's error after one", err, len(s.requests()))
		}
	})
}

func TestAnIDThatIsNoneIsNotAskedFor(t *testing.T) {
	t.Parallel()
	simulate(t, says(200, list("null")), func(t *testing.T, s *sim) {
		none := func(context.Context, provider.ListedPage) error { return nil }
		_, ofDirectory := s.Directory(t.Context(), "")
		_, ofUser := s.User(t.Context(), "..")
		for name, err := range map[string]error{
			"a directory": ofDirectory, "a user": ofUser, "users": s.Users(t.Context(), "", none), "groups": s.Groups(t.Context(), "", none),
			"members": s.Members(t.Context(), "", none), "groups of a user": s.GroupsOf(t.Context(), "", none),
		} {
			if !errors.Is(err, provider.ErrNotListed) {
				t.Errorf("%s: %v, want ErrNotListed", name, err)
			}
		}
		if n := len(s.requests()); n > 0 {
			t.Errorf("%d requests were sent", n)
		}
	})
}
