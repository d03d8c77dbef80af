package main

import (
	"slices"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/status"
	"github.com/rollcallhq/rollcall/internal/store"
)

// statusJSON is what `rollcall status -o json` prints. Durations are seconds.
type statusJSON struct {
	Verdict     status.Color          `json:"verdict"`
	Reasons     []reasonJSON          `json:"reasons"`
	Unseen      []unseenJSON          `json:"unseen"` // could not be looked at from here; what is there of it says nothing
	At          time.Time             `json:"at"`
	Environment string                `json:"environment"`
	Queue       *statusQueueJSON      `json:"queue,omitempty"`
	Directories []statusDirectoryJSON `json:"directories"`
	Leavers     []leaversJSON         `json:"leavers"`
	Polls       []statusPollJSON      `json:"polls"`
	Backlog     map[string]waitsJSON  `json:"backlog"` // by track
	Failing     []statusFailingJSON   `json:"failing"`
	Broken      []brokenJSON          `json:"broken_bindings"`
	Dead        []deadTallyJSON       `json:"dead_events"`
	Ended       []endedJSON           `json:"held_directories"`
	Links       []heldLinksJSON       `json:"held_links"`
	Probes      probesJSON            `json:"probes"`
	Secrets     []secretAgeJSON       `json:"secrets"`
	Inventory   *statusInventoryJSON  `json:"inventory,omitempty"`
}

type reasonJSON struct {
	Color status.Color `json:"color"`
	What  string       `json:"what"`
	Do    string       `json:"do"`
}

type unseenJSON struct {
	What string `json:"what"`
	Why  string `json:"why"`
}

type statusQueueJSON struct {
	Backend    string     `json:"backend"`
	Depth      int64      `json:"depth"`
	Oldest     *time.Time `json:"oldest,omitempty"`
	Durability string     `json:"durability,omitempty"`
	Error      string     `json:"error,omitempty"`
}

// spanJSON is the median and the most of the last hour, and the worst of the last day.
type spanJSON struct {
	Count  int64   `json:"count"`
	Median float64 `json:"median_seconds"`
	Most   float64 `json:"max_seconds"`
	Worst  float64 `json:"worst_seconds"`
}

type statusDirectoryJSON struct {
	Source    string                              `json:"source"`
	Directory string                              `json:"directory"`
	Name      string                              `json:"name,omitempty"`
	State     string                              `json:"state,omitempty"`
	Mode      store.Mode                          `json:"mode,omitempty"`
	Accounts  int64                               `json:"accounts"`
	Active    int64                               `json:"active"`
	Heard     *time.Time                          `json:"heard,omitempty"`
	Received  spanJSON                            `json:"received"`
	Folded    spanJSON                            `json:"folded"`
	Bound     spanJSON                            `json:"bound"`
	Compared  *time.Time                          `json:"compared,omitempty"` // with its whole listing, last
	Drift     map[store.DriftKind]statusDriftJSON `json:"drift,omitempty"`    // what was found then
}

type statusDriftJSON struct {
	Found int64 `json:"found"`
	Open  int64 `json:"open"` // not repaired
}

type leaversJSON struct {
	Source    string      `json:"source"`
	Directory string      `json:"directory"`
	Done      int64       `json:"done"`
	Median    float64     `json:"median_seconds"`
	Worst     *leaverJSON `json:"worst,omitempty"`
	Waiting   int64       `json:"waiting"`
	Oldest    *leaverJSON `json:"oldest_waiting,omitempty"`
}

type leaverJSON struct {
	Account  string     `json:"account"`
	Email    string     `json:"email,omitempty"`
	Event    string     `json:"event"`
	Occurred *time.Time `json:"occurred,omitempty"`
	Received *time.Time `json:"received,omitempty"`
	Folded   time.Time  `json:"folded"`
	Bound    *time.Time `json:"bound,omitempty"`
	Took     float64    `json:"took_seconds"`
}

