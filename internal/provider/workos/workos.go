// Package workos reads what WorkOS Directory Sync says, and asks it: its events in order, and its directories as they are.
//
// It takes the current envelope and the older ones, times in every form that was ever sent, and types and states that
// nobody knew when it was written. Sources: https://workos.com/docs/events, https://workos.com/docs/directory-sync.
package workos

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/provider"
)

// Provider returns WorkOS as a provider. Its deliveries hold one event each.
func Provider() provider.Provider {
	return provider.Provider{
		Name: "workos", Scheme: "workos",
		Success:  provider.Answer{Status: http.StatusOK, ContentType: "application/json", Body: "{}"},
		Identify: identify, Decode: decode,
		API: func(c provider.APIConfig) (provider.API, error) {
			client, err := NewClient(c)
			if err != nil {
				return nil, err // and not the client: a nil pointer in an interface is not nil
			}
			return client, nil
		},
	}
}

// text is a string that may be null, or anything else, which then counts as not there.
type text string

// UnmarshalJSON never fails: an optional field of an unexpected type must not cost the event.
func (t *text) UnmarshalJSON(b []byte) error {
	var s string
	if len(b) > 0 && b[0] == '"' && json.Unmarshal(b, &s) == nil {
		*t = text(s)
	}
	return nil
}

// lenient is an object that may be null, or anything else, which then counts as not there.
type lenient[T any] struct{ value T }

// UnmarshalJSON never fails, for the same reason as text's.
func (l *lenient[T]) UnmarshalJSON(b []byte) error {
	var v T
	if json.Unmarshal(b, &v) == nil {
		l.value = v
	}
	return nil
}

type envelope struct {
	ID        text            `json:"id"`
	Event     text            `json:"event"`
	CreatedAt text            `json:"created_at"`
	Data      json.RawMessage `json:"data"`
}

// reference is where an event may name its directory and organization.
type reference struct {
	ID             text `json:"id"`
	DirectoryID    text `json:"directory_id"`
	OrganizationID text `json:"organization_id"`
}

// object has the fields of directories, users and groups that are kept.
type object struct {
	reference
	IDPID            text                      `json:"idp_id"`
	Name             text                      `json:"name"`
	State            text                      `json:"state"`
	Type             text                      `json:"type"`
	Email            text                      `json:"email"`
	Emails           lenient[[]lenient[email]] `json:"emails"`
	FirstName        text                      `json:"first_name"`
	LastName         text                      `json:"last_name"`
	Role             lenient[role]             `json:"role"`
	Roles            lenient[[]lenient[role]]  `json:"roles"`
	CustomAttributes lenient[map[string]any]   `json:"custom_attributes"`
	CreatedAt        text                      `json:"created_at"`
	UpdatedAt        text                      `json:"updated_at"`
	User             lenient[reference]        `json:"user"`
	Group            lenient[namedReference]   `json:"group"`
}

type namedReference struct {
	reference
	Name text `json:"name"`
}

type email struct {
	Value   text `json:"value"`
	Primary bool `json:"primary"`
}

type role struct {
	Slug text `json:"slug"`
}

// head is what identify reads, for the shape that is sent: it is on the path of every request.
type head struct {
	ID    string `json:"id"`
	Event string `json:"event"`
	Data  struct {
		headReference
		User  headReference `json:"user"`
		Group headReference `json:"group"`
	} `json:"data"`
}

type headReference struct {
	ID          string `json:"id"`
	DirectoryID string `json:"directory_id"`
}

// lenientHead is the same for any shape.
type lenientHead struct {
	ID    text `json:"id"`
	Event text `json:"event"`
	Data  lenient[struct {
		reference
		User  lenient[reference] `json:"user"`
		Group lenient[reference] `json:"group"`
	}] `json:"data"`
}

// identify reads the envelope, and of the data only where the directory is named.
func identify(body []byte) (provider.Identity, error) {
	var h head
	err := unmarshal(body, &h)
	if errors.Is(err, errShape) {
		h, err = identifyLeniently(body)
	}
	if err != nil {
		return provider.Identity{}, err
	}
	id := provider.Identity{ID: h.ID, Type: h.Event, Directory: directoryOf(&h)}
	return id, checkKeys(id)
}

