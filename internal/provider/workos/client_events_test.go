package workos_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/internal/provider"
	"github.com/rollcallhq/rollcall/internal/provider/workos"
)

func TestAPageOfTheLogHoldsWhatWebhooksCarry(t *testing.T) {
	t.Parallel()
	simulate(t, says(200, file(t, "events.json"), "Date: Fri, 31 Jul 2026 10:00:05 GMT"), func(t *testing.T, s *sim) {
		page, err := s.Page(t.Context(), provider.LogQuery{After: "event_0"})
		if err != nil {
			t.Fatal(err)
		}
		type row struct {
			provider.Identity
			Created string
		}
		var got []row
		for _, e := range page.Events {
			got = append(got, row{e.Identity, e.Created.Format("15:04:05.000")})
			if strings.HasPrefix(e.ID, "sha256:") {
				sum := sha256.Sum256(e.Body)
				got[len(got)-1].ID = strings.Replace(e.ID, hex.EncodeToString(sum[:]), "of the body", 1)
				continue
			}
			statements, err := workos.Provider().Decode(e.Body, options)
			if err != nil || len(statements) != 1 || statements[0].Event == nil || statements[0].Identity != e.Identity {
				t.Errorf("%s: Decode() = %+v, %v, want the event that the page says", e.ID, statements, err)
			}
		}
		want := []row{
			{provider.Identity{ID: "event_01K1FZ5Q7Y0000000000000001", Type: "dsync.user.created", Directory: directoryID}, "10:00:00.123"},
			{provider.Identity{ID: "event_01K1FZ5Q7Y0000000000000002", Type: "dsync.group.user_added", Directory: directoryID}, "10:00:00.123"},
			{provider.Identity{ID: "sha256:of the body"}, "00:00:00.000"},
			{provider.Identity{ID: "event_01K1FZ5Q7Y0000000000000003", Type: "dsync.deleted", Directory: directoryID}, "10:00:02.000"},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("want (-), got (+):\n%s", diff)
		}
		if page.After != "event_01K1FZ5Q7Y0000000000000003" || !page.More || !page.Date.Equal(time.Date(2026, 7, 31, 10, 0, 5, 0, time.UTC)) {
			t.Errorf("After %s, More %t, Date %s; want the last event, that more follows, and the header's time", page.After, page.More, page.Date)
		}
	})
}

func TestTheCursorIsTheLastEventAndMoreIsWhatFollows(t *testing.T) {
	t.Parallel()
	at := "2026-07-31T10:00:00.000Z"
	late := time.Date(2026, 7, 31, 10, 0, 0, 0, time.UTC).Add(-time.Millisecond)
	for name, c := range map[string]struct {
		body  string
		until time.Time
		after string
		n     int
		more  bool
	}{
		"the end":                    {list("null", event("event_1", at), event("event_2", at)), time.Time{}, "event_2", 2, false},
		"another cursor":             {list(`"event_9"`, event("event_1", at)), time.Time{}, "event_1", 1, true},
		"a full page":                {list("null", event("event_1", at), event("event_2", at), event("event_3", at)), time.Time{}, "event_3", 3, true},
		"nothing new":                {list("null"), time.Time{}, "event_0", 0, false},
		"no word on what follows":    {`{"data":[` + event("event_1", at) + `]}`, time.Time{}, "event_1", 1, false},
		"none that has an id":        {list(`"event_9"`, `{"event":"x"}`, `null`), time.Time{}, "event_0", 2, false},
		"one without an id at last":  {list("null", event("event_1", at), `{"id":7}`), time.Time{}, "event_1", 2, false},
		"later than was asked for":   {list(`"event_9"`, event("event_1", "2026-07-31T09:00:00Z"), event("event_2", at)), late, "event_1", 1, false},
		"all later than asked for":   {list(`"event_9"`, event("event_1", at)), late, "event_0", 0, false},
		"just what was asked for":    {list(`"event_9"`, event("event_1", at)), late.Add(time.Millisecond), "event_1", 1, true},
		"its time is in its id only": {list("null", event("event_01K1FZ5Q7Y0000000000000001", "soon")), late.AddDate(-10, 0, 0), "event_0", 0, false},
	} {
		simulate(t, says(200, c.body), func(t *testing.T, s *sim) {
			page, err := s.Page(t.Context(), provider.LogQuery{After: "event_0", Limit: 3, Until: c.until})
			if err != nil || page.After != c.after || len(page.Events) != c.n || page.More != c.more {
				t.Errorf("%s: Page() = %d events, After %s, More %t, %v; want %d, %s, %t", name, len(page.Events), page.After, page.More, err, c.n, c.after, c.more)
			}
		})
	}
}

