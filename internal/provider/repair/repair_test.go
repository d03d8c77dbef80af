package repair_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/provider/repair"
)

var at = time.Date(2026, 3, 1, 12, 0, 0, 123_456_000, time.UTC)

func event(eventType string) repair.Event {
	e := repair.Event{
		ID: repair.NewID("RUN", eventType, "someone"), Type: eventType, Directory: "directory_1", Organization: "org_1", Occurred: at, Why: "it is listed",
	}
	switch {
	case strings.Contains(eventType, ".directory."):
		e.Connection = &directory.Connection{Name: "Acme", Type: "okta scim v2.0", State: "linked"}
	case strings.Contains(eventType, ".user."):
		e.Updated = at.Add(-time.Hour)
		e.User = &directory.Person{
			ID: "user_1", IDPID: "idp-1", State: "active", Created: at.Add(-24 * time.Hour),
			Profile: directory.Profile{Email: "ada@example.com", FirstName: "Ada", Attributes: map[string]string{"role": "admin"}},
		}
	case strings.Contains(eventType, ".group."):
		e.Updated = at.Add(-time.Hour)
		e.Group = &directory.Team{ID: "group_1", IDPID: "g1", Name: "Engineering"}
	default:
		e.Membership = &directory.Membership{Group: "group_1", User: "user_1", GroupName: "Engineering"}
	}
	return e
}

func TestRepairsComeOutAsTheyWentInAndMeanWhatTheySay(t *testing.T) {
	t.Parallel()
	for eventType, want := range map[string]struct {
		subject directory.Subject
		removes bool
	}{
		repair.DirectoryListed: {directory.SubjectDirectory, false}, repair.UserListed: {directory.SubjectUser, false},
		repair.UserUnlisted: {directory.SubjectUser, true}, repair.GroupListed: {directory.SubjectGroup, false},
		repair.GroupUnlisted: {directory.SubjectGroup, true}, repair.MembershipListed: {directory.SubjectMembership, false},
		repair.MembershipUnlisted: {directory.SubjectMembership, true},
	} {
		e := event(eventType)
		body, err := e.Body()
		if err != nil {
			t.Errorf("Body(%s) = %v", eventType, err)
			continue
		}
		got, err := repair.Decode(body)
		if diff := cmp.Diff(e, got); err != nil || diff != "" {
			t.Errorf("Decode(%s) = %v, want (-), got (+):\n%s", body, err, diff)
		}
		in := got.In("workos")
		if err := in.Validate(); err != nil || in.Subject != want.subject || in.Removes != want.removes || in.Source != "workos" {
			t.Errorf("In(%s) = %+v (%v), want subject %s, removes %v", eventType, in, err, want.subject, want.removes)
		}
	}
}

func TestAListedUserWhoIsNotActiveLosesAccess(t *testing.T) {
	t.Parallel()
	for state, removes := range map[string]bool{"active": false, "inactive": true, "suspended": true, "": true, "Active": true} {
		e := event(repair.UserListed)
		e.User.State = state
		if got := e.In("workos").Removes; got != removes {
			t.Errorf("of state %q: removes %v, want %v", state, got, removes)
		}
	}
}

func TestWhatIsNoRepairIsRefused(t *testing.T) {
	t.Parallel()
	for what, change := range map[string]func(*repair.Event){
		"a type of somebody else's": func(e *repair.Event) { e.Type = "dsync.user.created" },
		"a type that nobody knows":  func(e *repair.Event) { e.Type = "rollcall.reconcile.kitten.listed" },
		"an id of somebody else's":  func(e *repair.Event) { e.ID = "event_1" },
		"no reason":                 func(e *repair.Event) { e.Why = "" },
		"about nothing":             func(e *repair.Event) { e.User = nil },
		"about two":                 func(e *repair.Event) { e.Group = &directory.Team{ID: "group_1"} },
		"no time":                   func(e *repair.Event) { e.Occurred = time.Time{} },
		"no directory":              func(e *repair.Event) { e.Directory = "" },
	} {
		e := event(repair.UserListed)
		change(&e)
		if _, err := e.Body(); !errors.Is(err, directory.ErrInvalid) {
			t.Errorf("Body of %s: %v, want directory.ErrInvalid", what, err)
		}
	}
	for what, body := range map[string]string{
		"nothing": "", "no JSON": "{", "a newer form": `{"version":2}`, "no version": `{}`, "more": `{"version":1} {}`, "an unknown field": `{"version":1,"x":1}`,
	} {
		if _, err := repair.Decode([]byte(body)); !errors.Is(err, directory.ErrInvalid) {
			t.Errorf("Decode of %s: %v, want directory.ErrInvalid", what, err)
		}
	}
}

func TestAnIDIsTheSameWithinARunAndOfNoOther(t *testing.T) {
	t.Parallel()
	one := repair.NewID("RUN", repair.UserListed, "u")
	if again := repair.NewID("RUN", repair.UserListed, "u"); again != one || !repair.IsID(one) {
		t.Errorf("NewID twice: %q and %q, want the same repair's id", one, again)
	}
	for _, other := range []string{repair.NewID("RUN2", repair.UserListed, "u"), repair.NewID("RUN", repair.UserUnlisted, "u"), repair.NewID("RUN", repair.UserListed, "v")} {
		if other == one {
			t.Errorf("two repairs share the id %q", one)
		}
	}
	if repair.IsID("operator_1") || repair.IsID("event_1") {
		t.Error("others' ids pass for repairs'")
	}
}
