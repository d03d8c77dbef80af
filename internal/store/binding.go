package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"strings"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
)

// Binding is the part of the contract that telling the application rests on. Where a method takes a Session, the
// statements run there: in a transaction of the binder's on this database, or, for nil, on the store's own connections.
type Binding interface {
	// Modes returns the mode of every directory that was ever told of, by source and directory.
	Modes(ctx context.Context) ([]ModeRow, error)

	// Admit gives every directory with changes that has no mode yet this one, and returns those it gave it to. Under Enforce
	// their changes bind from the first one on.
	Admit(ctx context.Context, mode Mode) ([]directory.Scope, error)

	// Observed marks up to limit changes of directories that observe as Observed, on both tracks, and returns how many.
	Observed(ctx context.Context, limit int) (int, error)

	// Lanes returns lanes of directories that enforce in which something may be done on the track at this time: the first
	// change that waits has not failed, or its time to be tried again has come, or such a removal waits behind it. Each is in
	// the first class that it is of, and of each class there are up to limit. In a class directories take turns, and in each of
	// them those come first that wait longest. It reads a part of a long backlog; another call may find more.
	Lanes(ctx context.Context, track Track, now time.Time, limit int) (Lanes, More, error)

	// Waiting returns all changes that wait on the track in these lanes, by sequence.
	Waiting(ctx context.Context, s Session, track Track, lanes []Lane) ([]WaitingChange, error)

	// Settle writes what came of changes on the track. A change that is done already stays as it is, but for one that was laid aside as
	// Observed while its bindings took effect: that it is Bound is the truth. posted says to mark the
	// done ones of the track Bound on the other track, too, with ResultNone, because nothing is posted.
	Settle(ctx context.Context, s Session, track Track, done []Done, failed []Failed, posted bool) error

	// Marks returns which bindings took effect for these changes, by the table of marks at the session, and Mark adds to it:
	// one that is there already is an error.
	Marks(ctx context.Context, s Session, seqs []int64) ([]Mark, error)
	Mark(ctx context.Context, s Session, marks []Mark) error

	// Backlog says how many changes wait on each track, with the oldest, and what fails.
	Backlog(ctx context.Context) (Backlog, error)

	// Links returns links, with the accounts that they are of.
	Links(ctx context.Context, f LinkFilter) ([]Link, error)
	// LinksOf returns the links of the lanes' accounts, as far as there are any.
	LinksOf(ctx context.Context, s Session, lanes []Lane) (map[Lane]Link, error)
	// SaveLink writes a link over the one that was. One to a row that another account of the directory is linked with is
	// ErrTaken, and changes nothing; the error names the other account. One that is there and known stays when a lookup made at the
	// same time found less; and an operator's, when it found something else: ErrConflict, and the lookup is to be made again.
	SaveLink(ctx context.Context, s Session, l Link) error
	// SaveLinks saves links in one transaction, as SaveLink does each. One that is ErrTaken is replaced by what taken makes of it.
	SaveLinks(ctx context.Context, links []Link, taken func(l Link, err error) Link) error
	// Holder returns the key of the other account of the link's directory that is linked with its row, or "".
	Holder(ctx context.Context, s Session, l Link) (string, error)
	// DropLink forgets which row an account is: it is Unlinked, is due to be looked up again at once, and what was told without a link
	// counts as missed. ErrNotFound when there is none.
	DropLink(ctx context.Context, account directory.ID) error
	// Hurry lets all that waits of an account be tried at once, whenever its time would have come.
	Hurry(ctx context.Context, account directory.ID) error
	// LinksDue returns up to limit links that are to be looked up again, those that wait longest first.
	LinksDue(ctx context.Context, now time.Time, limit int) ([]Link, error)
	// Siblings returns the other accounts, of any directory, that are linked with the same row of the same tenant and are active.
	Siblings(ctx context.Context, s Session, l Link) ([]Sibling, error)

	// Spared looks at removals that took nothing, by sequence, and returns those of them, with the rows that they are about, whose
	// account is linked and whose directory is not observed, when no later change says anything of the same thing. One that
	// was Kept is returned when no other account keeps it any more, and none of them has taken it since or is about to. next is
	// what to go on after, 0 when it looked at the last.
	Spared(ctx context.Context, f SparedFilter) (found []SparedChange, next int64, err error)

	SaveVerdicts(ctx context.Context, v []Verdict) error
	Verdicts(ctx context.Context, account directory.ID) ([]Verdict, error) // of all accounts for the zero ID
	// Unprobed returns up to limit accounts that are inactive, linked with a row that no active account is linked with, and
	// were deactivated by a bound change with a greater sequence than any verdict on them, or have no verdict of one of these
	// probes.
	Unprobed(ctx context.Context, probes []string, limit int) ([]directory.ID, error)
	// Unclean returns up to limit accounts as Unprobed does that have a verdict of one of these probes which is not clean and is
	// to be taken again, the oldest first: a minute after it was taken, then when as much time has passed as there was between
	// the deactivation and the verdict, and within an hour in any case.
	Unclean(ctx context.Context, probes []string, now time.Time, limit int) ([]directory.ID, error)
	// Findings counts accounts that are inactive, and whose row no active account is linked with, by the worst that one of these
	// probes said of them last. Those that are clean are not counted.
	Findings(ctx context.Context, probes []string) (map[string]int64, error)

	Exemptions(ctx context.Context) ([]Exemption, error)
	SaveExemption(ctx context.Context, e Exemption) error
	DropExemption(ctx context.Context, tenant, appID string) error // ErrNotFound

	// Feed returns changes after a cursor that came with one before, "" for the first, in an order in which those of one
	// directory keep theirs. It never passes a change whose transaction is still open. A cursor that
	// is none, or of a database that this one was restored from and has not caught up with, is ErrNotFound.
	Feed(ctx context.Context, cursor string, limit int) ([]FeedRow, error)

	// Drop removes dead events and writes into the ledger, in place of why they were parked, that somebody dropped them and
	// why. It returns how many.
	Drop(ctx context.Context, keys []EventKey, by, reason string) (int, error)
}

