// Package repair knows how what a directory's own listing shows is written down as events of our own, and how they are read.
//
// Such an event goes through the queue like any other, and only the way it came tells it apart: a body of this form that
// arrives as a webhook is the provider's, and is read as that.
package repair

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
)

// The types of repairs. What is listed is asserted as it is listed; what is unlisted is taken away.
const (
	DirectoryListed    = "rollcall.reconcile.directory.listed"
	UserListed         = "rollcall.reconcile.user.listed" // a state that is not active takes access away
	UserUnlisted       = "rollcall.reconcile.user.unlisted"
	GroupListed        = "rollcall.reconcile.group.listed"
	GroupUnlisted      = "rollcall.reconcile.group.unlisted"
	MembershipListed   = "rollcall.reconcile.membership.listed"
	MembershipUnlisted = "rollcall.reconcile.membership.unlisted"
)

// State is what a user of UserUnlisted is said to be.
const State = "unlisted"

// active is the state that gives access; see directory.Person.
const active = "active"

// Event is a repair. Exactly one of Connection, User, Group and Membership is set, the one that Type is about.
type Event struct {
	ID           string // made by NewID; unique
	Type         string
	Directory    string
	Organization string
	Occurred     time.Time // µs: no later than the listing's beginning, so that what was said since counts
	Updated      time.Time // the object's own, as it is listed
	Why          string    // what the listing showed, and who agreed, for the ledger

	Connection *directory.Connection
	User       *directory.Person
	Group      *directory.Team
	Membership *directory.Membership
}

// form is the JSON of an event. Version is that of the form: a reader refuses one that it does not know.
type form struct {
	Version      int         `json:"version"`
	ID           string      `json:"id"`
	Event        string      `json:"event"`
	Occurred     time.Time   `json:"occurred_at"`
	Updated      *time.Time  `json:"updated_at,omitempty"`
	Directory    string      `json:"directory_id"`
	Organization string      `json:"organization_id,omitempty"`
	Why          string      `json:"why"`
	Connection   *connection `json:"directory,omitempty"`
	User         *person     `json:"user,omitempty"`
	Group        *team       `json:"group,omitempty"`
	Membership   *membership `json:"membership,omitempty"`
}

type connection struct {
	Name  string `json:"name,omitempty"`
	Type  string `json:"type,omitempty"`
	State string `json:"state,omitempty"`
}

type person struct {
	ID      string     `json:"id"`
	IDPID   string     `json:"idp_id,omitempty"`
	State   string     `json:"state,omitempty"`
	Created *time.Time `json:"created_at,omitempty"`
	directory.Profile
}

type team struct {
	ID    string `json:"id"`
	IDPID string `json:"idp_id,omitempty"`
	Name  string `json:"name,omitempty"`
}

type membership struct {
	Group     string `json:"group_id"`
	User      string `json:"user_id"`
	GroupName string `json:"group_name,omitempty"`
}

const formVersion = 1

const idPrefix = "reconcile_"

// NewID is the id of the repair of a subject within a run: a run that enqueues it again enqueues the same event. Run is
// nothing that a sender could guess, so that nobody can have an id seen before it is used.
func NewID(run, eventType, subject string) string {
	sum := sha256.Sum256([]byte(eventType + "\x00" + subject))
	return idPrefix + run + "_" + hex.EncodeToString(sum[:8])
}

// IsID reports that the event of the id is a repair.
func IsID(id string) bool { return strings.HasPrefix(id, idPrefix) }

// Body is the event as Decode reads it. The error wraps directory.ErrInvalid and says what the event lacks.
func (e Event) Body() ([]byte, error) {
	if err := e.validate(); err != nil {
		return nil, err
	}
	f := form{
		Version: formVersion, ID: e.ID, Event: e.Type, Occurred: micros(e.Occurred), Updated: optional(e.Updated),
		Directory: e.Directory, Organization: e.Organization, Why: e.Why,
		Connection: (*connection)(e.Connection), Group: (*team)(e.Group), Membership: (*membership)(e.Membership),
	}
	if u := e.User; u != nil {
		f.User = &person{ID: u.ID, IDPID: u.IDPID, State: u.State, Created: optional(u.Created), Profile: u.Profile}
	}
	return json.Marshal(f)
}

func micros(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

func optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = micros(t)
	return &t
}

func given(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

// Decode reads a repair. An error wraps directory.ErrInvalid; the event that comes with it has what could be read of its
// id, type and directory. It never panics.
func Decode(body []byte) (Event, error) {
	var f form
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	err := d.Decode(&f)
	if err == nil && d.More() {
		err = errors.New("something follows it")
	}
	e := Event{
		ID: f.ID, Type: f.Event, Directory: f.Directory, Organization: f.Organization, Occurred: f.Occurred.UTC(), Updated: given(f.Updated), Why: f.Why,
		Connection: (*directory.Connection)(f.Connection), Group: (*directory.Team)(f.Group), Membership: (*directory.Membership)(f.Membership),
	}
	if u := f.User; u != nil {
		e.User = &directory.Person{ID: u.ID, IDPID: u.IDPID, State: u.State, Created: given(u.Created), Profile: u.Profile}
	}
	switch {
	case f.Version > formVersion:
		return e, fmt.Errorf("%w: its form is version %d; this binary knows %d and older ones", directory.ErrInvalid, f.Version, formVersion)
	case errors.Is(err, io.EOF):
		return e, fmt.Errorf("%w: the body is empty", directory.ErrInvalid)
	case err != nil:
		return e, fmt.Errorf("%w: the body is no repair: %w", directory.ErrInvalid, err)
	case f.Version < 1:
		return e, fmt.Errorf("%w: no version", directory.ErrInvalid)
	}
	return e, e.validate()
}

// In is the event as the fold takes it, of a directory of the source.
func (e Event) In(source string) *directory.Event {
	out := &directory.Event{
		Source: source, ID: e.ID, Type: e.Type, Directory: e.Directory, Organization: e.Organization, Occurred: e.Occurred, Updated: e.Updated,
		Connection: e.Connection, User: e.User, Group: e.Group, Membership: e.Membership,
	}
	switch e.Type {
	case DirectoryListed:
		out.Subject = directory.SubjectDirectory
	case UserListed:
		out.Subject, out.Removes = directory.SubjectUser, e.User != nil && e.User.State != active
	case UserUnlisted:
		out.Subject, out.Removes = directory.SubjectUser, true
	case GroupListed, GroupUnlisted:
		out.Subject, out.Removes = directory.SubjectGroup, e.Type == GroupUnlisted
	case MembershipListed, MembershipUnlisted:
		out.Subject, out.Removes = directory.SubjectMembership, e.Type == MembershipUnlisted
	}
	return out
}

// validate reports what the event lacks. What it is about is checked by directory.Event.Validate.
func (e Event) validate() error {
	about := 0
	for _, is := range []bool{e.Connection != nil, e.User != nil, e.Group != nil, e.Membership != nil} {
		if is {
			about++
		}
	}
	switch {
	case !strings.HasPrefix(e.Type, "rollcall.reconcile."):
		return fmt.Errorf("%w: there is no such repair", directory.ErrInvalid)
	case about != 1:
		return fmt.Errorf("%w: it is about %d objects, not one", directory.ErrInvalid, about)
	case !IsID(e.ID):
		return fmt.Errorf("%w: its id is no repair's", directory.ErrInvalid)
	case e.Why == "" || directory.Text(e.Why, directory.MaxText) != e.Why:
		return fmt.Errorf("%w: it does not say why", directory.ErrInvalid)
	}
	return e.In("any").Validate()
}