func TestAPageThatDoesNotGoForwardIsRefused(t *testing.T) {
	t.Parallel()
	page := func(times ...string) string {
		var events []string
		for i, at := range times {
			events = append(events, event(fmt.Sprintf("event_%d", i+1), at))
		}
		return list("null", events...)
	}
	for name, c := range map[string]struct {
		body   string
		target error
	}{
		"ascending":                   {page("2026-07-31T10:00:00.000Z", "2026-07-31T10:00:00.001Z", "2026-08-01T00:00:00.000Z"), nil},
		"all at once":                 {page("2026-07-31T10:00:00.000Z", "2026-07-31T10:00:00.000Z", "2026-07-31T10:00:00Z"), nil},
		"a time that was rounded":     {page("2026-07-31T10:00:00.001Z", "2026-07-31T10:00:00.000Z"), nil},
		"no times":                    {page("", "soon", ""), nil},
		"a step back between":         {page("2026-07-31T10:00:00.900Z", "2026-07-31T10:00:00.100Z", "2026-07-31T10:00:01.000Z"), nil},
		"descending":                  {page("2026-07-31T10:00:00.003Z", "2026-07-31T10:00:00.002Z", "2026-07-31T10:00:00.001Z"), provider.ErrOutOfOrder},
		"descending by days":          {page("2026-07-31T10:00:00Z", "2026-07-30T10:00:00Z"), provider.ErrOutOfOrder},
		"descending, one untimed":     {page("2026-07-31T10:00:00Z", "", "2026-07-30T10:00:00Z"), provider.ErrOutOfOrder},
		"a long step back between":    {page("2026-07-31T10:00:00Z", "2026-07-31T09:59:58Z", "2026-07-31T10:00:01Z"), provider.ErrOutOfOrder},
		"the cursor's own event":      {list("null", event("event_0", "2026-07-31T10:00:00Z")), provider.ErrAnswer},
		"empty, and more":             {list(`"event_9"`), provider.ErrCutShort},
		"no list":                     {`{"data":null,"list_metadata":{"after":null}}`, provider.ErrAnswer},
		"a cursor of another type":    {list("7", event("event_1", "2026-07-31T10:00:00Z")), provider.ErrAnswer},
		"events of another directory": {list("null", strings.ReplaceAll(event("event_1", "2026-07-31T10:00:00Z"), directoryID, "directory_2")), nil},
	} {
		simulate(t, says(200, c.body), func(t *testing.T, s *sim) {
			page, err := s.Page(t.Context(), provider.LogQuery{After: "event_0"})
			if !errors.Is(err, c.target) || (c.target == nil) != (err == nil) {
				t.Errorf("%s: Page() = %v, want %v", name, err, c.target)
			}
			if err != nil && (len(page.Events) > 0 || !strings.Contains(err.Error(), "\nhint: ")) {
				t.Errorf("%s: %d events come with the error, whose text is %q; want none, and a hint", name, len(page.Events), err)
			}
		})
	}
}

