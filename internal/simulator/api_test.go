package simulator_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/internal/simulator"
)

const apiKey = "sk_test_of_the_simulator"

// allTypes are the events of a directory.
const allTypes = "dsync.activated,dsync.deleted,dsync.user.created,dsync.user.updated,dsync.user.deleted," +
	"dsync.group.created,dsync.group.updated,dsync.group.deleted,dsync.group.user_added,dsync.group.user_removed"

// reply is what an API answered.
type reply struct {
	status int
	header http.Header
	body   string

	Data         []listed `json:"data"`
	ListMetadata struct {
		Before *string `json:"before"`
		After  *string `json:"after"`
	} `json:"list_metadata"`
	Metadata json.RawMessage `json:"metadata"`
}

type listed struct {
	ID        string    `json:"id"`
	State     string    `json:"state"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

func (a reply) ids() (ids []string) {
	for _, one := range a.Data {
		ids = append(ids, one.ID)
	}
	return ids
}

// ask asks an API for a path.
func ask(t *testing.T, api http.Handler, path string, query ...string) (a reply) {
	t.Helper()
	values := url.Values{}
	for i := 0; i < len(query); i += 2 {
		values.Set(query[i], query[i+1])
	}
	request := httptest.NewRequest(http.MethodGet, path+"?"+values.Encode(), nil)
	request.Header.Set("Authorization", "Bearer "+apiKey)
	recorder := httptest.NewRecorder()
	api.ServeHTTP(recorder, request)
	a.status, a.header, a.body = recorder.Code, recorder.Header(), recorder.Body.String()
	if strings.HasPrefix(a.body, "{") {
		if err := json.Unmarshal([]byte(a.body), &a); err != nil {
			t.Fatalf("%s answered %q: %v", path, a.body, err)
		}
	}
	return a
}

// all follows the cursors of a listing to its end, and returns the ids in the listing's order. The cursor is "after" or "before"; at is where it begins.
func all(t *testing.T, api http.Handler, path, cursor, at string, query ...string) (ids []string) {
	t.Helper()
	for range 5000 {
		page := ask(t, api, path, append(slices.Clone(query), cursor, at)...)
		if page.status != 200 {
			t.Fatalf("%s %v answered %d: %s", path, query, page.status, page.body)
		}
		next := page.ListMetadata.After
		if cursor == "before" {
			next = page.ListMetadata.Before
			ids = append(page.ids(), ids...)
		} else {
			ids = append(ids, page.ids()...)
		}
		if next == nil {
			return ids
		}
		at = *next
	}
	t.Fatalf("%s %v comes to no end", path, query)
	return nil
}

// quick is an API without rate limits.
func quick(w *simulator.World, config simulator.APIConfig) *simulator.API {
	config.Key, config.Unlimited = apiKey, true
	return simulator.NewAPI(w, config)
}

func logOf(w *simulator.World) (ids []string) {
	for d := range w.Deliveries(0) {
		ids = append(ids, d.ID)
	}
	return ids
}

func TestTheEventsAPITellsTheLogOldestFirstWhateverTheOrder(t *testing.T) {
	t.Parallel()
	w := month(simulator.WorldConfig{Seed: 1}, 40, 20)
	api := quick(w, simulator.APIConfig{})
	for _, order := range []string{"", "asc", "desc", "normal"} {
		if diff := gocmp.Diff(logOf(w), all(t, api, "/events", "after", "", "events", allTypes, "order", order, "limit", "100")); diff != "" {
			t.Errorf("order=%s (-log +told):\n%s", order, diff)
		}
	}
	if got := ask(t, api, "/events", "events", allTypes); len(got.Data) != 10 {
		t.Errorf("a page without a limit holds %d events, want 10", len(got.Data))
	}
}

func TestTheEventsAPITellsWhatTheWebhooksCarry(t *testing.T) {
	t.Parallel()
	w := month(simulator.WorldConfig{Seed: 4}, 10, 5)
	api := quick(w, simulator.APIConfig{})
	var raw struct {
		Data []json.RawMessage `json:"data"`
	}
	page := ask(t, api, "/events", "events", allTypes, "limit", "100")
	if err := json.Unmarshal([]byte(page.body), &raw); err != nil {
		t.Fatal(err)
	}
	for i, d := range deliveriesOf(w)[:len(raw.Data)] {
		if string(raw.Data[i]) != string(d.Body) {
			t.Fatalf("event %d is %s, the webhook carries %s", i, raw.Data[i], d.Body)
		}
	}
}

func TestTheEventsAPITellsOnlyTypesThatAreAskedFor(t *testing.T) {
	t.Parallel()
	w := simulator.NewWorld(simulator.WorldConfig{Seed: 1, Start: start})
	w.FirstSync(20, 3, 1)
	api := quick(w, simulator.APIConfig{})
	for form, values := range map[string]url.Values{
		"commas":   {"events": {"dsync.activated,dsync.group.created"}},
		"repeated": {"events": {"dsync.activated", "dsync.group.created"}},
		"brackets": {"events[]": {"dsync.activated", "dsync.group.created"}},
	} {
		if got := ask(t, api, "/events", "limit", "100", "x", "y&"+values.Encode()); got.status != 400 {
			t.Errorf("an escaped form was understood: %s", got.body)
		}
		request := httptest.NewRequest(http.MethodGet, "/events?"+values.Encode(), nil)
		request.Header.Set("Authorization", "Bearer "+apiKey)
		recorder := httptest.NewRecorder()
		api.ServeHTTP(recorder, request)
		if n := strings.Count(recorder.Body.String(), `"object":"event"`); n != 4 {
			t.Errorf("%s: %d events, want the activation and 3 groups", form, n)
		}
	}
}

func TestTheEventsAPIRefuses(t *testing.T) {
	t.Parallel()
	w := simulator.NewWorld(simulator.WorldConfig{Seed: 1, Start: start})
	w.FirstSync(20, 3, 1)
	first := logOf(w)[0]
	w.Advance(80 * 24 * time.Hour)
	w.Hire(w.Directories()[0])
	api := quick(w, simulator.APIConfig{Retention: 60 * 24 * time.Hour})
	for name, c := range map[string]struct {
		query  []string
		status int
		part   string
	}{
		"no types": {
			nil, 400, `{"message":"One or more event names (e.g. dsync.user.created) must be provided using the events parameter.","code":"invalid_events_request"}`,
		},
		"a cursor and a range":    {[]string{"events", allTypes, "after", logOf(w)[44], "range_start", start.Format(time.RFC3339)}, 400, "mutually exclusive"},
		"a cursor not kept":       {[]string{"events", allTypes, "after", first}, 400, "not found"},
		"a cursor never known":    {[]string{"events", allTypes, "after", "event_01HZZZZZZZZZZZZZZZZZZZZZZZ"}, 400, "not found"},
		"more than 30 days":       {[]string{"events", allTypes, "range_start", "2026-07-01T00:00:00Z", "range_end", "2026-07-31T00:00:00.001Z"}, 400, "30 days"},
		"an end before its start": {[]string{"events", allTypes, "range_start", "2026-07-02T00:00:00Z", "range_end", "2026-07-01T00:00:00Z"}, 400, "after range_start"},
		"no date":                 {[]string{"events", allTypes, "range_start", "yesterday"}, 400, "ISO 8601"},
		"limit 0":                 {[]string{"events", allTypes, "limit", "0"}, 422, `"field":"limit"`},
		"limit 101":               {[]string{"events", allTypes, "limit", "101"}, 422, `"field":"limit"`},
	} {
		if got := ask(t, api, "/events", c.query...); got.status != c.status || !strings.Contains(got.body, c.part) {
			t.Errorf("%s: %d %s, want %d %s", name, got.status, got.body, c.status, c.part)
		}
	}
	if got := ask(t, api, "/events", "events", allTypes, "range_start", "2026-07-01T00:00:00Z", "range_end", "2026-07-31T00:00:00Z"); got.status != 200 {
		t.Errorf("30 days exactly: %d %s", got.status, got.body)
	}
}

func TestEventsOlderThanTheRetentionAreGone(t *testing.T) {
	t.Parallel()
	w := simulator.NewWorld(simulator.WorldConfig{Start: start})
	d := w.OpenDirectory()
	w.Advance(time.Hour)
	w.OpenGroup(d, "")
	ids, made := logOf(w), deliveriesOf(w)[1].Occurred
	api := quick(w, simulator.APIConfig{Retention: 25 * 24 * time.Hour})
	w.Advance(made.Add(25 * 24 * time.Hour).Sub(w.Now()))
	if got := ask(t, api, "/events", "events", allTypes).ids(); !slices.Equal(got, ids[1:]) {
		t.Errorf("at the edge it tells %v, want %v", got, ids[1:])
	}
	if got := ask(t, api, "/events", "events", allTypes, "after", ids[1]); got.status != 200 {
		t.Errorf("a cursor at the edge gives %d %s", got.status, got.body)
	}
	w.Advance(time.Millisecond)
	if got := ask(t, api, "/events", "events", allTypes); len(got.Data) != 0 || got.status != 200 {
		t.Errorf("past the edge it tells %v", got.ids())
	}
	if got := ask(t, api, "/events", "events", allTypes, "after", ids[1]); got.status != 400 {
		t.Errorf("a cursor past the edge gives %d %s", got.status, got.body)
	}
}

func TestARangeOfEventsIsNoLongerThanThirtyDays(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	w := simulator.NewWorld(simulator.WorldConfig{Start: start})
	d := w.OpenDirectory()
	for range 6 {
		w.Advance(10 * day)
		w.OpenGroup(d, "")
	}
	w.Advance(day)
	ids := logOf(w) // at 0, 10, … 60 days, and it is the 61st
	api := quick(w, simulator.APIConfig{})
	at := func(days int) string { return start.Add(time.Duration(days) * day).Format(time.RFC3339) }
	for name, c := range map[string]struct {
		query []string
		want  []string
	}{
		"no range":         {nil, ids[4:]},
		"a start":          {[]string{"range_start", at(5)}, ids[1:4]},
		"a start and end":  {[]string{"range_start", at(5), "range_end", at(25)}, ids[1:3]},
		"an end":           {[]string{"range_end", at(35)}, ids[1:4]},
		"a cursor":         {[]string{"after", ids[0]}, ids[1:]},
		"a cursor, an end": {[]string{"after", ids[0], "range_end", at(25)}, ids[1:3]},
	} {
		if got := ask(t, api, "/events", append(c.query, "events", allTypes)...); !slices.Equal(got.ids(), c.want) {
			t.Errorf("%s: %v, want %v", name, got.ids(), c.want)
		}
	}
}

func TestNoEventBecomesVisibleBehindACursor(t *testing.T) {
	t.Parallel()
	w := simulator.NewWorld(simulator.WorldConfig{Seed: 6, Start: start, Double: 0.2})
	simulator.Month(w, 10, 3, 1, 6)
	api := quick(w, simulator.APIConfig{Lag: 5 * time.Second, Seed: 6})
	traffic := simulator.NewTraffic(w, 1, 400, 7)
	var told []string
	at, late := "", false
	for traffic.Done() < traffic.Len() {
		traffic.Step()
		w.Advance(300 * time.Millisecond)
		page := ask(t, api, "/events", "events", allTypes, "limit", "100", "after", at)
		told = append(told, page.ids()...)
		if len(told) > 0 {
			at = told[len(told)-1]
		}
		late = late || w.Events() > len(told)+3
	}
	if !late {
		t.Error("no event was late")
	}
	w.Advance(2 * 5 * time.Second)
	told = append(told, all(t, api, "/events", "after", at, "events", allTypes, "limit", "100")...)
	if diff := gocmp.Diff(logOf(w), told); diff != "" {
		t.Errorf("a poller (-log +told):\n%s", diff)
	}
}

func TestAnEventIsVisibleAFewSecondsAfterItsWebhook(t *testing.T) {
	t.Parallel()
	w := simulator.NewWorld(simulator.WorldConfig{Seed: 1, Start: start})
	w.OpenDirectory()
	api := quick(w, simulator.APIConfig{Lag: 4 * time.Second})
	w.Advance(2*time.Second - time.Millisecond)
	if got := ask(t, api, "/events", "events", allTypes).ids(); len(got) > 0 {
		t.Errorf("it is visible at once: %v", got)
	}
	w.Advance(4*time.Second + time.Millisecond)
	if got := ask(t, api, "/events", "events", allTypes).ids(); len(got) != 1 {
		t.Errorf("it is not visible after 6s: %v", got)
	}
}

func TestACursorTakenFromAWebhookLosesWhatIsNotYetVisible(t *testing.T) {
	t.Parallel()
	w := simulator.NewWorld(simulator.WorldConfig{Seed: 1, Start: start})
	d := w.OpenDirectory()
	w.OpenGroup(d, "")
	ids := logOf(w)
	api := quick(w, simulator.APIConfig{Lag: 4 * time.Second})
	if got := ask(t, api, "/events", "events", allTypes, "after", ids[1]); got.status != 200 || len(got.Data) > 0 {
		t.Errorf("the cursor of a webhook gives %d %s", got.status, got.body)
	}
}

func TestListingsCoverEachOnceInBothOrdersByBothCursors(t *testing.T) {
	t.Parallel()
	w := month(simulator.WorldConfig{Seed: 3, Leavers: simulator.StyleInactive}, 60, 20)
	for range 12 {
		w.OpenDirectory()
	}
	d := w.Directories()[0]
	api := quick(w, simulator.APIConfig{})
	users := slices.Sorted(slices.Values(append(w.Active(d), w.Away(d)...)))
	users = slices.DeleteFunc(users, func(id string) bool { return ask(t, api, "/directory_users/"+id).status == 404 })
	group := slices.MaxFunc(w.Groups(d), func(a, b string) int { return len(w.MembersOf(a)) - len(w.MembersOf(b)) })
	member := w.MembersOf(group)[0]
	for name, c := range map[string]struct {
		path  string
		query []string
		want  []string
	}{
		"users":              {"/directory_users", []string{"directory", d}, users},
		"members of a group": {"/directory_users", []string{"group", group}, w.MembersOf(group)},
		"groups":             {"/directory_groups", []string{"directory", d}, w.Groups(d)},
		"groups of a user":   {"/directory_groups", []string{"user", member}, w.GroupsOf(member)},
		"directories":        {"/directories", nil, w.Directories()},
	} {
		if len(c.want) == 0 {
			t.Fatalf("%s: there are none", name)
		}
		newest := slices.Clone(c.want)
		slices.Reverse(newest)
		for order, want := range map[string][]string{"": newest, "desc": newest, "asc": c.want} {
			for _, limit := range []string{"1", "3", "7", "100"} {
				query := append(slices.Clone(c.query), "limit", limit, "order", order)
				if diff := gocmp.Diff(want, all(t, api, c.path, "after", "", query...)); diff != "" {
					t.Errorf("%s, order=%s, limit=%s (-want +listed):\n%s", name, order, limit, diff)
				}
				last := want[len(want)-1]
				if diff := gocmp.Diff(append(all(t, api, c.path, "before", last, query...), last), want); diff != "" {
					t.Errorf("%s, order=%s, limit=%s, backwards (-listed +want):\n%s", name, order, limit, diff)
				}
			}
		}
	}
}

func TestTheDirectoryAPIRefuses(t *testing.T) {
	t.Parallel()
	w := simulator.NewWorld(simulator.WorldConfig{Seed: 1, Start: start})
	d := w.FirstSync(2, 1, 1)
	gone := w.Active(d)[0]
	w.Delete(gone)
	ended := w.OpenDirectory()
	w.DeleteDirectory(ended)
	api := quick(w, simulator.APIConfig{})
	for path, c := range map[string]struct {
		status int
		body   string
	}{
		"/directory_users":                             {422, `{"message":"Validation failed","errors":[{"field":"directory","code":"Please provide either \"directory\" or \"group\" parameters."},{"field":"group","code":"Please provide either \"directory\" or \"group\" parameters."}]}`},
		"/directory_groups":                            {422, `Please provide either \"directory\" or \"user\" parameters.`},
		"/directory_users?directory=" + d + "&limit=0": {422, `"field":"limit"`},
		"/directories?order=up":                        {422, `"field":"order"`},
		"/directory_users?directory=" + ended:          {404, `{"message":"Not Found"}`},
		"/directory_users?group=directory_group_x":     {404, `{"message":"Not Found"}`},
		"/directories/" + ended:                        {404, `{"message":"Not Found"}`},
		"/directory_users/" + gone:                     {404, `{"message":"Not Found"}`},
		"/directory_groups/directory_group_x":          {404, `{"message":"Not Found"}`},
		"/directory_groups?user=" + gone:               {404, `{"message":"Not Found"}`},
		"/organizations":                               {404, `{"message":"Not Found"}`},
	} {
		request := httptest.NewRequest(http.MethodGet, path, nil)
		request.Header.Set("Authorization", "Bearer "+apiKey)
		recorder := httptest.NewRecorder()
		api.ServeHTTP(recorder, request)
		if recorder.Code != c.status || !strings.Contains(recorder.Body.String(), c.body) {
			t.Errorf("%s: %d %s, want %d %s", path, recorder.Code, recorder.Body, c.status, c.body)
		}
	}
	for _, authorization := range []string{"", "Bearer ", "Bearer sk_another", apiKey} {
		request := httptest.NewRequest(http.MethodGet, "/directories", nil)
		request.Header.Set("Authorization", authorization)
		recorder := httptest.NewRecorder()
		if api.ServeHTTP(recorder, request); recorder.Code != 401 {
			t.Errorf("Authorization: %q is answered by %d", authorization, recorder.Code)
		}
	}
}

