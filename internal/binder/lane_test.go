package binder

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

// now is when the lanes of these tests are looked at.
var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// waits is a change of an account that waits; what is a group or a role.
func waits(kind directory.ChangeKind, what ...string) store.WaitingChange {
	c := store.WaitingChange{}
	c.Kind, c.Account = kind, "ada"
	for _, name := range what {
		if kind == directory.RoleAdded || kind == directory.RoleRevoked {
			c.Role = name
		} else {
			c.Group = name
		}
	}
	return c
}

// failing is a change that failed and is to be tried again so long after now.
func failing(c store.WaitingChange, after time.Duration) store.WaitingChange {
	c.Attempts, c.Next = 1, now.Add(after)
	return c
}

const (
	activated   = directory.AccountActivated
	updated     = directory.AccountUpdated
	deactivated = directory.AccountDeactivated
	granted     = directory.GrantAdded
	revoked     = directory.GrantRevoked
	roleGiven   = directory.RoleAdded
	roleTaken   = directory.RoleRevoked
)

func TestTheNextChangeOfALane(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		lane []store.WaitingChange
		want int
	}{
		"nothing waits":                       {nil, -1},
		"the first":                           {[]store.WaitingChange{waits(activated), waits(granted, "g")}, 0},
		"not before its time":                 {[]store.WaitingChange{failing(waits(activated), time.Nanosecond)}, -1},
		"when its time has come":              {[]store.WaitingChange{failing(waits(activated), 0)}, 0},
		"nothing passes one that failed":      {[]store.WaitingChange{failing(waits(updated), 1), waits(granted, "g"), waits(roleGiven, "r")}, -1},
		"a deactivation passes it":            {[]store.WaitingChange{failing(waits(updated), 1), waits(deactivated)}, 1},
		"a revocation passes it":              {[]store.WaitingChange{failing(waits(updated), 1), waits(granted, "g"), waits(revoked, "h")}, 2},
		"a role that is taken passes it":      {[]store.WaitingChange{failing(waits(updated), 1), waits(roleTaken, "r")}, 1},
		"even when its time has come":         {[]store.WaitingChange{failing(waits(updated), 0), waits(granted, "g"), waits(revoked, "h")}, 2},
		"not one that failed itself":          {[]store.WaitingChange{failing(waits(updated), 0), failing(waits(revoked, "h"), 0)}, 0},
		"nor one behind another change":       {[]store.WaitingChange{waits(updated), waits(revoked, "h")}, 0},
		"a removal passes a removal":          {[]store.WaitingChange{failing(waits(revoked, "g"), 1), waits(revoked, "h")}, 1},
		"nothing else passes a removal":       {[]store.WaitingChange{failing(waits(deactivated), 1), waits(activated)}, -1},
		"one that is moot is not done":        {[]store.WaitingChange{waits(granted, "g"), waits(revoked, "g")}, 1},
		"not even when its time has come":     {[]store.WaitingChange{failing(waits(granted, "g"), 0), waits(revoked, "g")}, 1},
		"nor while its removal fails":         {[]store.WaitingChange{waits(granted, "g"), failing(waits(revoked, "g"), 1)}, -1},
		"what is between is":                  {[]store.WaitingChange{waits(granted, "g"), waits(updated), waits(revoked, "g")}, 1},
		"another group's is not moot":         {[]store.WaitingChange{waits(granted, "g"), waits(revoked, "h")}, 0},
		"another role's is not moot":          {[]store.WaitingChange{waits(roleGiven, "g"), waits(roleTaken, "h")}, 0},
		"a group is not a role":               {[]store.WaitingChange{waits(granted, "g"), waits(roleTaken, "g")}, 0},
		"all of a leaver's is moot":           {[]store.WaitingChange{waits(activated), waits(updated), waits(granted, "g"), waits(roleGiven, "r"), waits(deactivated)}, 4},
		"but what was taken before":           {[]store.WaitingChange{waits(activated), waits(revoked, "g"), waits(deactivated)}, 1},
		"of two deactivations the last":       {[]store.WaitingChange{waits(deactivated), waits(activated), waits(deactivated)}, 2},
		"a removal does not reach back":       {[]store.WaitingChange{waits(deactivated), waits(activated)}, 0},
		"a rejoiner after a failed leave":     {[]store.WaitingChange{failing(waits(deactivated), 0), waits(activated)}, 0},
		"a directory's end is no account's":   {[]store.WaitingChange{{ChangeRow: store.ChangeRow{Change: directory.Change{Kind: directory.GroupCreated}}}, {ChangeRow: store.ChangeRow{Change: directory.Change{Kind: directory.GroupEnded}}}}, 0},
		"its time is not that of the removal": {[]store.WaitingChange{failing(waits(activated), 1), waits(granted, "g"), failing(waits(revoked, "h"), 0)}, 2},
	} {
		if got := next(c.lane, now); got != c.want {
			t.Errorf("%s: next = %d, want %d", name, got, c.want)
		}
	}
}

func TestARemovalSkipsWhatItMakesMoot(t *testing.T) {
	t.Parallel()
	lane := []store.WaitingChange{
		waits(activated), waits(revoked, "h"), waits(granted, "g"), waits(roleTaken, "r"), waits(roleGiven, "s"), waits(deactivated), waits(activated), waits(deactivated),
	}
	for i, want := range map[int][]int{0: nil, 1: nil, 5: {0, 2, 4}, 7: {0, 2, 4, 5, 6}} {
		if diff := cmp.Diff(want, skipped(lane, i)); diff != "" {
			t.Errorf("skipped(lane, %d) (-want +got):\n%s", i, diff)
		}
	}
}

func TestRetriesDoubleUpToTheLongest(t *testing.T) {
	t.Parallel()
	for failures, want := range map[int]time.Duration{0: time.Second, 1: 2 * time.Second, 5: 32 * time.Second, 8: 256 * time.Second, 9: 5 * time.Minute, 1000: 5 * time.Minute} {
		if got := backoff(time.Second, 5*time.Minute, failures); got != want {
			t.Errorf("backoff after %d failures = %s, want %s", failures, got, want)
		}
	}
}