// BindingTx is what fn may do within Update beyond folding, for the directories whose locks it holds.
type BindingTx interface {
	// Announced returns all that was announced of a directory, and all that the application was told of it: what changes that took
	// effect by its SQL or a POST, or may have done so in part before they were laid aside, told last of each account, grant and role, of each group, and of the directory. An account of which only roles
	// were told is told active.
	Announced(ctx context.Context, scope directory.Scope) (announced, told directory.Announced, err error)

	// Given returns the grants, roles and groups of a directory that any change ever gave, whatever came of it: what an application
	// may have that was told something else since, or that is not as it was.
	Given(ctx context.Context, scope directory.Scope) (directory.Announced, error)

	// Discard marks all changes of the directory that wait on either track as done with this result, and returns how many.
	Discard(ctx context.Context, scope directory.Scope, result string) (int, error)

	SetMode(ctx context.Context, m ModeRow) error
}

// Session is a connection or transaction of database/sql.
type Session interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Mode is what a directory's changes do to the application.
type Mode string

// The modes.
const (
	Observe Mode = "observe" // nothing; what they would do can be asked
	Enforce Mode = "enforce" // each is bound, once and in order
	Paused  Mode = "paused"  // they wait
)

// ModeRow is a directory's mode, and who set it.
type ModeRow struct {
	directory.Scope
	Mode    Mode
	Changed time.Time // set by SetMode, if zero
	By      string
	Reason  string
}

// Track is a way to the application.
type Track string

// The tracks.
const (
	Bound  Track = "bound"  // its SQL
	Posted Track = "posted" // signed POSTs
)

// Results of changes on a track. A failed one has none yet.
const (
	ResultBound     = "bound"                  // its bindings took effect
	ResultNone      = "no binding"             // no binding is for its kind
	ResultObserved  = "observed"               // its directory was only observed; it never binds
	ResultSkipped   = "skipped"                // a later removal made it moot before it could bind
	ResultNoAccount = "no application account" // the application has nobody whom it would be about
	ResultKept      = "kept"                   // another active account gives the same person what this one lost
	ResultProtected = "protected"              // part of the end of a whole directory, which takes nothing from this person
	ResultDead      = "dead"                   // given up, after as many attempts as are configured (posted only)
)

// Lane is what is bound in order: the changes of one account; or those of a group; or, with neither, of a directory itself.
type Lane struct {
	directory.Scope
	Account string // the account key; of grants and roles, too
	Group   string // of changes of the group itself only
}

// Class says what is to be done in a lane: classes do not wait for each other.
type Class int

// The classes.
const (
	Removals      Class = iota // a removal that has not failed
	ManyRemovals               // such a one, in a directory in which more of them wait than Few
	RemovalsAgain              // a removal that failed, whose time has come
	OthersAgain                // another change that failed, whose time has come
	Others                     // other changes, none of which has failed
	Classes                    // how many there are
)

// Few is how many lanes of a directory may wait for a removal before they are many.
const Few = 8

// Removes reports whether the class is of removals that have not failed.
func (c Class) Removes() bool { return c == Removals || c == ManyRemovals }

// Again is the class of what failed of a class.
func (c Class) Again() Class {
	if c.Removes() || c == RemovalsAgain {
		return RemovalsAgain
	}
	return OthersAgain
}

// Lanes are lanes by their class.
type Lanes [Classes][]Lane

// More reports of which classes there may be more lanes than those that were found.
type More [Classes]bool