func TestADirectoryIsListedWithItsCounts(t *testing.T) {
	t.Parallel()
	w := simulator.NewWorld(simulator.WorldConfig{Seed: 1, Start: start})
	d := w.FirstSync(5, 2, 1)
	people := w.Active(d)
	w.Suspend(people[0])
	w.Deactivate(people[1])
	w.Delete(people[2])
	w.DeleteGroup(w.Groups(d)[0])
	api := quick(w, simulator.APIConfig{})
	if got, want := string(ask(t, api, "/directories/"+d).Metadata), `{"users":{"active":2,"inactive":2},"groups":1}`; got != want {
		t.Errorf("metadata %s, want %s", got, want)
	}
	user := ask(t, api, "/directory_users/"+people[0])
	for _, part := range []string{`"state":"suspended"`, `"groups":[]`, `"raw_attributes":{}`, `"emails":[]`, `"username":null`} {
		if !strings.Contains(user.body, part) {
			t.Errorf("%s is not in %s", part, user.body)
		}
	}
}

func TestListingsOfPeopleAreLimitedToFourASecondForEachDirectory(t *testing.T) {
	t.Parallel()
	w := simulator.NewWorld(simulator.WorldConfig{Seed: 1, Start: start})
	d, other := w.FirstSync(2, 1, 1), w.FirstSync(2, 1, 1)
	now := start
	api := simulator.NewAPI(w, simulator.APIConfig{Key: apiKey, Clock: func() time.Time { return now }})
	asked := func(want int, query ...string) {
		t.Helper()
		got := ask(t, api, "/directory_users", query...)
		if got.status != want || want == 429 && got.body != `"Ratelimited"` {
			t.Errorf("%v at %s: %d %s, want %d", query, now.Sub(start), got.status, got.body, want)
		}
	}
	for range 3 {
		asked(200, "directory", d)
		now = now.Add(100 * time.Millisecond)
	}
	asked(200, "group", w.Groups(d)[0])
	asked(429, "directory", d)
	asked(429, "group", w.Groups(d)[0])
	asked(200, "directory", other)
	if got := ask(t, api, "/directory_groups", "directory", d); got.status != 200 {
		t.Errorf("groups are limited, too: %d", got.status)
	}
	now = start.Add(time.Second - time.Nanosecond)
	asked(429, "directory", d)
	now = start.Add(time.Second)
	asked(200, "directory", d)
	asked(429, "directory", d)
	api.Change(func(c *simulator.APIConfig) { c.Unlimited = true })
	asked(200, "directory", d)
}

