package simulator

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
)

// WorldConfig says what kind of provider a [World] is. Its zero value is one without directories, whose clock begins now.
type WorldConfig struct {
	Seed    uint64  // the same seed, Start and acts give the same log, byte for byte
	Source  string  // the name of the source that will receive it; "" is "workos"
	Leavers Style   // what becomes of somebody who leaves; "" is StyleDeleted
	Double  float64 // share of events that the provider emits twice: again at once, under another id

	// Start and Step are a clock that is made up: each act is Step later than the one before, and [World.Advance] moves it.
	// A zero Start is now; a zero Step is 1 ms.
	Start time.Time
	Step  time.Duration

	// Now, if set, is the clock instead. Two acts are still at least 1 ms apart.
	Now func() time.Time
}

// Style is what a provider's environment makes of somebody who leaves.
type Style string

// The styles. Source: https://workos.com/docs/directory-sync/handle-inactive-users.
const (
	StyleDeleted  Style = "deleted"  // the default: dsync.user.deleted, and the record is gone
	StyleInactive Style = "inactive" // dsync.user.updated with state inactive, and the record stays
)

// World is a provider: its directories with all that is in them, and the log of what it told, in order. Each act is a
// method; it returns false, or "", and does nothing when there is nobody, or nothing, that it could happen to. Acts on
// what an ended directory holds do nothing either.
//
// A World may be used by many goroutines at once.
type World struct {
	config WorldConfig

	mu     sync.RWMutex // guards all that follows
	random *rand.Rand
	ids    ulids
	clock  time.Time // the made-up one
	now    time.Time // of the last act, to the ms

	directories []*realm // ascending by id, the ended too
	realms      map[string]*realm
	users       map[string]*user
	teams       map[string]*team

	log   log
	grown chan struct{} // closed when the log grows
}

// realm is a directory of a World and what is in it.
type realm struct {
	id, organization, name, kind, domain, external string
	idpID                                          func(r *rand.Rand, n int) string
	created, updated                               time.Time
	ended                                          bool

	people        map[string]*human
	users         []*user          // ascending by id, the deleted too
	present, away []*user          // who is active, and the last record of whoever is not; each user's place is its index
	teams         []*team          // ascending by id, the deleted too
	live          []*team          // in any order
	members, gone int              // edges, and deleted records
	holders       map[string]*user // address → who is present under it
	numbers       map[string]int   // address without a number → the last number that was used
}

// human is a person of a directory, through all records. The last of them governs.
type human struct {
	idp   string
	users []*user
}

func (h *human) last() *user { return h.users[len(h.users)-1] }

// user is one record of a person. What it says is replaced, never edited, so that the log may keep it.
type user struct {
	id    string
	realm *realm
	human *human
	place int // in present or away

	created time.Time
	says    *profile
	before  *profile // what it said before it was no longer active, nil until then
	teams   []*team  // ascending by id; what the directory means, though it may say nothing of it while the person is away
}

// profile is what a record says.
type profile struct {
	first, last, email, department, state string
	updated                               time.Time
}

func (p *profile) name() string { return p.first + " " + p.last }

// team is a group. Its title is replaced, never edited.
type team struct {
	id, idp string
	realm   *realm
	created time.Time
	says    *title
	ended   bool
	members []*user // ascending by id
}

type title struct {
	name    string
	updated time.Time
}

// NewWorld returns a provider without directories.
func NewWorld(config WorldConfig) *World {
	if config.Source == "" {
		config.Source = "workos"
	}
	if config.Leavers == "" {
		config.Leavers = StyleDeleted
	}
	if config.Start.IsZero() {
		config.Start = time.Now()
		if config.Now != nil {
			config.Start = config.Now()
		}
	}
	if config.Now != nil || config.Step < time.Millisecond {
		config.Step = time.Millisecond
	}
	start := config.Start.UTC().Truncate(time.Millisecond)
	return &World{
		config: config, clock: start, now: start,
		random: rand.New(rand.NewPCG(config.Seed, 41)), ids: ulids{random: rand.New(rand.NewPCG(config.Seed, 43))},
		realms: map[string]*realm{}, users: map[string]*user{}, teams: map[string]*team{}, grown: make(chan struct{}),
	}
}

// Now is the provider's clock. It is never before the last act.
func (w *World) Now() time.Time {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.present()
}

func (w *World) present() time.Time {
	now := w.clock
	if w.config.Now != nil {
		now = w.config.Now().UTC()
	}
	if now.Before(w.now) {
		return w.now
	}
	return now
}

// Advance moves a clock that is made up.
func (w *World) Advance(by time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clock = w.present().Add(by)
}

// act makes something happen, all of it at one time, as it often is at WorkOS.
func (w *World) act(it func() bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.log.len()
	w.tick()
	done := it()
	if w.log.len() > before {
		close(w.grown)
		w.grown = make(chan struct{})
	}
	return done
}

// tick moves the clock to the next act.
func (w *World) tick() {
	w.now = w.now.Add(w.config.Step)
	if now := w.present().Truncate(time.Millisecond); now.After(w.now) {
		w.now = now
	}
	if w.clock.Before(w.now) {
		w.clock = w.now
	}
}

