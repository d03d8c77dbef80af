// Package store is the one truth: what the database keeps, and the promises it keeps it by.
//
// Two backends implement [Store]: postgres and sqlite, below this package, each with its own migrations. Both only
// load and save; what events mean is decided by package directory alone. storetest is this contract as tests.
package store

import (
	"context"
	"errors"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
)

// Store is a database. Its methods may be called by many goroutines at once.
//
// Errors are of four kinds, told apart by errors.Is: ErrNotFound; ErrData, the fault of one of the events that were to
// be saved, which bisecting a batch finds; ErrConflict, somebody else saved an event of the batch meanwhile, so that
// doing all of it again, from Update on, is right; and all others, which are the database's trouble: the same call may
// be made again until it works.
type Store interface {
	// Update runs fn in one transaction that holds the locks of the scopes, taken in sorted order before anything is
	// read, and commits when fn returns nil. No other Update of one of these scopes is between its first read and its
	// end meanwhile. When Update returns nil, what fn saved is durable. fn is run once.
	Update(ctx context.Context, scopes []directory.Scope, fn func(ctx context.Context, tx Tx) error) error

	// Expansions returns up to limit unfinished expansions, oldest first, at most one of each scope.
	Expansions(ctx context.Context, limit int) ([]PendingExpansion, error)

	// RemapRoles starts an expansion of every directory that has accounts when the mapping of roles is another than the one
	// that the database was told of last, and returns how many. An empty digest, of no mapping, is what it is first told of.
	RemapRoles(ctx context.Context, digest string) (directories int, err error)

	// Due returns up to limit deferred events whose time has come, oldest first.
	Due(ctx context.Context, now time.Time, limit int) ([]Dead, error)

	Reader
	Migrator
	Binding
	Pulling
	Reconciling

	Close() error
}

// Tx is what fn may do within Update. A Tx is used by one goroutine and is worth nothing after fn returned.
type Tx interface {
	// Load returns the state that folding events of this need reads, and which of the ids the ledger already holds.
	// It takes a constant number of round trips.
	Load(ctx context.Context, need directory.Need, ids []EventKey) (*directory.State, map[EventKey]Entry, error)

	// LoadExpansion returns the state for the next chunk of an expansion, at most limit members of it: account keys of a
	// directory, or user ids of a group. The cursor of the chunk is its last member; last says that none follow. An
	// expansion that is finished already returns no members and last.
	LoadExpansion(ctx context.Context, id int64, limit int) (chunk Chunk, err error)

	// Save writes all of it. A fresh ledger entry whose key is there already is ErrConflict.
	Save(ctx context.Context, b Batch) error

	BindingTx
}

// EventKey is the key of the ledger.
type EventKey struct{ Source, ID string }

// Batch is what one transaction saves.
type Batch struct {
	Delta    directory.Delta
	Ledger   []Entry
	Dead     []Dead            // each has an entry with outcome Parked in Ledger
	Progress ExpansionProgress // the zero value moves no expansion
}

// Outcome is what came of an event.
type Outcome string

// The outcomes. Parked and Ignored events may be folded again, in place.
const (
	Applied    Outcome = "applied"    // it moved a register
	Superseded Outcome = "superseded" // something greater was known already
	Ignored    Outcome = "ignored"    // not subscribed, not known, or too old
	Parked     Outcome = "parked"     // it could not be folded; a dead event keeps its body
)

// Reopens reports whether a forced delivery may fold an event of this outcome again.
func (o Outcome) Reopens() bool { return o == Ignored || o == Parked }

// Entry is a line of the ledger: one verified event and what came of it.
type Entry struct {
	EventKey
	Type         string
	Subject      string // the id of what it is about; a membership's is "group/user"
	Directory    string
	Organization string
	Occurred     time.Time // the provider's; zero when unknown
	Received     time.Time // ours, at the edge
	Folded       time.Time // set by Save, by the database's clock, if zero
	Origin       string    // "hook", "poll", "reconcile", "replay", "operator"
	Outcome      Outcome
	Reason       string // why it was ignored or parked, or who decided it and why; empty otherwise
	KeyVersion   string
	SignedAt     time.Time
	BodySHA256   string // lower-case hex
	Binary       string // version of the binary that folded it
	Config       string // digest of the configuration that it folded under

	Reopen bool // replaces an entry that Reopens, and removes its dead event; not stored
}

// Dead is an event that could not be folded, kept whole. Due is set when it only waits for its own time to come.
type Dead struct {
	EventKey
	Type       string
	Directory  string
	Class      string // "undecodable", "invalid", "data", "future", "unconfigured"; "operator" and "reconcile" wait for a worker
	Error      string
	Body       []byte
	Origin     string
	Received   time.Time
	KeyVersion string
	SignedAt   time.Time
	Parked     time.Time // set by Save, by the database's clock, if zero
	Due        time.Time
	Attempts   int
}

// PendingExpansion is an expansion that is not finished.
type PendingExpansion struct {
	ID int64
	directory.Expansion
	Cursor string // the last member done
	Done   int    // members done so far
	Begun  time.Time
}

// Chunk is the next part of an expansion.
type Chunk struct {
	PendingExpansion
	State   *directory.State
	Members []string
	Last    bool
}

