package workos

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/provider"
)

// What WorkOS keeps, and how much of it may be asked for at once. Source: https://workos.com/docs/events/data-syncing/events-api
const (
	kept     = 90 * 24 * time.Hour
	widest   = 30*24*time.Hour - time.Hour // less than the limit, whosever clock measures it
	overlap  = time.Second                 // of one window and the next, whether their ends count or not
	edge     = 24 * time.Hour              // by which the oldest that is kept is felt for, where the log is kept for less
	mostRows = 100                         // of a page
)

// How far back an event may go in a page that ascends. Ids order the log, and their times and created_at differ in rounding.
const (
	rounding = time.Millisecond // the last event against the first
	jitter   = time.Second      // any event against those before it
)

// span is a range of times. A zero end is open.
type span struct{ from, until time.Time }

// Page implements provider.Log. A range that is wider than WorkOS takes is asked for in windows, until one has events.
func (c *Client) Page(ctx context.Context, q provider.LogQuery) (provider.LogPage, error) {
	if q.After != "" {
		return c.events(ctx, q, span{until: q.Until})
	}
	end, from := q.Until, q.Since
	if end.IsZero() {
		end = c.config.Now()
	}
	if from.IsZero() {
		from = c.config.Now().Add(-kept)
	}
	for {
		window := span{from, q.Until}
		wide := end.Sub(from) > widest
		if wide {
			window.until = from.Add(widest)
		}
		page, err := c.events(ctx, q, window)
		if wide && q.Since.IsZero() && tooOld(err) {
			from = from.Add(edge) // the oldest that is kept is later
			continue
		}
		if err != nil || !wide || len(page.Events) > 0 {
			page.More = page.More || wide && page.After != ""
			return page, err
		}
		from = window.until.Add(-overlap)
	}
}

// tooOld reports a range that is refused for itself.
func tooOld(err error) bool {
	var refused *refusal
	return errors.As(err, &refused) && (refused.status == http.StatusBadRequest || refused.status == http.StatusUnprocessableEntity) && strings.Contains(refused.said, "range")
}

// events asks for one page.
func (c *Client) events(ctx context.Context, q provider.LogQuery, s span) (provider.LogPage, error) {
	limit := q.Limit
	if limit < 1 || limit > mostRows {
		limit = mostRows
	}
	r := request{what: "read the log of events", path: "events", query: query(q, s, limit), paces: []*pace{c.limits.all}}
	var list rows[json.RawMessage]
	date, err := c.ask(ctx, r, &list)
	if err != nil {
		return provider.LogPage{}, gone(q, err)
	}
	if list.Data == nil {
		return provider.LogPage{}, r.unreadable(fmt.Errorf("%w: it has no list", provider.ErrAnswer))
	}
	page := provider.LogPage{Events: logEvents(*list.Data), After: q.After, Date: date}
	if err := check(page.Events, q.After); err != nil {
		return provider.LogPage{}, fmt.Errorf("workos: %s: %w", r.what, err)
	}
	if len(page.Events) == 0 && list.Metadata.After.id != "" {
		return provider.LogPage{}, r.cutShort("a page is empty, and says that more follows")
	}
	follows := list.Metadata.After.id != "" || len(page.Events) >= limit
	if i := slices.IndexFunc(page.Events, func(e provider.LogEvent) bool { return !q.Until.IsZero() && e.Created.After(q.Until) }); i >= 0 {
		page.Events, follows = page.Events[:i], false
	}
	for _, e := range page.Events {
		if !strings.HasPrefix(e.ID, unread) {
			page.After = e.ID
		}
	}
	page.More = follows && page.After != q.After
	return page, nil
}

// query asks for events oldest first. The order is named although that is what WorkOS does anyway: its manual has another default.
func query(q provider.LogQuery, s span, limit int) url.Values {
	types := q.Types
	if len(types) == 0 {
		types = slices.Sorted(maps.Keys(readers))
	}
	v := url.Values{"events": {strings.Join(types, ",")}, "order": {"asc"}, "limit": {strconv.Itoa(limit)}}
	if q.After != "" {
		v.Set("after", q.After)
	} else {
		v.Set("range_start", s.from.UTC().Format(inRange))
	}
	if !s.until.IsZero() {
		v.Set("range_end", s.until.Add(time.Millisecond-time.Nanosecond).UTC().Format(inRange))
	}
	return v
}