// WaitingChange is a change that a track has not done.
type WaitingChange struct {
	ChangeRow
	Attempts int
	Next     time.Time // not to be tried before; zero when it has not failed
	Error    string    // why it failed last
}

// Lane is the lane of the change.
func (c ChangeRow) Lane() Lane {
	if c.Account != "" {
		return Lane{Scope: c.Scope, Account: c.Account}
	}
	return Lane{Scope: c.Scope, Group: c.Group}
}

// Fingerprint names what the change is, without its number and time: 16 hex digits.
func (c ChangeRow) Fingerprint() string {
	sum := sha256.Sum256([]byte(strings.Join([]string{c.Source, c.Directory, string(c.Kind), c.Account, c.Group, c.Role, c.Event}, "\x00")))
	return hex.EncodeToString(sum[:8])
}

// Seqs are the numbers of changes.
func Seqs(changes []ChangeRow) []int64 {
	seqs := make([]int64, len(changes))
	for i, c := range changes {
		seqs[i] = c.Seq
	}
	return seqs
}

// FeedRow is a change of the feed, and the cursor to go on with after it.
type FeedRow struct {
	ChangeRow
	Cursor string
}

// Done is what came of a change.
type Done struct {
	Seq    int64
	Result string
	Rows   int64  // that its bindings touched, summed
	Digest string // of the bindings' statements
}

// Failed is a change that is to be tried again.
type Failed struct {
	Seq   int64
	Error string
	Next  time.Time
}

// Mark says that a binding took effect for a change.
type Mark struct {
	Seq     int64
	Binding string
	Change  string    // ChangeRow.Fingerprint: another change may get the number of this one after a backup was restored
	At      time.Time // set by Mark, if zero
	Rows    int64
	Digest  string
}

// Backlog is how far the application is behind.
type Backlog struct {
	Waiting  map[Track]int64 // in directories that enforce
	Paused   map[Track]int64
	Oldest   map[Track]time.Time // when the oldest waiting one was committed
	Failing  []Failing           // by track, then kind, the most first
	Held     int64               // links that somebody has to look at
	LastDone time.Time
}

// Failing is how many changes of a kind fail.
type Failing struct {
	Track Track
	Kind  directory.ChangeKind
	Count int64
	Error string    // of the latest
	Since time.Time // when the oldest of them was committed
}

// LinkState says what is known of an account's row.
type LinkState string

// The states of links. All but Linked are looked up again.
const (
	Linked    LinkState = "linked"
	Unlinked  LinkState = "none"      // the application has no such row
	Ambiguous LinkState = "ambiguous" // it has several
	Unmapped  LinkState = "unmapped"  // it knows no tenant for the organization
	Taken     LinkState = "taken"     // another account of the directory is linked with the row
)

// Held reports a link that somebody has to look at: nothing is bound for its account until then.
func (s LinkState) Held() bool { return s == Ambiguous || s == Unmapped || s == Taken }

// Link says which row of the application's users an account is.
type Link struct {
	directory.ID // ID.ID is the account key
	State        LinkState
	AppID        string
	Tenant       string
	How          string    // "id", "email", "binding", "operator"
	Detail       string    // why it is held
	Changed      time.Time // set by SaveLink, if zero
	By           string    // "rollcall", or an operator's name
	Tries        int
	Next         time.Time // when to look again; zero for never

	Email  string // of the account; not stored with the link
	Active bool   // whether the account is; not stored with the link
}

// LinkFilter narrows Links; zero fields do not narrow.
type LinkFilter struct {
	Source, Directory string
	State             LinkState
	Held              bool   // only links that are held
	Who               string // as AccountFilter.Who, or an AppID
	Limit             int    // 0 is 50
}

// Sibling is another active account of the same person.
type Sibling struct {
	directory.ID
	Mode  Mode
	Roles []string
}

// SparedFilter narrows Spared; zero fields do not narrow.
type SparedFilter struct {
	directory.Scope
	Result  string          // ResultKept or ResultProtected, on either track
	Without directory.Scope // whose accounts keep nothing, as if the directory were observed
	After   int64           // sequence
	Limit   int             // of those that it looks at; 0 is 50
}

// SparedChange is a removal that took nothing, and whose row it is about.
type SparedChange struct {
	ChangeRow
	AppID, Tenant string
}

// Verdict is what a probe found.
type Verdict struct {
	directory.ID
	Probe  string
	Seq    int64 // of the deactivation that it looked after; 0 for none
	At     time.Time
	Result string // "clean", "dirty", "unknown"
	Rows   int64
	Detail string
}

// Exemption lets an application account be active without a directory account.
type Exemption struct {
	Tenant, AppID string
	Owner, Reason string
	Created       time.Time // set by SaveExemption, if zero
	By            string
	Expires       time.Time
}