func identifyLeniently(body []byte) (h head, err error) {
	var l lenientHead
	if err := unmarshal(body, &l); err != nil {
		return head{}, err
	}
	d := l.Data.value
	h.ID, h.Event = string(l.ID), string(l.Event)
	h.Data.ID, h.Data.DirectoryID = string(d.ID), string(d.DirectoryID)
	h.Data.User.DirectoryID, h.Data.Group.DirectoryID = string(d.User.value.DirectoryID), string(d.Group.value.DirectoryID)
	return h, nil
}

// directoryOf finds the directory where the kind of event names it.
func directoryOf(h *head) string {
	switch h.Event {
	case "dsync.activated", "dsync.deleted", "dsync.deactivated":
		return h.Data.ID
	}
	return cmp.Or(h.Data.DirectoryID, h.Data.User.DirectoryID, h.Data.Group.DirectoryID)
}

// checkKeys refuses ids that could not be keys: a delivery without a usable one is kept under its hash.
func checkKeys(id provider.Identity) error {
	switch {
	case id.ID == "":
		return fmt.Errorf("%w: no id", directory.ErrInvalid)
	case len(id.ID) > directory.MaxID || strings.ContainsFunc(id.ID, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return fmt.Errorf("%w: the id is longer than %d bytes or holds spaces", directory.ErrInvalid, directory.MaxID)
	case len(id.Directory) > directory.MaxID || len(id.Type) > directory.MaxID:
		return fmt.Errorf("%w: the type or directory id is longer than %d bytes", directory.ErrInvalid, directory.MaxID)
	}
	return nil
}

func unmarshal(body []byte, into any) error {
	if !utf8.Valid(body) {
		return fmt.Errorf("%w: the body is not UTF-8", directory.ErrInvalid)
	}
	if trimmed := bytes.TrimLeft(body, " \t\r\n"); len(trimmed) == 0 || trimmed[0] != '{' {
		return fmt.Errorf("%w: the body is not a JSON object", directory.ErrInvalid)
	}
	if err := json.Unmarshal(body, into); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return fmt.Errorf("%w: the body is not JSON at byte %d", directory.ErrInvalid, syntax.Offset)
		}
		return fmt.Errorf("%w: %w", directory.ErrInvalid, errShape)
	}
	return nil
}

// errShape says that the body is JSON, and its fields are of other types than expected.
var errShape = errors.New("the body is not an event")

// decode implements provider.Provider.
func decode(body []byte, options provider.Options) ([]provider.Statement, error) {
	id, err := identify(body)
	if err != nil {
		return nil, err
	}
	s := provider.Statement{Identity: id}
	read, known := readers[id.Type]
	if !known {
		s.Ignored = "no event of a directory that is known: " + id.Type
		return []provider.Statement{s}, nil
	}
	var e envelope
	var data object
	if err := unmarshal(body, &e); err != nil {
		return nil, err
	}
	if err := unmarshal(e.Data, &data); err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	event := directory.Event{
		Source: options.Source, ID: id.ID, Type: id.Type, Directory: id.Directory, Organization: organizationOf(&data),
		Updated: parseTime(data.UpdatedAt), Removes: strings.HasSuffix(id.Type, "deleted") || strings.HasSuffix(id.Type, "removed"),
	}
	event.Occurred = occurred(e, event.Updated)
	read(&event, &data, options.Attributes)
	if err := event.Validate(); err != nil {
		return nil, err
	}
	s.Event = &event
	return []provider.Statement{s}, nil
}

func organizationOf(data *object) string {
	return string(cmp.Or(data.OrganizationID, data.User.value.OrganizationID, data.Group.value.OrganizationID))
}

// occurred is the event's created_at, else the object's updated_at, else the time in the event's id.
func occurred(e envelope, updated time.Time) time.Time {
	if t := parseTime(e.CreatedAt); !t.IsZero() {
		return t
	}
	if !updated.IsZero() {
		return updated
	}
	t, _ := directory.ULIDTime(string(e.ID))
	return t
}