func TestAKeyIsLimitedToSixThousandAMinute(t *testing.T) {
	t.Parallel()
	w := simulator.NewWorld(simulator.WorldConfig{Start: start})
	now := start
	api := simulator.NewAPI(w, simulator.APIConfig{Key: apiKey, Clock: func() time.Time { return now }})
	for i := range 6000 {
		if got := ask(t, api, "/directories"); got.status != 200 {
			t.Fatalf("request %d: %d", i+1, got.status)
		}
	}
	if got := ask(t, api, "/directories"); got.status != 429 {
		t.Errorf("request 6001: %d", got.status)
	}
	now = now.Add(time.Minute)
	if got := ask(t, api, "/directories"); got.status != 200 {
		t.Errorf("a minute later: %d", got.status)
	}
}

func TestTheDateIsTheWorldsAndMayBeWrong(t *testing.T) {
	t.Parallel()
	w := simulator.NewWorld(simulator.WorldConfig{Start: start})
	api := quick(w, simulator.APIConfig{})
	server := httptest.NewServer(api)
	defer server.Close()
	for _, skew := range []time.Duration{0, -time.Hour, 5 * time.Minute} {
		api.Change(func(c *simulator.APIConfig) { c.Skew = skew })
		response, err := http.Get(server.URL + "/directories")
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if want := start.Add(skew).Format(http.TimeFormat); response.Header.Get("Date") != want {
			t.Errorf("Date: %s, want %s", response.Header.Get("Date"), want)
		}
	}
}

