package simulator

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Traffic is what happens in a World by itself: joiners, movers and leavers, over so many days. It is drawn at the beginning when
// something happens, and what it is only then.
//
// It belongs to one goroutine. The world may be acted on meanwhile, but then the seed does not repeat.
type Traffic struct {
	world  *World
	random *rand.Rand
	at     []time.Duration // ascending, within the days
	next   int
}

// NewTraffic draws when something happens: about as often a day as perDay says, more by day than by night.
func NewTraffic(world *World, days int, perDay float64, seed uint64) *Traffic {
	t := &Traffic{world: world, random: rand.New(rand.NewPCG(seed, 53))}
	for range int(float64(days) * perDay) {
		hour := 8 + 9*t.random.Float64()
		if t.random.IntN(5) == 0 {
			hour = 24 * t.random.Float64()
		}
		t.at = append(t.at, time.Duration(t.random.IntN(days))*24*time.Hour+time.Duration(hour*float64(time.Hour)))
	}
	slices.Sort(t.at)
	return t
}

// PerDay is how much happens a day among so many people: something to one in fifty, but no less than ten times.
func PerDay(people int) float64 { return max(10, float64(people)/50) }

// Len is how many times something happens in all; Done is how many times it did.
func (t *Traffic) Len() int { return len(t.at) }

// Done is how many times something happened so far.
func (t *Traffic) Done() int { return t.next }

// Next is when something happens next, from the beginning of the first day; false when that was all.
func (t *Traffic) Next() (time.Duration, bool) {
	if t.next == len(t.at) {
		return 0, false
	}
	return t.at[t.next], true
}

// Month connects a directory of so many people and groups, each in three groups, and plays so many days of traffic at once. The
// world's own clock goes through them.
func Month(w *World, people, groups, days int, seed uint64) {
	w.FirstSync(people, groups, 3)
	t, begun := NewTraffic(w, days, PerDay(people), seed), w.Now()
	for at, ok := t.Next(); ok; at, ok = t.Next() {
		w.Advance(begun.Add(at).Sub(w.Now()))
		t.Step()
	}
	w.Advance(max(0, begun.Add(time.Duration(days)*24*time.Hour).Sub(w.Now())))
}

// happenings are what may happen, and how often of 100 times.
var happenings = []struct {
	times int
	it    func(t *Traffic, directoryID string) bool
}{
	{16, (*Traffic).hire}, {22, (*Traffic).leave}, {5, (*Traffic).comeBack}, {5, (*Traffic).rehire}, {3, (*Traffic).recycle},
	{14, (*Traffic).join}, {14, (*Traffic).quit}, {6, (*Traffic).rename}, {4, (*Traffic).suspend}, {2, (*Traffic).purge},
	{2, (*Traffic).renameGroup}, {2, (*Traffic).openGroup}, {1, (*Traffic).deleteGroup}, {4, (*Traffic).emitTwice},
}

// Step makes the next thing happen, in a directory picked at random; nothing when there is none.
func (t *Traffic) Step() {
	t.next++
	directories := t.world.Directories()
	if len(directories) == 0 {
		return
	}
	for {
		roll, in := t.random.IntN(100), pick(t.random, directories)
		for _, h := range happenings {
			if roll -= h.times; roll < 0 {
				if h.it(t, in) {
					return
				}
				break
			}
		}
	}
}

func (t *Traffic) hire(in string) bool { return t.world.Hire(in, t.some(in)...) != "" }

// some are none to three groups.
func (t *Traffic) some(in string) (ids []string) {
	for range t.random.IntN(4) {
		if id := t.world.pickTeam(in, t.random); id != "" && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// leave is somebody leaving; now and then all memberships are taken away first.
func (t *Traffic) leave(in string) bool {
	who := t.world.pickActive(in, t.random)
	if t.random.IntN(5) == 0 {
		for _, g := range t.world.GroupsOf(who) {
			t.world.LeaveGroup(who, g)
		}
	}
	return t.world.Leave(who)
}

func (t *Traffic) comeBack(in string) bool { return t.world.Return(t.world.pickAway(in, t.random)) }

func (t *Traffic) rehire(in string) bool {
	return t.world.Rehire(t.world.pickAway(in, t.random), t.some(in)...) != ""
}

func (t *Traffic) recycle(in string) bool {
	return t.world.Recycle(t.world.pickAway(in, t.random), t.some(in)...) != ""
}

// join is somebody entering a group; now and then it is somebody who is away.
func (t *Traffic) join(in string) bool {
	return t.world.JoinGroup(t.somebody(in), t.world.pickTeam(in, t.random))
}

func (t *Traffic) quit(in string) bool {
	who := t.somebody(in)
	return t.world.LeaveGroup(who, pick(t.random, t.world.GroupsOf(who)))
}

func (t *Traffic) somebody(in string) string {
	if t.random.IntN(10) == 0 {
		return t.world.pickAway(in, t.random)
	}
	return t.world.pickActive(in, t.random)
}

func (t *Traffic) rename(in string) bool {
	return t.world.Rename(t.world.pickActive(in, t.random), pick(t.random, lastNames))
}

func (t *Traffic) suspend(in string) bool { return t.world.Suspend(t.world.pickActive(in, t.random)) }

func (t *Traffic) purge(in string) bool { return t.world.Delete(t.world.pickAway(in, t.random)) }

func (t *Traffic) renameGroup(in string) bool {
	return t.world.RenameGroup(t.world.pickTeam(in, t.random), t.title())
}

func (t *Traffic) openGroup(in string) bool { return t.world.OpenGroup(in, t.title()) != "" }

func (t *Traffic) title() string {
	return fmt.Sprintf("%s %d", pick(t.random, groupNames), 1+t.random.IntN(100))
}

func (t *Traffic) deleteGroup(in string) bool {
	return t.world.DeleteGroup(t.world.pickTeam(in, t.random))
}

func (t *Traffic) emitTwice(string) bool { return t.world.DoubleEmit() }

// pickActive returns the id of somebody active, or "".
func (w *World) pickActive(directoryID string, random *rand.Rand) string {
	return w.pick(directoryID, func(r *realm) string { return cmp.Or(pick(random, r.present), nobody).id })
}

// pickAway returns the id of the last record of somebody who is not active, or "".
func (w *World) pickAway(directoryID string, random *rand.Rand) string {
	return w.pick(directoryID, func(r *realm) string { return cmp.Or(pick(random, r.away), nobody).id })
}

// pickTeam returns the id of a group, or "".
func (w *World) pickTeam(directoryID string, random *rand.Rand) string {
	return w.pick(directoryID, func(r *realm) string { return cmp.Or(pick(random, r.live), &team{}).id })
}

var nobody = &user{}

func (w *World) pick(directoryID string, one func(*realm) string) string {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if r := w.realm(directoryID); r != nil {
		return one(r)
	}
	return ""
}
