package simulator

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// longest is the longest time that a query of events may span.
const longest = 30 * 24 * time.Hour

// cursor is the list_metadata of events.
type cursor struct {
	After *string `json:"after"`
}

// span is a part of the log: from one place up to, but not including, another.
type span struct{ from, to int }

func (a *API) events(w http.ResponseWriter, r *http.Request) {
	types := typesOf(r.URL.Query())
	if len(types) == 0 {
		refuse(w, "One or more event names (e.g. dsync.user.created) must be provided using the events parameter.")
		return
	}
	limit, ok := limitOf(w, r)
	if !ok {
		return
	}
	a.world.mu.RLock()
	part, fault := a.span(r.URL.Query())
	var page []entry
	var last *string
	if fault == "" {
		page, last = a.page(part, types, limit)
	}
	a.world.mu.RUnlock()
	if fault != "" {
		refuse(w, fault)
		return
	}
	data := make([]json.RawMessage, len(page)) // rendered outside the lock
	for i := range page {
		data[i] = page[i].body()
	}
	a.tally(func(s *APIStats) { s.Events += len(page) })
	answer(w, http.StatusOK, list{"list", data, cursor{last}})
}

func (a *API) tally(what func(*APIStats)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	what(&a.stats)
}

func refuse(w http.ResponseWriter, why string) {
	fail(w, http.StatusBadRequest, message{Message: why, Code: "invalid_events_request"})
}

// typesOf reads the list in the three forms that WorkOS' own libraries send.
func typesOf(query url.Values) map[string]bool {
	types := map[string]bool{}
	for _, values := range [][]string{query["events"], query["events[]"]} {
		for _, value := range values {
			for name := range strings.SplitSeq(value, ",") {
				if name = strings.TrimSpace(name); name != "" {
					types[name] = true
				}
			}
		}
	}
	return types
}

// span is the part of the log that a query asks for, or why it cannot be asked for. The caller holds the world's lock.
func (a *API) span(query url.Values) (s span, fault string) {
	now, config := a.world.present(), a.settings()
	retention := config.Retention
	if retention == 0 {
		retention = 90 * 24 * time.Hour
	}
	edge := a.world.log.since(now.Add(-retention))
	s = span{edge, a.visible(now, config)}
	after, start, end := query.Get("after"), query.Get("range_start"), query.Get("range_end")
	if after != "" && start != "" {
		return s, "The after and range_start parameters are mutually exclusive."
	}
	if after != "" {
		place, known := a.world.log.find(after)
		if !known || place < edge {
			return s, "The event of the after parameter was not found: " + after
		}
		s.from = place + 1
	}
	from, to, fault := rangeOf(start, end, now)
	if fault != "" {
		return s, fault
	}
	if after == "" {
		s.from = max(edge, a.world.log.since(from))
	}
	if start != "" || end != "" {
		s.to = min(s.to, a.world.log.since(to))
	}
	return s, ""
}

// rangeOf is the time that a query spans, which is never more than the longest.
func rangeOf(start, end string, now time.Time) (from, to time.Time, fault string) {
	to = now.Add(time.Hour)
	if end != "" {
		var err error
		if to, err = time.Parse(time.RFC3339Nano, end); err != nil {
			return from, to, "The range_end parameter must be an ISO 8601 date string."
		}
	}
	from = now.Add(-longest)
	if end != "" && to.Before(now) {
		from = to.Add(-longest)
	}
	if start == "" {
		return from, to, ""
	}
	from, err := time.Parse(time.RFC3339Nano, start)
	switch {
	case err != nil:
		return from, to, "The range_start parameter must be an ISO 8601 date string."
	case end == "":
		to = from.Add(longest)
	case to.Before(from):
		return from, to, "The range_end parameter must be after range_start."
	case to.Sub(from) > longest:
		return from, to, "The range of a request may be no longer than 30 days."
	}
	return from, to, ""
}

// visible is how many events can be seen: all up to the first whose time has not come. What could be seen once can always be seen.
func (a *API) visible(now time.Time, config APIConfig) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	for ; a.shown < a.world.log.len(); a.shown++ {
		e := a.world.log.at(a.shown)
		if config.Lag == 0 {
			continue
		}
		lag := time.Duration(float64(config.Lag) * (0.5 + chance(config.Seed, "lag", e.id.String())))
		if now.Before(e.id.time().Add(lag)) {
			break
		}
	}
	return a.shown
}

// page returns the first events of a part, and the cursor when there are more.
func (a *API) page(part span, types map[string]bool, limit int) (page []entry, after *string) {
	for n := part.from; n < part.to; n++ {
		e := a.world.log.at(n)
		if !types[kinds[e.kind]] {
			continue
		}
		if len(page) == limit {
			id := page[limit-1].eventID()
			return page, &id
		}
		page = append(page, *e)
	}
	return page, nil
}