// ExpansionProgress moves an expansion on.
type ExpansionProgress struct {
	ID       int64
	Cursor   string
	Members  int // how many this chunk did
	Finished bool
}

// Reader is what the command line and the status pages ask.
type Reader interface {
	Events(ctx context.Context, f EventFilter) ([]Entry, error)          // newest first
	Event(ctx context.Context, source, id string) (Entry, error)         // ErrNotFound
	DeadEvents(ctx context.Context, f EventFilter) ([]Dead, error)       // newest first, without bodies
	DeadEvent(ctx context.Context, source, id string) (Dead, error)      // ErrNotFound
	Accounts(ctx context.Context, f AccountFilter) ([]AccountRow, error) // by source, directory, key
	// Changes returns changes in the order of their sequence.
	Changes(ctx context.Context, f ChangeFilter) ([]ChangeRow, error)
	// Dump returns every register, account and grant, sorted by key: for tests, comparisons and support.
	Dump(ctx context.Context) (directory.Delta, error)
	Summary(ctx context.Context) (Summary, error)
	// Held returns the directories that were ended and still count as live, because nobody decided otherwise.
	Held(ctx context.Context) ([]directory.Register, error)
	// Tallies returns every directory that anything was heard of, by source and directory.
	Tallies(ctx context.Context) ([]DirectoryTally, error)
	// Check reports what is wrong with the database as a place to keep this: unreachable, synchronous_commit off, clock
	// more than a minute from ours, another environment. The error says what to do.
	Check(ctx context.Context) error
	Clock(ctx context.Context) (time.Time, error) // the database's

	Inventory
	Converging
}

// EventFilter narrows Events and DeadEvents; zero fields do not narrow.
type EventFilter struct {
	Source, Directory, Type, Subject string
	Outcome                          Outcome
	Class                            string    // of dead events
	Since, Until                     time.Time // by Received
	Limit                            int       // 0 is 50
}

// AccountFilter narrows Accounts; zero fields do not narrow.
type AccountFilter struct {
	Source, Directory string
	Key               string // the account's
	Email             string // without regard to case
	Who               string // an account key, idp_id, provider's user id, or email (without regard to case): walks a whole directory
	Active            *bool
	Limit             int // 0 is 50
}

// AccountRow is an account with what it is effectively granted, as the views say it, ends counted at once.
type AccountRow struct {
	directory.Account
	EffectivelyActive bool
	Groups            []GroupRow
	Changed           time.Time
}

// GroupRow is one group of an account.
type GroupRow struct{ ID, Name string }

// ChangeFilter narrows Changes; zero fields do not narrow.
type ChangeFilter struct {
	Source, Directory, Account, Event string
	After                             int64 // sequence
	Limit                             int   // 0 is 50
	Newest                            bool  // the last of them rather than the first; they come by their sequence all the same
}

// ChangeRow is a stored change.
type ChangeRow struct {
	Seq int64
	directory.Change
	At time.Time
}

// Summary is what a status needs to know at once.
type Summary struct {
	Environment     string
	Events          map[Outcome]int64
	Dead            int64 // without deferred ones
	Deferred        int64
	Accounts        int64
	ActiveAccounts  int64
	Grants          int64
	Changes         int64
	Expansions      int64
	HeldDirectories []directory.Scope
	LastFolded      time.Time
}

// Migrator brings the schema to what this binary needs. Migrations only expand; what they drop was unused by the binary
// before.
type Migrator interface {
	// Migrate applies what is pending, under a lock that two starters share, and names this database's environment.
	// A migration whose checksum differs from the applied one is an error.
	Migrate(ctx context.Context) ([]Migration, error)
	// Pending returns what Migrate would apply. ErrTooOld: the database needs a newer binary than this.
	Pending(ctx context.Context) ([]Migration, error)
	// Migrations returns all that this binary knows, oldest first.
	Migrations() []Migration
}

// Migration is one step of the schema.
type Migration struct {
	Version  int
	Name     string
	SQL      string
	Checksum string // SHA-256 of SQL, lower-case hex
}

// Config is what both backends need.
type Config struct {
	DSN         string // PostgreSQL: a URL or keywords; SQLite: a file's path
	Environment string // "production", "staging", "demo": named in the database; another one there refuses to start
	Binary      string // this binary's version
	// Policy says what the end of a source's directory means where no operator decided; nil holds every one.
	Policy   func(source string) directory.Decision
	Roles    directory.Roles // who has which roles; see RemapRoles for when it changes
	MaxConns int             // 0 is 8
	Timeout  time.Duration   // of one statement; 0 is 8 s, less than a queue lease
}

// Errors that callers tell apart.
var (
	ErrNotFound    = errors.New("not found")
	ErrData        = errors.New("the data cannot be stored")
	ErrConflict    = errors.New("another transaction was first")
	ErrTaken       = errors.New("another account has it")
	ErrLeased      = errors.New("another process has the lease")
	ErrTooOld      = errors.New("this binary is older than the database allows")
	ErrEnvironment = errors.New("the database belongs to another environment")
	ErrChecksum    = errors.New("a migration was applied with another text")
)
