package binder

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

// Parameters are the names that a statement may use, each with an @ before it. All are text, and null when there is nothing
// to say, so that a comparison with an unknown one never holds.
var Parameters = []string{
	"source", "directory_id", "organization_id", "tenant", "account", "user_id", "idp_id", "email", "first_name", "last_name", "name", "state",
	"attributes", "active", "app_id", "group_id", "group_name", "group_idp_id", "role", "seq", "change", "event", "occurred", "cause", "owner",
}

// Owners are who answers for changes: of joiners, of leavers and what they lose, and of all who stay.
type Owners struct{ Joiner, Mover, Leaver string }

// Of returns the owner of a change.
func (o Owners) Of(c directory.Change) string {
	switch {
	case c.Kind == directory.AccountActivated:
		return o.Joiner
	case c.Kind == directory.AccountDeactivated, c.Kind.Removes() && !face(c).Active:
		return o.Leaver
	default:
		return o.Mover
	}
}

// face is how what the change is about looks now, or looked last.
func face(c directory.Change) directory.Face {
	switch {
	case c.After != nil:
		return *c.After
	case c.Before != nil:
		return *c.Before
	default:
		return directory.Face{}
	}
}

// causes are the parts of an event's id, before a colon, that stand for changes which no event of the provider's caused.
var causes = map[string]bool{"enforce": true, "resync": true, "link": true, "roles": true, "kept": true, "protected": true}

// ownCause returns why a change was made that no event of the provider's caused, or "".
func ownCause(event string) string {
	if cause, _, ok := strings.Cut(event, ":"); ok && causes[cause] {
		return cause
	}
	return ""
}

// values are what the parameters stand for in a change's statements.
type values struct {
	change store.ChangeRow
	link   store.Link // of which the row and the tenant count
	cause  string
	owners Owners
}

// args returns the values of these parameters: strings, and nil for what is not known.
func (v values) args(names []string) []any {
	args := make([]any, len(names))
	for i, name := range names {
		if text := v.of(name); text != "" {
			args[i] = text
		}
	}
	return args
}

func (v values) of(name string) string {
	c, f := v.change, face(v.change.Change)
	switch name {
	case "source":
		return c.Source
	case "directory_id":
		return c.Directory
	case "organization_id":
		return f.Organization
	case "tenant":
		return v.link.Tenant
	case "app_id":
		return v.link.AppID
	case "seq":
		return strconv.FormatInt(c.Seq, 10)
	case "change":
		return string(c.Kind)
	case "event":
		return c.Event
	case "occurred":
		if !c.Occurred.IsZero() {
			return c.Occurred.UTC().Format(time.RFC3339Nano)
		}
	case "cause":
		return v.cause
	case "owner":
		return v.owners.Of(c.Change)
	case "state":
		return f.State
	case "active":
		return strconv.FormatBool(active(c.Change))
	default:
		return whom(c.Change, f, name)
	}
	return ""
}

// whom is what a parameter says of the account, group or directory itself.
func whom(c directory.Change, f directory.Face, name string) string {
	switch name {
	case "group_id":
		return c.Group
	case "group_name":
		return f.GroupName
	case "group_idp_id":
		if c.Account == "" && c.Group != "" {
			return f.IDPID
		}
	case "role":
		return c.Role
	case "account":
		return c.Account
	case "name":
		return f.Name
	case "idp_id":
		if c.Account != "" {
			return f.IDPID
		}
	case "user_id":
		return f.User
	case "email":
		return f.Email
	case "first_name":
		return f.FirstName
	case "last_name":
		return f.LastName
	case "attributes":
		if len(f.Attributes) > 0 {
			text, _ := json.Marshal(f.Attributes) // a map of strings cannot fail
			return string(text)
		}
	}
	return ""
}

// active reports whether the account, group or directory is active after the change. What a grant or role was taken from
// may still be.
func active(c directory.Change) bool {
	switch c.Kind {
	case directory.GrantRevoked, directory.RoleRevoked:
		return face(c).Active
	default:
		return c.After != nil && c.After.Active
	}
}