var readers = map[string]func(e *directory.Event, data *object, attributes []string){
	"dsync.activated":          readDirectory,
	"dsync.deleted":            readDirectory,
	"dsync.user.created":       readUser,
	"dsync.user.updated":       readUser,
	"dsync.user.deleted":       readUser,
	"dsync.group.created":      readGroup,
	"dsync.group.updated":      readGroup,
	"dsync.group.deleted":      readGroup,
	"dsync.group.user_added":   readMembership,
	"dsync.group.user_removed": readMembership,
}

func readDirectory(e *directory.Event, d *object, _ []string) {
	e.Subject = directory.SubjectDirectory
	e.Connection = connectionOf(d)
}

func connectionOf(d *object) *directory.Connection {
	return &directory.Connection{Name: clean(d.Name), Type: clean(d.Type), State: clean(d.State)}
}

// readUser takes any state but "active" for a removal: "inactive", "suspended", and whatever comes next.
func readUser(e *directory.Event, d *object, attributes []string) {
	e.Subject = directory.SubjectUser
	e.Removes = e.Removes || d.State != "active"
	e.User = personOf(d, attributes)
}

func personOf(d *object, attributes []string) *directory.Person {
	return &directory.Person{
		ID: string(d.ID), IDPID: string(d.IDPID), State: clean(d.State), Created: parseTime(d.CreatedAt),
		Profile: directory.Profile{
			Email: directory.Text(emailOf(d), directory.MaxEmail), FirstName: clean(d.FirstName), LastName: clean(d.LastName), Name: clean(d.Name),
			Attributes: attributesOf(d, attributes),
		},
	}
}

func readGroup(e *directory.Event, d *object, _ []string) {
	e.Subject = directory.SubjectGroup
	e.Group = teamOf(d)
}

func teamOf(d *object) *directory.Team {
	return &directory.Team{ID: string(d.ID), IDPID: string(d.IDPID), Name: clean(d.Name)}
}

func readMembership(e *directory.Event, d *object, _ []string) {
	e.Subject = directory.SubjectMembership
	e.Updated = time.Time{} // the objects' own times say nothing of the edge
	e.Membership = &directory.Membership{Group: string(d.Group.value.ID), User: string(d.User.value.ID), GroupName: clean(d.Group.value.Name)}
}

// clean makes a text storable: a removal must not fail for what its person wrote into the profile.
func clean(t text) string { return directory.Text(string(t), directory.MaxText) }

// emailOf returns the address, or of older payloads the primary one of the list.
func emailOf(d *object) string {
	if d.Email != "" {
		return string(d.Email)
	}
	for _, e := range d.Emails.value {
		if e.value.Primary {
			return string(e.value.Value)
		}
	}
	return ""
}

// attributesOf keeps what the allow-list names and the payload has: "role", "roles" (slugs, sorted, joined by commas),
// "custom_attributes.NAME". A value that is no string is kept as compact JSON.
func attributesOf(d *object, allowed []string) map[string]string {
	var out map[string]string
	for _, name := range allowed {
		value := directory.Text(attributeOf(d, name), directory.MaxText)
		if value == "" {
			continue
		}
		if out == nil {
			out = map[string]string{}
		}
		out[name] = value
	}
	return out
}

func attributeOf(d *object, name string) string {
	switch name {
	case "role":
		return string(d.Role.value.Slug)
	case "roles":
		var slugs []string
		for _, r := range d.Roles.value {
			if r.value.Slug != "" {
				slugs = append(slugs, string(r.value.Slug))
			}
		}
		slices.Sort(slugs)
		return strings.Join(slugs, ",")
	}
	custom, ok := strings.CutPrefix(name, "custom_attributes.")
	if !ok {
		return ""
	}
	switch v := d.CustomAttributes.value[custom].(type) {
	case nil:
		return ""
	case string:
		return v
	default:
		compact, _ := json.Marshal(v)
		return string(compact)
	}
}

// times are the forms met in payloads and API answers of the years; a zone that is not given is UTC.
var times = []string{
	time.RFC3339Nano, "2006-01-02T15:04:05.999999999Z0700", "2006-01-02 15:04:05.999999999Z07:00",
	"2006-01-02 15:04:05.999999999", "2006-01-02T15:04:05.999999999",
}

// parseTime returns the zero time for what is no time.
func parseTime(s text) time.Time {
	for _, form := range times {
		if t, err := time.Parse(form, string(s)); err == nil {
			return t.UTC()
		}
	}
	return time.Time{}
}