func TestACursorThatIsGoneIsToldFromOtherRefusals(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		gone   bool
	}{
		"a 400":                       {says(400, `{"message":"Bad Request"}`), true},
		"a 400 without a word":        {says(400, ``), true},
		"a 400 that names it":         {says(400, `{"message":"Could not find event_0","code":"invalid_cursor"}`), true},
		"a 400 about the types":       {says(400, `{"message":"One or more event names must be provided.","code":"invalid_events_request"}`), false},
		"a bad request that names it": {says(400, `{"message":"The event of the after parameter was not found: event_0","code":"invalid_events_request"}`), true},
		"a 404 that names it":         {says(404, `{"message":"Event not found: 'event_0'."}`), true},
		"a 404":                       {says(404, `{"message":"Not Found"}`), false},
		"a 422 that names its field":  {says(422, `{"message":"Validation failed","errors":[{"field":"after","code":"after is not known"}]}`), true},
		"a 422 of another field":      {says(422, `{"message":"Validation failed","errors":[{"field":"limit","code":"limit must be a number"}]}`), false},
		"no key":                      {says(401, `{"message":"Unauthorized after all"}`), false},
		"the server's trouble":        {says(500, `{"message":"after"}`), false},
	} {
		simulate(t, c.answer, func(t *testing.T, s *sim) {
			if _, err := s.Page(t.Context(), provider.LogQuery{After: "event_0"}); err == nil || errors.Is(err, provider.ErrCursorGone) != c.gone {
				t.Errorf("%s: Page() = %v, want ErrCursorGone: %t", name, err, c.gone)
			}
			if _, err := s.Page(t.Context(), provider.LogQuery{Since: time.Now().Add(-time.Hour)}); err == nil || errors.Is(err, provider.ErrCursorGone) {
				t.Errorf("%s, without a cursor: Page() = %v, want another error", name, err)
			}
		})
	}
}

// record is a log of events as the provider keeps it: ids in order, and ranges of 30 days at most.
type record struct {
	t      *testing.T
	events []time.Time // event_1 is the first
	oldest time.Time   // an earlier range_start is refused
}

func (l record) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	limit, _ := strconv.Atoi(q.Get("limit"))
	after, _ := strconv.Atoi(strings.TrimPrefix(q.Get("after"), "event_"))
	from, _ := time.Parse(time.RFC3339, q.Get("range_start"))
	until, err := time.Parse(time.RFC3339, q.Get("range_end"))
	if err != nil {
		until = time.Now()
	}
	switch {
	case q.Has("after") == q.Has("range_start"), q.Get("events") == "", q.Get("order") != "asc":
		l.t.Errorf("asked %s", r.URL.RawQuery)
	case q.Has("range_start") && until.Sub(from) > 30*24*time.Hour:
		says(422, `{"message":"range is wider than 30 days"}`)(w, r)
		return
	case q.Has("range_start") && from.Before(l.oldest):
		says(400, `{"message":"range_start is older than what is kept"}`)(w, r)
		return
	}
	var page []string
	next := "null"
	for i, at := range l.events {
		if i < after || at.Before(from) || !at.Before(until) { // the end does not count
			continue
		}
		if len(page) == limit {
			next = fmt.Sprintf(`"event_%d"`, i)
			break
		}
		page = append(page, event(fmt.Sprintf("event_%d", i+1), at.Format(time.RFC3339Nano)))
	}
	says(200, list(next, page...))(w, r)
}