type statusPollJSON struct {
	Source    string     `json:"source"`
	Watermark *time.Time `json:"watermark,omitempty"`
	CaughtUp  *time.Time `json:"caught_up,omitempty"`
	Cursor    string     `json:"cursor,omitempty"`
	Missed    int64      `json:"webhooks_missed"`
	Reader    string     `json:"reader,omitempty"`
	Error     string     `json:"error,omitempty"`
	Failed    *time.Time `json:"failing_since,omitempty"`
	Restarts  int64      `json:"restarts"`
}

type waitsJSON struct {
	Waiting int64      `json:"waiting"`
	Paused  int64      `json:"paused"`
	Oldest  *time.Time `json:"oldest,omitempty"`
}

type statusFailingJSON struct {
	Track store.Track          `json:"track"`
	Kind  directory.ChangeKind `json:"kind"`
	Count int64                `json:"count"`
	Error string               `json:"error"`
	Since time.Time            `json:"since"`
}

type brokenJSON struct {
	Binding string `json:"binding"`
	Error   string `json:"error"`
}

type deadTallyJSON struct {
	Source   string     `json:"source"`
	Class    string     `json:"class"`
	Count    int64      `json:"count"`
	Deferred int64      `json:"deferred"`
	Oldest   *time.Time `json:"oldest,omitempty"`
}

type endedJSON struct {
	Source    string     `json:"source"`
	Directory string     `json:"directory"`
	Name      string     `json:"name,omitempty"`
	Since     *time.Time `json:"since,omitempty"`
}

type heldLinksJSON struct {
	Source    string          `json:"source"`
	Directory string          `json:"directory"`
	State     store.LinkState `json:"state"`
	Count     int             `json:"count"`
	Since     time.Time       `json:"since"`
}

type probesJSON struct {
	Dirty   int `json:"dirty"`
	Unknown int `json:"unknown"`
}

type secretAgeJSON struct {
	Name    string     `json:"name"`
	Version string     `json:"version"`
	Created *time.Time `json:"created,omitempty"` // absent when it is not known
}

type statusInventoryJSON struct {
	Orphans     int `json:"orphans"`
	Reactivated int `json:"reactivated"`
	Extra       int `json:"extra_memberships"`
	Missing     int `json:"missing"`
	Unknown     int `json:"unknown"`
}

// each makes a list that is never null.
func each[T, U any](list []T, of func(T) U) []U {
	out := make([]U, 0, len(list))
	for _, v := range list {
		out = append(out, of(v))
	}
	return out
}