func TestListingsMislead(t *testing.T) {
	t.Parallel()
	w := simulator.NewWorld(simulator.WorldConfig{Seed: 2, Start: start})
	d := w.FirstSync(400, 3, 1)
	left := w.Active(d)[:40]
	for i, id := range left {
		w.Advance(time.Minute)
		if i%2 == 0 {
			w.Delete(id)
		} else {
			w.Deactivate(id)
		}
	}
	api := quick(w, simulator.APIConfig{Seed: 3})
	list := func() []string { return all(t, api, "/directory_users", "after", "", "directory", d, "limit", "50") }
	whole := list()
	faults := func(f simulator.ListingFaults) { api.Change(func(c *simulator.APIConfig) { c.Faults = f }) }

	faults(simulator.ListingFaults{Lacking: 0.3})
	if got := len(list()); got < 380*6/10 || got > 380*8/10 {
		t.Errorf("%d of 380 are listed, want about 70 %%", got)
	}
	if !slices.Equal(list(), list()) {
		t.Error("others are lacking each time")
	}
	if got := string(ask(t, api, "/directories/"+d).Metadata); !strings.Contains(got, `"active":360,"inactive":20`) {
		t.Errorf("the counts lack somebody: %s", got)
	}
	faults(simulator.ListingFaults{Lacking: 0.3, CountsToo: true})
	var counts struct {
		Users struct{ Active, Inactive int }
	}
	if err := json.Unmarshal(ask(t, api, "/directories/"+d).Metadata, &counts); err != nil || counts.Users.Active+counts.Users.Inactive != len(list()) {
		t.Errorf("the counts are %+v, %v, and %d are listed", counts, err, len(list()))
	}

	faults(simulator.ListingFaults{CutShort: 0.3})
	short := list()
	if len(short) == len(whole) || len(short)%50 > 0 || !slices.Equal(short, whole[:len(short)]) {
		t.Errorf("%d of %d are listed, want some whole pages of 50", len(short), len(whole))
	}

	faults(simulator.ListingFaults{Ghosts: 1})
	if got := len(list()); got != 400 {
		t.Errorf("%d are listed, want those who left, too", got)
	}
	if got := ask(t, api, "/directory_users/"+left[0]).status; got != 404 {
		t.Errorf("one who was deleted is there when asked for: %d", got)
	}
	for _, id := range left[:2] {
		page := ask(t, api, "/directory_users", "directory", d, "limit", "100", "order", "asc")
		i := slices.IndexFunc(page.Data, func(one listed) bool { return one.ID == id })
		if i < 0 || page.Data[i].State != "active" || page.Data[i].UpdatedAt.After(start.Add(time.Minute)) {
			t.Errorf("%s is listed as %v, want active and not updated since", id, page.Data[max(i, 0)])
		}
	}
}

