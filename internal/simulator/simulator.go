// Package simulator is a directory that misbehaves: people join, move, leave and come back in it, and it tells of them
// as WorkOS does, twice, late and out of order.
//
// A [Directory] makes up what happens and remembers what must be true afterwards, by a state of its own that knows
// nothing of how the events are folded. A [World] is a whole provider: what happens is said to it, or is the [Traffic] of
// a month; it keeps the log of all that it told, and an [API] answers for it. A [Sender] carries deliveries to a receiver,
// over a network of its own making.
package simulator

import (
	"math/rand/v2"
	"time"
)

// Config says what to simulate. Its zero value is one small, empty directory whose clock begins now.
type Config struct {
	Seed        uint64 // the same seed, with the same Start, gives the same deliveries
	Source      string // the name of the source that will receive them; "" is "workos"
	Directories int    // each of one organization; 0 is 1
	People      int    // in each directory at the start
	Groups      int    // in each directory at the start; 0 is 4

	// Start and Step are a clock that is made up: each happening is Step later than the one before. Receivers put off
	// what lies in the future, so that Start has to be early enough. A zero Start is now; a zero Step is 1 ms.
	Start time.Time
	Step  time.Duration

	// Now, if set, is the clock instead, for whoever watches it live. Two happenings are still at least 1 ms apart.
	Now func() time.Time
}

// Delivery is one webhook, ready to be signed.
type Delivery struct {
	ID        string // of the event
	Type      string // "dsync.user.created"
	Directory string // its id
	Occurred  time.Time
	Body      []byte
	Summary   string // "Ada Lovelace joined Engineering"
}

// Directory is one or several directories, a company each. It belongs to one goroutine.
//
// Each of its methods that is named for a happening makes one happen in a company picked at random, and returns the
// deliveries that it causes, in order; none when there is nobody, or nothing, that it could happen to.
type Directory struct {
	config Config
	random *rand.Rand
	ids    ulids
	now    time.Time // of the last happening, to the ms
	all    []*company
	out    []Delivery // of the happening under way
}

// New founds the companies, and returns the deliveries of the first sync: each directory is activated, and all groups,
// people and memberships in it are announced.
func New(config Config) (*Directory, []Delivery) {
	if config.Source == "" {
		config.Source = "workos"
	}
	if config.Groups == 0 {
		config.Groups = 4
	}
	if config.Start.IsZero() {
		config.Start = time.Now()
	}
	if config.Now != nil || config.Step < time.Millisecond {
		config.Step = time.Millisecond
	}
	d := &Directory{config: config, random: rand.New(rand.NewPCG(config.Seed, 31)), now: config.Start.UTC().Truncate(time.Millisecond)}
	d.ids = ulids{random: rand.New(rand.NewPCG(config.Seed, 37))}
	for n := range max(config.Directories, 1) {
		d.tick()
		d.all = append(d.all, d.found(n))
	}
	return d, d.take()
}

// tick moves the clock to the next happening. All events of a happening have one time, as they often do at WorkOS.
func (d *Directory) tick() {
	d.now = d.now.Add(d.config.Step)
	if d.config.Now == nil {
		return
	}
	if now := d.config.Now().UTC().Truncate(time.Millisecond); now.After(d.now) {
		d.now = now
	}
}

func (d *Directory) take() []Delivery {
	out := d.out
	d.out = nil
	return out
}

// happen lets it happen in a random company, or in the first one after it where it can.
func (d *Directory) happen(it func(c *company)) []Delivery {
	d.tick()
	first := d.random.IntN(len(d.all))
	for i := range d.all {
		if it(d.all[(first+i)%len(d.all)]); len(d.out) > 0 {
			break
		}
	}
	return d.take()
}

// Join is a newcomer, in one group or two. Now and then it is a namesake of somebody who left, and gets the address.
func (d *Directory) Join() []Delivery { return d.happen((*company).join) }

// Move is somebody changing groups: out of one, into another, or both. Now and then that person is away.
func (d *Directory) Move() []Delivery { return d.happen((*company).move) }

// Leave is somebody leaving: deleted, or made inactive; with all memberships taken away first, or with no word of them.
func (d *Directory) Leave() []Delivery { return d.happen((*company).leave) }

// Suspend is somebody who is suspended.
func (d *Directory) Suspend() []Delivery { return d.happen((*company).suspend) }

// Purge is the deletion of somebody who had been suspended or made inactive.
func (d *Directory) Purge() []Delivery { return d.happen((*company).purge) }

// Return is somebody coming back under the same id, into the groups that were never taken away.
func (d *Directory) Return() []Delivery { return d.happen((*company).comeBack) }

// Rehire is somebody coming back under a new id with the old idp_id. No group of the old id counts for the new one. Now
// and then the old id is deleted only then.
func (d *Directory) Rehire() []Delivery { return d.happen((*company).rehire) }

// Rename is somebody who takes another last name, and so another address.
func (d *Directory) Rename() []Delivery { return d.happen((*company).rename) }

// NewGroup is a new group, or one that was deleted and comes back under its id, without its members.
func (d *Directory) NewGroup() []Delivery { return d.happen((*company).newGroup) }

// RenameGroup is a group getting another name.
func (d *Directory) RenameGroup() []Delivery { return d.happen((*company).renameGroup) }

// DeleteGroup is the end of a group. There is no word of its members.
func (d *Directory) DeleteGroup() []Delivery { return d.happen((*company).deleteGroup) }

// days is how often each happening happens, of 100 times.
var days = []struct {
	times int
	it    func(*company)
}{
	{14, (*company).join}, {7, (*company).comeBack}, {5, (*company).rehire}, // as many come
	{20, (*company).leave}, {6, (*company).suspend}, {2, (*company).purge}, // as go
	{26, (*company).move}, {12, (*company).rename},
	{3, (*company).newGroup}, {3, (*company).renameGroup}, {2, (*company).deleteGroup},
}

// Step makes something happen, whatever it is. It always returns deliveries.
func (d *Directory) Step() []Delivery {
	for {
		roll := d.random.IntN(100)
		for _, day := range days {
			if roll -= day.times; roll >= 0 {
				continue
			}
			if out := d.happen(day.it); len(out) > 0 {
				return out
			}
			break
		}
	}
}
