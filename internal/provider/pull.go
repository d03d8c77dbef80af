package provider

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/rs/zerolog"

	"github.com/rollcallhq/rollcall/internal/directory"
)

// APIConfig is what a client of a provider's API is made of.
type APIConfig struct {
	URL     string                 // where it is; empty is the provider's own
	Key     func() (string, error) // asked for each request, so that a rotated key is used at once; it must not wait
	Refused func()                 // told that the provider refuses the key, which may have been rotated; it must not wait; may be nil
	Options Options                // as for Decode, so that a listing and an event of one person give equal values

	HTTP      *http.Client // nil is one of its own; redirects are refused in any case
	UserAgent string
	Now       func() time.Time // nil is time.Now
	Log       zerolog.Logger
}

// ParseURL returns the address of an API: https, or http of this machine, without user, query or fragment. Its error never
// repeats the address, which may hold a secret.
func ParseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, errors.New("it is not a URL such as https://api.example.com")
	case u.User != nil:
		return nil, errors.New("it holds a user; the key has a setting of its own")
	case u.Scheme == "https":
		return u, nil
	case u.Scheme == "http" && (u.Hostname() == "localhost" || net.ParseIP(u.Hostname()).IsLoopback()):
		return u, nil
	}
	return nil, fmt.Errorf("it is not https, so that the key would be sent in the clear; http is for 127.0.0.1, [::1] and localhost")
}

// Log is a provider's ordered record of the events that its webhooks tell of.
type Log interface {
	// Page returns the events that follow, oldest first. Trouble that passes is retried within, a few times; what is left is one
	// of the errors below, or the network's. It returns events or an error, never both.
	Page(ctx context.Context, q LogQuery) (LogPage, error)
}

// LogQuery says where in the log a page begins, and how it is narrowed.
type LogQuery struct {
	Types []string  // the provider's names of events; empty is all that its decoder knows
	After string    // an event's id: the page begins behind it; empty begins at Since
	Since time.Time // of a page without After; zero is the oldest that is kept
	Until time.Time // zero is now
	Limit int       // 0 is the provider's most
}

// LogPage is a page of the log. Of a query without After it may begin later than Since: what is between is empty.
type LogPage struct {
	Events []LogEvent
	After  string    // the cursor behind the page's last event that has an id; of a page without, that of the query
	More   bool      // another page may follow at once; the cursor has moved
	Date   time.Time // the provider's clock when it answered; zero when it did not say
}

// LogEvent is an event of the log. Its body reads like the one that the webhook carries. One that Identify cannot read has the
// SHA-256 of its body for an id, as such a delivery has.
type LogEvent struct {
	Identity
	Created time.Time // zero when it does not say
	Body    []byte
}

// Key is what the ledger knows the event by: its id, or its body's SHA-256 where the id could be no key.
func (e LogEvent) Key() string {
	if e.ID != "" && len(e.ID) <= directory.MaxID && directory.Text(e.ID, directory.MaxText) == e.ID {
		return e.ID
	}
	sum := sha256.Sum256(e.Body)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Listing is a provider's own view of its directories as they are now. A method that takes a function calls it for one page after
// another, at least once, and returns nil only when the function did and the listing was told to its end: what a listing lacks is missing
// from the directory only then. An error of the function ends the listing and is returned as it is. Nothing is kept from one page to the next.
// ErrNotListed: the provider does not know whose users or groups these would be.
type Listing interface {
	Directories(ctx context.Context, page func(context.Context, []ListedDirectory) error) error
	// Directory returns one directory, with counts. ErrNotListed: the provider knows no such directory.
	Directory(ctx context.Context, id string) (ListedDirectory, error)
	Users(ctx context.Context, directoryID string, page func(context.Context, ListedPage) error) error
	Groups(ctx context.Context, directoryID string, page func(context.Context, ListedPage) error) error
	Members(ctx context.Context, groupID string, page func(context.Context, ListedPage) error) error // users of a group
	GroupsOf(ctx context.Context, userID string, page func(context.Context, ListedPage) error) error // groups of a user
	// User returns one user as it is now. ErrNotListed: the provider knows no such user.
	User(ctx context.Context, id string) (Listed, error)
}

// API is all that a provider can be asked.
type API interface {
	Log
	Listing
}

// ListedDirectory is a directory as it is listed. Its state is in the words of the provider's events.
type ListedDirectory struct {
	ID, Organization string
	directory.Connection
	Created, Updated time.Time
	Counted          bool // the counts below were told
	Active, Inactive int  // users
	Groups           int
	Date             time.Time // the provider's clock when it answered
}

// ListedPage is a page of a listing: users or groups.
type ListedPage struct {
	Items []Listed
	Date  time.Time // the provider's clock when it answered; zero when it did not say
}

// Listed is a user or a group as it is listed: exactly one of User and Group is set.
type Listed struct {
	Directory, Organization string // Directory may be empty where a member, or a group of a user, does not say it
	User                    *directory.Person
	Group                   *directory.Team
	Created, Updated        time.Time // the object's own
}

// Errors of a provider's API that callers tell apart by errors.Is. Each says what to do.
var (
	ErrCursorGone   = errors.New("the provider no longer knows the cursor")
	ErrOutOfOrder   = errors.New("the provider's events do not come in order")
	ErrUnauthorized = errors.New("the provider refuses the API key")
	ErrThrottled    = errors.New("the provider's rate limit stands")
	ErrCutShort     = errors.New("the listing was cut short")
	ErrNotListed    = errors.New("the provider knows no such object")
	ErrAnswer       = errors.New("the provider's answer cannot be read")
)
