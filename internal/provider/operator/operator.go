// Package operator knows what operators decide: how a decision is written down as an event of our own, and how it is read.
//
// Such an event goes through the queue like any other, and only the way it came tells it apart: a body of this form that
// arrives as a webhook is the provider's, and is read as that.
package operator

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
)

// The types of operators' events.
const (
	Hold                 = "rollcall.directory.hold"        // the directory's end does not count
	Deprovision          = "rollcall.directory.deprovision" // it counts: its accounts and grants end
	Release              = "rollcall.directory.release"     // the decision is taken back: the configured policy counts again
	AccountDeprovisioned = "rollcall.account.deprovisioned" // one account ends
)

// State is what the account of AccountDeprovisioned is said to be.
const State = "deprovisioned"

var decisions = map[string]directory.Decision{
	Hold: directory.DecisionKeep, Deprovision: directory.DecisionDeprovision, Release: directory.DecisionRelease,
}

// Decision is what a type of event decides of a directory; DecisionNone when it is about an account.
func Decision(eventType string) directory.Decision { return decisions[eventType] }

// Event is an operator's decision.
type Event struct {
	ID           string // made by NewID; unique
	Type         string
	Directory    string
	Organization string
	Occurred     time.Time // µs; later than all it decides on
	By           string    // the operator
	Reason       string
	User         *Person // of AccountDeprovisioned; nil of the others
}

// Person is whose account is deprovisioned: the user that governs it, and what is known of them, which stays.
type Person struct {
	ID    string `json:"id"`
	IDPID string `json:"idp_id,omitempty"`
	directory.Profile
}

// form is the JSON of an event. Version is that of the form: a reader refuses one that it does not know.
type form struct {
	Version      int       `json:"version"`
	ID           string    `json:"id"`
	Event        string    `json:"event"`
	Occurred     time.Time `json:"occurred_at"`
	Directory    string    `json:"directory_id"`
	Organization string    `json:"organization_id,omitempty"`
	By           string    `json:"by"`
	Reason       string    `json:"reason"`
	User         *Person   `json:"user,omitempty"`
}

const formVersion = 1

// NewID is "operator_" and a ULID of the time: 48 bits of Unix ms, then 80 random ones, in Crockford's base 32. Ids sort as
// their times do.
func NewID(at time.Time) string {
	const alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	var raw [16]byte
	binary.BigEndian.PutUint64(raw[:8], uint64(max(at.UnixMilli(), 0))<<16)
	_, _ = rand.Read(raw[6:]) // never fails
	var out [26]byte
	high, low := binary.BigEndian.Uint64(raw[:8]), binary.BigEndian.Uint64(raw[8:])
	for i := len(out) - 1; i >= 0; i-- {
		out[i] = alphabet[low&31]
		low = low>>5 | high<<59
		high >>= 5
	}
	return idPrefix + string(out[:])
}

const idPrefix = "operator_"

// IsID reports that the event of the id is an operator's.
func IsID(id string) bool { return strings.HasPrefix(id, idPrefix) }

// Body is the event as Decode reads it. The error wraps directory.ErrInvalid and says what the event lacks.
func (e Event) Body() ([]byte, error) {
	if err := e.validate(); err != nil {
		return nil, err
	}
	return json.Marshal(form{
		Version: formVersion, ID: e.ID, Event: e.Type, Occurred: e.Occurred.UTC().Truncate(time.Microsecond),
		Directory: e.Directory, Organization: e.Organization, By: e.By, Reason: e.Reason, User: e.User,
	})
}

// Decode reads an operator's event. An error wraps directory.ErrInvalid; the event that comes with it has what could be
// read of its id, type and directory. It never panics.
func Decode(body []byte) (Event, error) {
	var f form
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	err := d.Decode(&f)
	if err == nil && d.More() {
		err = errors.New("something follows it")
	}
	e := Event{
		ID: f.ID, Type: f.Event, Directory: f.Directory, Organization: f.Organization, Occurred: f.Occurred, By: f.By, Reason: f.Reason, User: f.User,
	}
	switch {
	case f.Version > formVersion:
		return e, fmt.Errorf("%w: its form is version %d; this binary knows %d and older ones", directory.ErrInvalid, f.Version, formVersion)
	case errors.Is(err, io.EOF):
		return e, fmt.Errorf("%w: the body is empty", directory.ErrInvalid)
	case err != nil:
		return e, fmt.Errorf("%w: the body is no operator's event: %w", directory.ErrInvalid, err)
	case f.Version < 1:
		return e, fmt.Errorf("%w: no version", directory.ErrInvalid)
	}
	return e, e.validate()
}

// In is the event as the fold takes it, of a directory of the source.
func (e Event) In(source string) *directory.Event {
	out := &directory.Event{
		Source: source, ID: e.ID, Type: e.Type, Directory: e.Directory, Organization: e.Organization, Occurred: e.Occurred,
	}
	if e.User == nil {
		out.Subject, out.Decision = directory.SubjectDecision, decisions[e.Type]
		return out
	}
	out.Subject, out.Removes = directory.SubjectUser, true
	out.User = &directory.Person{ID: e.User.ID, IDPID: e.User.IDPID, State: State, Profile: e.User.Profile}
	return out
}

// Why says who decided, and why, for the ledger.
func (e Event) Why() string { return "by " + e.By + ": " + e.Reason }

// validate reports what the event lacks. What it is about is checked by directory.Event.Validate.
func (e Event) validate() error {
	switch _, decides := decisions[e.Type]; {
	case e.Type == AccountDeprovisioned && e.User == nil:
		return fmt.Errorf("%w: no user", directory.ErrInvalid)
	case decides && e.User != nil:
		return fmt.Errorf("%w: a user in a decision on a directory", directory.ErrInvalid)
	case !decides && e.Type != AccountDeprovisioned:
		return fmt.Errorf("%w: operators have no such event", directory.ErrInvalid)
	}
	for _, c := range []struct {
		name, value string
		limit       int
	}{{"operator", e.By, directory.MaxID}, {"reason", e.Reason, directory.MaxText - 2*directory.MaxID}} {
		if c.value == "" {
			return fmt.Errorf("%w: no %s", directory.ErrInvalid, c.name)
		}
		if directory.Text(c.value, c.limit) != c.value {
			return fmt.Errorf("%w: the %s is longer than %d bytes, or no plain text", directory.ErrInvalid, c.name, c.limit)
		}
	}
	return e.In("any").Validate()
}
