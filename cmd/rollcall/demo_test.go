package main

import (
	"strings"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

func TestNoDeliveryIsToldAsARepetitionBeforeItWasToldItself(t *testing.T) {
	t.Parallel()
	code, out, talk := command(t, "demo", "--fast", "--happenings", "40", "--seed", "7")
	if code != exitOK {
		t.Fatalf("demo: exit code %d:\n%s%s", code, out, talk)
	}
	lines := strings.Split(out, "\n")
	told, repeated := map[string]bool{}, 0
	for i, line := range lines[:len(lines)-1] {
		if len(line) > 110 {
			t.Errorf("a line has %d columns, want 110 at most: %s", len(line), line)
		}
		what, isRepetition := strings.TrimSpace(lines[i+1]), strings.Contains(lines[i+1], "repeated: ")
		if _, delivery, isLine := strings.Cut(line, "  200  "); isLine {
			if isRepetition && !told[delivery] {
				t.Errorf("%s: it is told first as %q", delivery, what)
			}
			told[delivery] = true
		}
		if isRepetition {
			repeated++
		}
	}
	if repeated == 0 || len(told) < 40 {
		t.Errorf("%d deliveries are told and %d repetitions, want more", len(told), repeated)
	}
}

func TestTheDemonstrationSaysWhatAnEventDid(t *testing.T) {
	t.Parallel()
	grant := func(kind directory.ChangeKind, group string) store.ChangeRow {
		return store.ChangeRow{Change: directory.Change{Kind: kind, Group: group}}
	}
	lost := func(group string) store.ChangeRow { return grant(directory.GrantRevoked, group) }
	left := store.ChangeRow{Change: directory.Change{Kind: directory.AccountDeactivated}}
	now := time.Now()
	for want, c := range map[string]struct {
		outcome store.Outcome
		changes []store.ChangeRow
	}{
		"account.deactivated after 3ms":                                  {store.Applied, []store.ChangeRow{left}},
		"grant.revoked A after 3ms":                                      {store.Applied, []store.ChangeRow{lost("A")}},
		"account.deactivated; lost A, B after 3ms":                       {store.Applied, []store.ChangeRow{left, lost("B"), lost("A")}},
		"account.deactivated; lost A, B, C and 2 more after 3ms":         {store.Applied, []store.ChangeRow{left, lost("A"), lost("B"), lost("C"), lost("D"), lost("E")}},
		"group.ended A; lost A, 2 times after 3ms":                       {store.Applied, []store.ChangeRow{grant(directory.GroupEnded, "A"), lost("A"), lost("A")}},
		"gained B; lost A after 3ms":                                     {store.Applied, []store.ChangeRow{lost("A"), grant(directory.GrantAdded, "B")}},
		"superseded: something newer was known already, nothing is done": {store.Superseded, nil},
	} {
		if got := effectOf(store.Entry{Outcome: c.outcome, Received: now, Folded: now.Add(3 * time.Millisecond)}, c.changes); got != want {
			t.Errorf("effectOf(%v) = %q, want %q", c.changes, got, want)
		}
	}
	users := []directory.User{{ID: directory.ID{ID: "in"}, Active: true}, {ID: directory.ID{ID: "out"}}}
	for subject, want := range map[string]string{
		"group/nobody": "kept: the person is not known yet", "group/out": "kept: the person has no access",
		"group/in": "applied: nobody's access changes by it", "out": "applied: nobody's access changes by it",
	} {
		if got := withoutEffect(store.Entry{Subject: subject}, users); got != want {
			t.Errorf("withoutEffect of %s = %q, want %q", subject, got, want)
		}
	}
}
