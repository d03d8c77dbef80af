package directory

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Subject names the kind of register that an event asserts.
type Subject string

// The subjects of events. A decision is an operator's word on an ended directory.
const (
	SubjectDirectory  Subject = "directory"
	SubjectUser       Subject = "user"
	SubjectGroup      Subject = "group"
	SubjectMembership Subject = "membership"
	SubjectDecision   Subject = "decision"
)

// Event is one lifecycle statement of a source, decoded. Its zero value is invalid; see Validate.
//
// Exactly one of Connection, User, Group, Membership and Decision is set, the one that Subject names.
type Event struct {
	Source       string // the configured sender
	ID           string // unique within Source
	Type         string // the provider's own name, for the ledger
	Directory    string // the provider's directory id
	Organization string // the provider's organization id; may be empty

	Occurred time.Time // the order of the provider's log: created_at, else updated_at, else the time in the id
	Updated  time.Time // the object's own updated_at; may be zero

	Subject Subject
	Removes bool // takes access away: a deletion, a state that is not active, a membership removed

	Connection *Connection
	User       *Person
	Group      *Team
	Membership *Membership
	Decision   Decision
}

// Connection is what a directory event says of the directory itself.
type Connection struct {
	Name  string
	Type  string // free text of the provider: "gsuite directory", "okta scim v2.0", …
	State string // free text of the provider; it never ends access
}

// Person is what a user event says of one directory user.
type Person struct {
	ID      string // the provider's id of this directory user
	IDPID   string // the directory's own stable id of the person; may be empty
	State   string // the provider's word; only "active" is active
	Created time.Time
	Profile
}

// Profile is what is kept of a person: an allow-list, never the raw payload.
type Profile struct {
	Email      string            `json:"email,omitempty"`
	FirstName  string            `json:"first_name,omitempty"`
	LastName   string            `json:"last_name,omitempty"`
	Name       string            `json:"name,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"` // what the configuration names; other values as compact JSON
}

// Team is what a group event says of one directory group.
type Team struct {
	ID    string
	IDPID string
	Name  string
}

// Membership is what an event says of one edge. The user and group objects that providers embed in such events
// assert nothing else, but for the group's name, which is kept for display.
type Membership struct {
	Group     string
	User      string
	GroupName string
}

// Decision is an operator's word on what the end of a directory means.
type Decision string

// The decisions. None leaves it to the configured policy.
const (
	DecisionNone        Decision = ""
	DecisionDeprovision Decision = "deprovision" // the end counts: accounts and grants of the directory end
	DecisionKeep        Decision = "keep"        // the end does not count: accounts stay as they are
	DecisionRelease     Decision = "release"     // takes the decision before it back; in a register it is DecisionNone
)

// known reports a decision that an event can be of.
func (d Decision) known() bool {
	return d == DecisionDeprovision || d == DecisionKeep || d == DecisionRelease
}

// Limits of what an event may carry, in bytes. A longer id or type parks its event. Decoders cut longer texts with Text:
// what somebody may write into their own profile must not keep their removal from being folded.
const (
	MaxID    = 255
	MaxText  = 2048
	MaxEmail = 320 // of an address, by RFC 5321
)

// Text makes of a text that came from outside one that every event may carry: valid UTF-8 without NUL, and no longer than
// the limit in bytes.
func Text(s string, limit int) string {
	s = strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "\ufffd")
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "")
	}
	return s
}

// ErrInvalid marks an event that can never be folded, by its own fault.
var ErrInvalid = errors.New("invalid event")

// Validate reports why the event can never be folded, alone and without looking at any other event or state.
// The error wraps ErrInvalid and names the field, never its value.
func (e *Event) Validate() error {
	for _, c := range []struct{ name, value string }{{"source", e.Source}, {"id", e.ID}, {"directory id", e.Directory}} {
		if err := checkID(c.name, c.value); err != nil {
			return err
		}
	}
	if e.Occurred.IsZero() || e.Occurred.Before(time.Unix(0, 0)) || e.Occurred.Year() > 9999 {
		return fmt.Errorf("%w: no usable time", ErrInvalid)
	}
	if err := checkText(map[string]string{"type": e.Type, "organization id": e.Organization}); err != nil {
		return err
	}
	return e.validateSubject()
}

func (e *Event) validateSubject() error {
	switch {
	case e.Subject == SubjectDirectory && e.Connection != nil:
		return checkText(map[string]string{"name": e.Connection.Name, "directory type": e.Connection.Type, "state": e.Connection.State})
	case e.Subject == SubjectUser && e.User != nil:
		return e.User.validate()
	case e.Subject == SubjectGroup && e.Group != nil:
		if err := checkID("group id", e.Group.ID); err != nil {
			return err
		}
		return checkText(map[string]string{"idp_id": e.Group.IDPID, "name": e.Group.Name})
	case e.Subject == SubjectMembership && e.Membership != nil:
		if err := checkID("group id", e.Membership.Group); err != nil {
			return err
		}
		if err := checkID("user id", e.Membership.User); err != nil {
			return err
		}
		return checkText(map[string]string{"group name": e.Membership.GroupName})
	case e.Subject == SubjectDecision && e.Decision.known():
		return nil
	default:
		return fmt.Errorf("%w: no %q in it", ErrInvalid, e.Subject)
	}
}

func (p *Person) validate() error {
	if err := checkID("user id", p.ID); err != nil {
		return err
	}
	if len(p.IDPID) > MaxID {
		return fmt.Errorf("%w: idp_id is longer than %d bytes", ErrInvalid, MaxID)
	}
	if err := checkText(map[string]string{
		"idp_id": p.IDPID, "state": p.State, "email": p.Email, "first_name": p.FirstName, "last_name": p.LastName, "name": p.Name,
	}); err != nil {
		return err
	}
	if err := checkText(p.Attributes); err != nil {
		return err
	}
	for name := range p.Attributes {
		if err := checkText(map[string]string{"an attribute's name": name}); err != nil {
			return err
		}
	}
	return nil
}

func checkID(name, value string) error {
	if value == "" {
		return fmt.Errorf("%w: no %s", ErrInvalid, name)
	}
	if len(value) > MaxID {
		return fmt.Errorf("%w: %s is longer than %d bytes", ErrInvalid, name, MaxID)
	}
	return checkText(map[string]string{name: value})
}

// checkText refuses what PostgreSQL's text cannot hold, and what is too long to be meant.
func checkText(fields map[string]string) error {
	for name, value := range fields {
		switch {
		case len(value) > MaxText:
			return fmt.Errorf("%w: %s is longer than %d bytes", ErrInvalid, name, MaxText)
		case strings.ContainsRune(value, 0):
			return fmt.Errorf("%w: %s holds a NUL character", ErrInvalid, name)
		case !utf8.ValidString(value):
			return fmt.Errorf("%w: %s is not valid UTF-8", ErrInvalid, name)
		}
	}
	return nil
}

// SubjectID is the id of the object that the event is about; a membership's is "group/user".
func (e *Event) SubjectID() string {
	switch {
	case e.User != nil:
		return e.User.ID
	case e.Group != nil:
		return e.Group.ID
	case e.Membership != nil:
		return e.Membership.Group + "/" + e.Membership.User
	default:
		return e.Directory
	}
}

// Scope is the directory that the event belongs to.
func (e *Event) Scope() Scope { return Scope{Source: e.Source, Directory: e.Directory} }