func TestNoEventIsSkippedHoweverFarBackTheLogIsRead(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	bubbleBegins := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return bubbleBegins.Add(-d) }
	window := 30*day - time.Hour
	for name, c := range map[string]struct {
		events []time.Duration // how long ago
		since  time.Duration   // 0 is the oldest
		until  time.Duration   // 0 is now
		oldest time.Duration
		want   []string
	}{
		"of the last hour":         {[]time.Duration{50 * time.Minute, time.Minute}, time.Hour, 0, 90 * day, []string{"event_1", "event_2"}},
		"80 days":                  {[]time.Duration{85 * day, 79 * day, 50*day + 1, 50 * day, 20 * day, time.Second}, 80 * day, 0, 90 * day, []string{"event_2", "event_3", "event_4", "event_5", "event_6"}},
		"at the windows' edges":    {[]time.Duration{80 * day, 80*day - window, 80*day - 2*window + time.Second, day}, 80 * day, 0, 90 * day, []string{"event_1", "event_2", "event_3", "event_4"}},
		"at an empty window's end": {[]time.Duration{80*day - window}, 80 * day, 0, 90 * day, []string{"event_1"}},
		"a little behind it":       {[]time.Duration{80*day - window - time.Millisecond}, 80 * day, 0, 90 * day, []string{"event_1"}},
		"with only one, the last":  {[]time.Duration{time.Minute}, 89 * day, 0, 90 * day, []string{"event_1"}},
		"all that is kept":         {[]time.Duration{89 * day, 40 * day, time.Minute}, 0, 0, 91 * day, []string{"event_1", "event_2", "event_3"}},
		"what is kept of less":     {[]time.Duration{89 * day, 44 * day, 20 * day, time.Minute}, 0, 0, 45 * day, []string{"event_2", "event_3", "event_4"}},
		"until a time":             {[]time.Duration{79 * day, 50 * day, 20 * day, time.Second}, 80 * day, 30 * day, 90 * day, []string{"event_1", "event_2"}},
		"nothing":                  {nil, 80 * day, 0, 90 * day, nil},
		"nothing in an empty time": {[]time.Duration{5 * day}, 3 * day, 4 * day, 90 * day, nil},
	} {
		l := record{t: t, oldest: ago(c.oldest)}
		for _, d := range c.events {
			l.events = append(l.events, ago(d))
		}
		simulate(t, l.ServeHTTP, func(t *testing.T, s *sim) {
			q := provider.LogQuery{Limit: 2}
			if c.since > 0 {
				q.Since = ago(c.since)
			}
			if c.until > 0 {
				q.Until = ago(c.until)
			}
			var got []string
			for more := true; more; {
				page, err := s.Page(t.Context(), q)
				if err != nil {
					t.Fatalf("%s: Page(%+v): %v", name, q, err)
				}
				for _, e := range page.Events {
					got = append(got, e.ID)
				}
				q.After, more = page.After, page.More
				if len(s.requests()) > 60 {
					t.Fatalf("%s: it does not end: %v", name, got)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%s: read %v, want %v; asked:", name, got, c.want)
				for _, r := range s.requests() {
					t.Log(r.line)
				}
			}
		})
	}
}

func TestARangeThatIsRefusedIsAnErrorUnlessAllWasAskedFor(t *testing.T) {
	t.Parallel()
	simulate(t, says(400, `{"message":"range_start is too old"}`), func(t *testing.T, s *sim) {
		for name, since := range map[string]time.Time{"a time": time.Now().Add(-80 * 24 * time.Hour), "all": {}} {
			if page, err := s.Page(t.Context(), provider.LogQuery{Since: since}); err == nil {
				t.Errorf("%s: Page() = %+v, want an error", name, page)
			}
		}
	})
	l := record{t: t, oldest: time.Date(1999, 12, 1, 0, 0, 0, 0, time.UTC)}
	simulate(t, l.ServeHTTP, func(t *testing.T, s *sim) {
		if page, err := s.Page(t.Context(), provider.LogQuery{Since: l.oldest.Add(-time.Hour)}); err == nil {
			t.Errorf("from before what is kept: Page() = %+v, want an error", page)
		}
	})
}

func TestEveryTypeThatTheDecoderKnowsIsAskedFor(t *testing.T) {
	t.Parallel()
	simulate(t, says(200, list("null")), func(t *testing.T, s *sim) {
		if _, err := s.Page(t.Context(), provider.LogQuery{After: "event_1"}); err != nil {
			t.Fatal(err)
		}
		asked := strings.Split(s.requests()[0].URL.Query().Get("events"), ",")
		if diff := cmp.Diff(workos.Samples(), asked); diff != "" {
			t.Errorf("samples (-), asked (+):\n%s", diff)
		}
	})
}
