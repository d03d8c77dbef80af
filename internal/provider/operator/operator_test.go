package operator_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/provider/operator"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 123456000, time.UTC)

func decided(eventType string) operator.Event {
	return operator.Event{
		ID: operator.NewID(noon), Type: eventType, Directory: "directory_1", Organization: "org_1", Occurred: noon, By: "olga", Reason: "the contract ended",
	}
}

func leaver() operator.Event {
	e := decided(operator.AccountDeprovisioned)
	e.User = &operator.Person{ID: "user_ada", IDPID: "idp-ada", Profile: directory.Profile{Email: "ada@example.com", Attributes: map[string]string{"role": "admin"}}}
	return e
}

func TestEventIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	for _, e := range []operator.Event{decided(operator.Hold), decided(operator.Deprovision), decided(operator.Release), leaver()} {
		body, err := e.Body()
		if err != nil {
			t.Fatalf("%s: Body() = %v", e.Type, err)
		}
		got, err := operator.Decode(body)
		if diff := cmp.Diff(e, got); err != nil || diff != "" {
			t.Errorf("Decode(%s) = %v; written (-), read (+):\n%s", body, err, diff)
		}
	}
}

func TestDecisionMeansWhatItIsCalled(t *testing.T) {
	t.Parallel()
	for eventType, want := range map[string]directory.Decision{
		operator.Hold: directory.DecisionKeep, operator.Deprovision: directory.DecisionDeprovision, operator.Release: directory.DecisionRelease,
	} {
		e := decided(eventType).In("workos")
		if e.Subject != directory.SubjectDecision || e.Decision != want || e.Removes || operator.Decision(eventType) != want {
			t.Errorf("%s: %+v, want decision %q", eventType, e, want)
		}
	}
}

func TestDeprovisionedAccountIsARemovalThatKeepsWhatIsKnown(t *testing.T) {
	t.Parallel()
	want := &directory.Event{
		Source: "workos", Type: operator.AccountDeprovisioned, Directory: "directory_1", Organization: "org_1", Occurred: noon,
		Subject: directory.SubjectUser, Removes: true, User: &directory.Person{
			ID: "user_ada", IDPID: "idp-ada", State: "deprovisioned",
			Profile: directory.Profile{Email: "ada@example.com", Attributes: map[string]string{"role": "admin"}},
		},
	}
	e := leaver()
	want.ID = e.ID
	if diff := cmp.Diff(want, e.In("workos")); diff != "" {
		t.Errorf("In(): want (-), got (+):\n%s", diff)
	}
}

func TestWhatIsNoOperatorsEventIsRefusedAndTheReasonIsSaid(t *testing.T) {
	t.Parallel()
	body := func(e operator.Event) string {
		b, err := e.Body()
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	good := body(decided(operator.Hold))
	for name, c := range map[string]struct{ body, want string }{
		"nothing":              {"", "the body is empty"},
		"no JSON":              {"decide!", "no operator's event"},
		"a webhook":            {`{"id":"event_1","event":"dsync.user.deleted","data":{}}`, `unknown field "data"`},
		"two":                  {good + good, "something follows it"},
		"a newer form":         {strings.Replace(good, `"version":1`, `"version":2,"more":[]`, 1), "its form is version 2"},
		"no form":              {strings.Replace(good, `"version":1`, `"version":0`, 1), "no version"},
		"another type":         {strings.Replace(good, operator.Hold, "rollcall.directory.explode", 1), "no such event"},
		"no operator":          {strings.Replace(good, `"olga"`, `""`, 1), "no operator"},
		"no reason":            {strings.Replace(good, `"the contract ended"`, `""`, 1), "no reason"},
		"no directory":         {strings.Replace(good, `"directory_1"`, `""`, 1), "no directory id"},
		"no time":              {strings.Replace(good, noon.Format(time.RFC3339Nano), "0001-01-01T00:00:00Z", 1), "no usable time"},
		"an account of none":   {strings.Replace(good, operator.Hold, operator.AccountDeprovisioned, 1), "no user"},
		"a directory with":     {strings.Replace(body(leaver()), operator.AccountDeprovisioned, operator.Hold, 1), "a user in a decision"},
		"a user without id":    {strings.Replace(body(leaver()), `"user_ada"`, `""`, 1), "no user id"},
		"a reason that is not": {strings.Replace(good, "the contract ended", strings.Repeat("x", 3000), 1), "the reason is longer than"},
	} {
		if _, err := operator.Decode([]byte(c.body)); !errors.Is(err, directory.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: Decode() = %v, want ErrInvalid with %q", name, err, c.want)
		}
	}
}

func TestIDsSortAsTheirTimesDoAndNeverRepeat(t *testing.T) {
	t.Parallel()
	var ids []string
	for ms := range 1000 {
		ids = append(ids, operator.NewID(noon.Add(time.Duration(ms)*time.Millisecond)))
	}
	if !slices.IsSorted(ids) || len(slices.Compact(slices.Clone(ids))) != 1000 {
		t.Error("ids of later times do not sort behind, or repeat")
	}
	if got, ok := directory.ULIDTime(ids[0]); !ok || !got.Equal(noon.Truncate(time.Millisecond)) {
		t.Errorf("the time in %s is %s, want %s", ids[0], got, noon)
	}
	if first, second := operator.NewID(noon), operator.NewID(noon); first == second {
		t.Error("two ids of one time are the same")
	}
}

func FuzzDecode(f *testing.F) {
	for _, e := range []operator.Event{decided(operator.Hold), leaver()} {
		body, _ := e.Body()
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := operator.Decode(body)
		if err != nil {
			return
		}
		again, err := e.Body()
		if err != nil {
			t.Fatalf("Decode took what Body refuses: %v", err)
		}
		if err := e.In("workos").Validate(); err != nil {
			t.Errorf("Decode(%q) gave an event that is invalid: %v, then %q", body, err, again)
		}
	})
}
