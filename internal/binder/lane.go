package binder

import (
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

// next returns the place of the change of a lane that is to be done next, or -1 when nothing can be done at this time. The
// changes are all that wait in the lane, by sequence.
//
// They are done in order. One that failed is tried again when its time has come, and until then only removals pass it; one
// that has not failed does even then.
// One that a later removal makes moot is not done at all: it waits for the removal, and is skipped with it.
func next(changes []store.WaitingChange, now time.Time) int {
	if i := inOrder(changes, now, false); i >= 0 && fresh(changes[i]) {
		return i
	}
	return inOrder(changes, now, true)
}

// fresh reports whether a change is a removal that has not failed.
func fresh(c store.WaitingChange) bool { return c.Kind.Removes() && c.Attempts == 0 }

// inOrder is next; without again, as if what failed were not to be tried at this time.
func inOrder(changes []store.WaitingChange, now time.Time, again bool) int {
	blocked := false
	for i, c := range changes {
		switch {
		case superseded(changes, i) >= 0:
		case c.Next.After(now), c.Attempts > 0 && !again:
			blocked = true
		case !blocked || c.Kind.Removes():
			return i
		}
	}
	return -1
}

// class says what is to be done next in the lane, if anything is at this time.
func (l *lane) class(now time.Time) (class store.Class, waits bool) {
	if l == nil {
		return 0, false
	}
	i := next(l.changes, now)
	switch {
	case i < 0:
		return 0, false
	case fresh(l.changes[i]):
		return store.Removals, true
	case l.changes[i].Kind.Removes():
		return store.RemovalsAgain, true
	case l.failed():
		return store.OthersAgain, true
	default:
		return store.Others, true
	}
}

// superseded returns the place of the first removal that makes the i-th change moot, or -1.
func superseded(changes []store.WaitingChange, i int) int {
	for j := i + 1; j < len(changes); j++ {
		if moot(changes[i].Change, changes[j].Change) {
			return j
		}
	}
	return -1
}

// skipped returns the places of the changes that are moot once the i-th has taken effect.
func skipped(changes []store.WaitingChange, i int) (out []int) {
	for j := range i {
		if moot(changes[j].Change, changes[i].Change) {
			out = append(out, j)
		}
	}
	return out
}

// moot reports whether a change that has not taken effect wholly need not do so any more, for a later one of the same lane
// takes all that it gives. An earlier removal of the same thing is moot, too: were it tried afterwards, it would find
// nothing left to remove, and fail.
func moot(earlier, later directory.Change) bool {
	switch later.Kind {
	case directory.AccountDeactivated:
		switch earlier.Kind {
		case directory.AccountActivated, directory.AccountUpdated, directory.AccountDeactivated, directory.GrantAdded, directory.RoleAdded:
			return true
		default:
			return false
		}
	case directory.GrantRevoked:
		return (earlier.Kind == directory.GrantAdded || earlier.Kind == directory.GrantRevoked) && earlier.Group == later.Group
	case directory.RoleRevoked:
		return (earlier.Kind == directory.RoleAdded || earlier.Kind == directory.RoleRevoked) && earlier.Role == later.Role
	default:
		return false
	}
}

// backoff is how long a change waits that failed so many times before this one.
func backoff(first, longest time.Duration, failures int) time.Duration {
	d := first
	for range failures {
		if d *= 2; d >= longest || d <= 0 {
			return longest
		}
	}
	return min(d, longest)
}