func TestAListingsConnectionEndsInAPage(t *testing.T) {
	t.Parallel()
	w := simulator.NewWorld(simulator.WorldConfig{Seed: 2, Start: start})
	d := w.FirstSync(200, 1, 1)
	server := httptest.NewServer(quick(w, simulator.APIConfig{Faults: simulator.ListingFaults{Disconnect: 1}}))
	defer server.Close()
	request, err := http.NewRequest(http.MethodGet, server.URL+"/directory_users?limit=100&directory="+d, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+apiKey)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if response.StatusCode != 200 || err == nil || len(text) == 0 {
		t.Errorf("%d, %d bytes, %v: want a part, and an error", response.StatusCode, len(text), err)
	}
}

func TestTroubleIsWithoutReasonAndRepeatable(t *testing.T) {
	t.Parallel()
	w := simulator.NewWorld(simulator.WorldConfig{Start: start})
	statuses := func() (all []int) {
		api := quick(w, simulator.APIConfig{Trouble: 0.3, Seed: 4})
		for range 200 {
			all = append(all, ask(t, api, "/directories").status)
		}
		if n := api.Stats().Status[200]; n < 110 || n > 170 || api.Stats().Requests != 200 {
			t.Errorf("%+v: want about 70 %% of 200 to go well", api.Stats())
		}
		return all
	}
	one := statuses()
	if !slices.Equal(one, statuses()) {
		t.Error("the same seed gave other trouble")
	}
	if !slices.Contains(one, 429) || !slices.Contains(one, 500) {
		t.Errorf("%v: want 429 and 500", one)
	}
	api := quick(w, simulator.APIConfig{})
	api.SetDown(true)
	if got := ask(t, api, "/directories").status; got != 503 {
		t.Errorf("in an outage it answers %d", got)
	}
	api.SetDown(false)
	if got := ask(t, api, "/directories").status; got != 200 {
		t.Errorf("after an outage it answers %d", got)
	}
}

func ExampleAPI() {
	world := simulator.NewWorld(simulator.WorldConfig{Seed: 1, Start: start})
	directory := world.FirstSync(3, 1, 1)
	world.Leave(world.Active(directory)[0])
	server := httptest.NewServer(simulator.NewAPI(world, simulator.APIConfig{Key: "sk_example"}))
	defer server.Close()
	request, _ := http.NewRequest(http.MethodGet, server.URL+"/events?events=dsync.user.deleted", nil)
	request.Header.Set("Authorization", "Bearer sk_example")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = response.Body.Close() }()
	var page struct {
		Data []struct{ Event string }
	}
	_ = json.NewDecoder(response.Body).Decode(&page)
	fmt.Println(response.Status, page.Data[0].Event, world.Truth().Active(), "active")
	// Output:
	// 200 OK dsync.user.deleted 2 active
}