// inRange has milliseconds; a start is cut, an end is rounded up.
const inRange = "2006-01-02T15:04:05.000Z"

// gone tells a cursor that is no longer known from other refusals. What WorkOS answers is not documented; a 400 is what others take
// for it: https://github.com/workos/scim-bridge.
func gone(q provider.LogQuery, err error) error {
	var refused *refusal
	if q.After == "" || !errors.As(err, &refused) {
		return err
	}
	named := strings.Contains(refused.said, "after") || strings.Contains(refused.said, "cursor") || strings.Contains(refused.said, strings.ToLower(q.After))
	switch {
	case refused.status == http.StatusBadRequest && (named || refused.code != "invalid_events_request"),
		named && (refused.status == http.StatusNotFound || refused.status == http.StatusUnprocessableEntity):
		return fmt.Errorf("workos: read the log of events after %s: %w: %w\nhint: begin again at a time; what is older than the log keeps is in the directories' listings only", shorten(q.After), provider.ErrCursorGone, refused)
	}
	return err
}

func logEvents(bodies []json.RawMessage) []provider.LogEvent {
	out := make([]provider.LogEvent, 0, len(bodies))
	for _, body := range bodies {
		e := provider.LogEvent{Body: body}
		var err error
		if e.Identity, err = identify(body); err != nil {
			sum := sha256.Sum256(body)
			e.Identity = provider.Identity{ID: unread + hex.EncodeToString(sum[:])}
			out = append(out, e)
			continue
		}
		var head lenient[struct {
			CreatedAt text `json:"created_at"`
		}]
		_ = json.Unmarshal(body, &head) // it was read before
		if e.Created = parseTime(head.value.CreatedAt); e.Created.IsZero() {
			e.Created, _ = directory.ULIDTime(e.ID)
		}
		out = append(out, e)
	}
	return out
}

// unread begins the ids of what has no readable one, as the receiver makes them.
const unread = "sha256:"

// check refuses a page that does not go on from the cursor, forwards: its last event would be no cursor.
func check(events []provider.LogEvent, after string) error {
	var first, last, latest time.Time
	for _, e := range events {
		if e.ID == after {
			return fmt.Errorf("%w: the page repeats the cursor %s\nhint: the cursor stays; does the API heed after=?", provider.ErrAnswer, after)
		}
		if e.Created.IsZero() {
			continue
		}
		if first.IsZero() {
			first = e.Created
		}
		last = e.Created
		if latest.Sub(last) > jitter {
			return outOfOrder(latest, last)
		}
		if last.After(latest) {
			latest = last
		}
	}
	if first.Sub(last) > rounding {
		return outOfOrder(first, last)
	}
	return nil
}

func outOfOrder(before, after time.Time) error {
	return fmt.Errorf("%w: one of %s comes after one of %s\nhint: the cursor stays; has the provider changed the order of its log?",
		provider.ErrOutOfOrder, after.Format(time.RFC3339Nano), before.Format(time.RFC3339Nano))
}

// rows are a page as it comes.
type rows[T any] struct {
	Data     *[]T `json:"data"` // nil when there is none
	Metadata struct {
		After cursor `json:"after"`
	} `json:"list_metadata"`
}

// cursor is what a list says of its next page: nothing, that there is none, or an id.
type cursor struct {
	told bool
	id   string
}

// UnmarshalJSON fails for what is neither a text nor null: taken for null it would end the list.
func (c *cursor) UnmarshalJSON(b []byte) error {
	*c = cursor{told: true}
	if string(b) == "null" {
		return nil
	}
	if err := json.Unmarshal(b, &c.id); err != nil || c.id == "" {
		return errShape
	}
	return nil
}