// more is closed when the log is longer than n.
func (w *World) more(n int) <-chan struct{} {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if w.log.len() > n {
		closed := make(chan struct{})
		close(closed)
		return closed
	}
	return w.grown
}

// Events returns how long the log is.
func (w *World) Events() int {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.log.len()
}

// Deliveries yields the log's events from the n-th on, from 0, oldest first, as webhooks carry them; those that are added meanwhile, too.
// A World may be acted on while it goes.
func (w *World) Deliveries(n int) iter.Seq[Delivery] {
	return func(yield func(Delivery) bool) {
		for ; ; n++ {
			w.mu.RLock()
			more := n < w.log.len()
			var e entry
			if more {
				e = *w.log.at(n)
			}
			w.mu.RUnlock()
			if !more || !yield(e.delivery()) {
				return
			}
		}
	}
}

// Counts are how much there is in directories that did not end.
type Counts struct {
	Directories, Users, Active, Groups, Memberships int // Users are all records that are not deleted
}

// Counts counts.
func (w *World) Counts() (c Counts) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	for _, r := range w.directories {
		if r.ended {
			continue
		}
		c.Directories++
		c.Active += len(r.present)
		c.Groups += len(r.live)
		c.Memberships += r.members
		c.Users += len(r.users) - r.gone
	}
	return c
}

// Organization is whose a directory is; empty when there is no such directory.
func (w *World) Organization(directory string) string {
	w.mu.RLock()
	defer w.mu.RUnlock()
	for _, r := range w.directories {
		if r.id == directory {
			return r.organization
		}
	}
	return ""
}

// Directories returns the ids of those that did not end, oldest first.
func (w *World) Directories() []string {
	w.mu.RLock()
	defer w.mu.RUnlock()
	var ids []string
	for _, r := range w.directories {
		if !r.ended {
			ids = append(ids, r.id)
		}
	}
	return ids
}

// Active returns the ids of a directory's active users, oldest first.
func (w *World) Active(directoryID string) []string {
	return w.listed(directoryID, func(r *realm) []string { return idsOf(r.present, func(u *user) string { return u.id }) })
}

// Away returns the ids of the last records of a directory's people who are not active, oldest first.
func (w *World) Away(directoryID string) []string {
	return w.listed(directoryID, func(r *realm) []string { return idsOf(r.away, func(u *user) string { return u.id }) })
}

// Groups returns the ids of a directory's groups, oldest first.
func (w *World) Groups(directoryID string) []string {
	return w.listed(directoryID, func(r *realm) []string { return idsOf(r.live, func(t *team) string { return t.id }) })
}

func (w *World) listed(directoryID string, list func(*realm) []string) []string {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if r := w.realms[directoryID]; r != nil && !r.ended {
		return list(r)
	}
	return nil
}

func idsOf[T any](list []T, id func(T) string) []string {
	ids := make([]string, len(list))
	for i, one := range list {
		ids[i] = id(one)
	}
	slices.Sort(ids)
	return ids
}

// MembersOf returns the ids of a group's members, oldest first, those who are away too.
func (w *World) MembersOf(groupID string) []string {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if t := w.teams[groupID]; t != nil {
		return idsOf(t.members, func(u *user) string { return u.id })
	}
	return nil
}

// GroupsOf returns the ids of the groups that a user is in, oldest first.
func (w *World) GroupsOf(userID string) []string {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if u := w.users[userID]; u != nil {
		return idsOf(u.teams, func(t *team) string { return t.id })
	}
	return nil
}

// Truth is what must be true once the whole log was folded, each end of a directory held, as it is by default.
// It does not change with the world afterwards.
func (w *World) Truth() Expectation {
	w.mu.RLock()
	defer w.mu.RUnlock()
	e := Expectation{Source: w.config.Source, Accounts: map[directory.ID]Account{}, Groups: map[directory.ID]Group{}}
	for _, r := range w.directories {
		scope := directory.Scope{Source: w.config.Source, Directory: r.id}
		if r.ended {
			e.Ended = append(e.Ended, scope)
		}
		for _, t := range r.teams {
			e.Groups[directory.ID{Scope: scope, ID: t.id}] = Group{t.says.name, !t.ended}
		}
		for idp, h := range r.people {
			e.Accounts[directory.ID{Scope: scope, ID: accountKey(idp)}] = h.last().account()
		}
	}
	return e
}

func (u *user) account() Account {
	a := Account{Name: u.says.name(), Email: u.says.email, Active: u.says.state == active, Groups: map[string]string{}}
	if a.Active {
		for _, t := range u.teams {
			a.Groups[t.id] = t.says.name
		}
	}
	return a
}

// Deprovisioned is the same where the ends of directories take the access of all that was in them.
func (e Expectation) Deprovisioned() Expectation {
	accounts := make(map[directory.ID]Account, len(e.Accounts))
	for id, a := range e.Accounts {
		if slices.Contains(e.Ended, id.Scope) {
			a.Active, a.Groups = false, map[string]string{}
		}
		accounts[id] = a
	}
	e.Accounts = accounts
	return e
}

// String is a line for people.
func (c Counts) String() string {
	return fmt.Sprintf("%d directories, %d of %d people active, %d groups, %d memberships", c.Directories, c.Active, c.Users, c.Groups, c.Memberships)
}