func newStatusJSON(l status.Look, v status.Verdict) statusJSON {
	out := statusJSON{
		Verdict: v.Color, At: l.At, Environment: l.Environment, Probes: probesJSON(l.Probes), Backlog: map[string]waitsJSON{},
		Reasons:     each(v.Reasons, func(r status.Reason) reasonJSON { return reasonJSON(r) }),
		Unseen:      each(l.Unseen, func(u status.Unseen) unseenJSON { return unseenJSON(u) }),
		Directories: each(l.Directories, func(d store.DirectoryTally) statusDirectoryJSON { return newStatusDirectory(l, d) }),
		Leavers:     each(l.Leavers, func(d store.Leavers) leaversJSON { return newLeavers(l, d) }),
		Polls:       each(l.Polls, newStatusPoll),
		Failing:     each(l.Backlog.Failing, func(f store.Failing) statusFailingJSON { return statusFailingJSON(f) }),
		Broken:      each(l.Broken, func(b status.Broken) brokenJSON { return brokenJSON{Binding: b.Binding, Error: b.Why} }),
		Dead: each(l.Dead, func(d store.DeadTally) deadTallyJSON {
			return deadTallyJSON{Source: d.Source, Class: d.Class, Count: d.Count, Deferred: d.Deferred, Oldest: optional(d.Oldest)}
		}),
		Ended: each(l.Ended, func(e status.Ended) endedJSON {
			return endedJSON{Source: e.Source, Directory: e.Directory, Name: e.Name, Since: optional(e.Since)}
		}),
		Links: each(l.Links, func(h status.HeldLinks) heldLinksJSON {
			return heldLinksJSON{Source: h.Source, Directory: h.Directory, State: h.State, Count: h.Count, Since: h.Since}
		}),
		Secrets: each(l.Secrets, func(s status.Secret) secretAgeJSON {
			return secretAgeJSON{Name: s.Name, Version: s.Version, Created: optional(s.Created)}
		}),
	}
	if q := l.Queue; q.Backend != "" {
		out.Queue = &statusQueueJSON{Backend: q.Backend, Depth: q.Depth, Oldest: optional(q.Oldest), Durability: q.Durability, Error: q.Err}
	}
	for _, t := range []store.Track{store.Bound, store.Posted} {
		out.Backlog[string(t)] = waitsJSON{Waiting: l.Backlog.Waiting[t], Paused: l.Backlog.Paused[t], Oldest: optional(l.Backlog.Oldest[t])}
	}
	if i := l.Inventory; i != nil {
		out.Inventory = &statusInventoryJSON{Orphans: i.Orphans, Reactivated: i.Reactivated, Extra: i.Extra, Missing: i.Missing, Unknown: i.Unknown}
	}
	return out
}

func newStatusDirectory(l status.Look, d store.DirectoryTally) statusDirectoryJSON {
	out := statusDirectoryJSON{Source: d.Source, Directory: d.Directory, Name: d.Name, State: stateOf(d), Mode: d.Mode, Accounts: d.Accounts, Active: d.Active}
	if i := slices.IndexFunc(l.Lags, func(g store.Lag) bool { return g.Scope == d.Scope }); i >= 0 {
		g := l.Lags[i]
		out.Heard, out.Received, out.Folded, out.Bound = optional(g.Heard), newSpan(g.Received), newSpan(g.Folded), newSpan(g.Bound)
	}
	for _, run := range l.Runs {
		if run.Scope != d.Scope || !run.Complete {
			continue
		}
		out.Compared, out.Drift = optional(run.Ended), map[store.DriftKind]statusDriftJSON{}
		for kind, n := range run.Kinds {
			out.Drift[kind] = statusDriftJSON{Found: n.Found, Open: n.Asked + n.Held}
		}
	}
	return out
}

func newSpan(s store.Span) spanJSON {
	return spanJSON{Count: s.Recent, Median: s.Median.Seconds(), Most: s.Most.Seconds(), Worst: s.Worst.Seconds()}
}

func newLeavers(l status.Look, d store.Leavers) leaversJSON {
	out := leaversJSON{Source: d.Source, Directory: d.Directory, Done: d.Done, Median: d.Median.Seconds(), Waiting: d.Waiting}
	if d.Done > 0 {
		out.Worst = newLeaver(l, d.Worst)
	}
	if d.Waiting > 0 {
		out.Oldest = newLeaver(l, d.Oldest)
	}
	return out
}

func newLeaver(l status.Look, w store.Leaver) *leaverJSON {
	return &leaverJSON{
		Account: w.Account, Email: w.Email, Event: w.Event, Occurred: optional(w.Occurred), Received: optional(w.Received), Folded: w.Folded, Bound: optional(w.Bound),
		Took: w.Took(l.At).Seconds(),
	}
}

func newStatusPoll(p store.Poll) statusPollJSON {
	out := statusPollJSON{
		Source: p.Source, Watermark: optional(p.Watermark), CaughtUp: optional(p.CaughtUp), Cursor: p.After, Missed: p.Missed,
		Error: p.Error, Failed: optional(p.Failed), Restarts: p.Restarts,
	}
	if p.Held() {
		out.Reader = p.Holder
	}
	return out
}
