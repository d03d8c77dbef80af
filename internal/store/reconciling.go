package store

import (
	"context"
	"errors"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
)

// Reconciling is what comparing the registers of a directory with its own listing needs. A listing is staged page by page, in
// tables of its own, and compared there: nobody holds all of it in memory.
type Reconciling interface {
	// BeginRun records a run that is open until EndRun, or until its lease ends without a Stage that makes it longer; then the
	// next one takes the directory over. ErrRunning: another run of the directory is open, in whatever process. It forgets
	// runs that ended before the time in Run.Begun less the retention.
	BeginRun(ctx context.Context, r Run, lease time.Time) error

	// Stage adds what was listed and makes the lease longer. What was staged before under the same id stays. ErrRunLost: the
	// run is not open any more.
	Stage(ctx context.Context, run string, s Staged, lease time.Time) error

	// StagedGroups returns up to limit ids of listed groups that follow this one.
	StagedGroups(ctx context.Context, run, after string, limit int) ([]string, error)

	// Compare finds where the registers differ from what was staged, and keeps that with the run; a second Compare replaces the
	// first. Registers of the version before or later than it are as new as the listing, and are left out.
	Compare(ctx context.Context, run string, before directory.Version) (Comparison, error)

	// Drift returns up to limit findings of a comparison that follow this one, what must be taken away first; the first ones follow
	// the zero DriftKey.
	Drift(ctx context.Context, run string, after DriftKey, limit int) ([]Drift, error)

	// EndRun records what came of the run, and forgets what it staged. ErrRunLost: it was not open any more.
	EndRun(ctx context.Context, r Run) error

	// Runs returns runs, newest first.
	Runs(ctx context.Context, f RunFilter) ([]Run, error)

	// KnownDirectory returns what is known of a directory; all of it is zero where nothing is, but for its scope.
	KnownDirectory(ctx context.Context, scope directory.Scope) (KnownDirectory, error)

	// Seen returns what the registers of a directory are now at, in the order asked for; empty for those that are not there.
	Seen(ctx context.Context, scope directory.Scope, registers []RegisterKey) ([]directory.Version, error)
}

// RunRetention is how long runs are kept.
const RunRetention = 100 * 24 * time.Hour

// The errors of a run that callers tell apart.
var (
	ErrRunning = errors.New("another run of the directory is going on")
	ErrRunLost = errors.New("the run has lost its directory to another one")
)

// Run is one comparison of a directory with its own listing, and what came of it.
type Run struct {
	ID string // unguessable, because the ids of its repairs begin with it
	directory.Scope
	Trigger string // "schedule"; TriggerPlan and TriggerApply compare nothing to repair it at once
	Begun   time.Time
	Ended   time.Time // zero while it is open

	Complete bool          // the listing was told to its end, and was compared
	Reason   string        // why it is not complete, or why repairs were held or the directory left alone; else empty
	Skew     time.Duration // the provider's clock less ours
	Fence    time.Time     // of the versions of its repairs

	Users, Groups, Memberships int64 // listed
	Active                     int64 // accounts of the directory when it was compared

	Kinds  map[DriftKind]DriftCount // what was found, and what came of it
	Digest string                   // of the plan, when there is one
}

// The triggers of runs that do not repair what they find.
const (
	TriggerPlan  = "plan"
	TriggerApply = "apply"
)

// Found is how many findings of all kinds there were.
func (r Run) Found() (n int64) {
	for _, c := range r.Kinds {
		n += c.Found
	}
	return n
}

// Open is how many of them were not repaired.
func (r Run) Open() (n int64) {
	for _, c := range r.Kinds {
		n += c.Asked + c.Held
	}
	return n
}

// DriftCount is how many findings of a kind there were, and what came of them.
type DriftCount struct {
	Found    int64 `json:"found"`
	Repaired int64 `json:"repaired,omitempty"` // by themselves
	Asked    int64 `json:"asked,omitempty"`    // need somebody's approval
	Held     int64 `json:"held,omitempty"`     // stopped by a guard
}

// RunFilter narrows Runs; zero fields do not narrow.
type RunFilter struct {
	ID, Source, Directory string
	Repairs               bool // neither plans nor what applied one
	Compares              bool // not what applied a plan, which lists nothing
	Complete              bool
	Last                  bool // only the newest of these of each directory
	Limit                 int  // 0 is 50
}

// Staged is a part of a listing. The users, groups and memberships are those of the run's directory.
type Staged struct {
	Users       []StagedUser
	Groups      []StagedGroup
	Memberships []StagedMembership
}

// StagedUser is a user as it is listed.
type StagedUser struct {
	Organization string
	Active       bool // by its state, or by that alone
	directory.Person
	Updated time.Time
}

// StagedGroup is a group as it is listed.
type StagedGroup struct {
	Organization string
	directory.Team
	Updated time.Time
}

// StagedMembership is a membership as it is listed.
type StagedMembership struct{ Group, User string }

// Comparison is what a Compare found.
type Comparison struct {
	Users, Groups, Memberships int64 // staged
	ActiveUsers                int64 // of them
	Active                     int64 // accounts of the directory, effectively
	Kinds                      map[DriftKind]int64
	Leavers                    int64 // active accounts that would end, or be somebody else's, were all of it repaired
	Losers                     int64 // people who stay, and would lose a group
}

// DriftKind is a kind of difference between a directory's registers and its listing.
type DriftKind string

// The kinds of drift, in the order in which Drift returns them.
const (
	ShouldBeInactive  DriftKind = "should_be_inactive" // active here, and unlisted, or listed as something else
	ExtraMembership   DriftKind = "extra_membership"
	ExtraGroup        DriftKind = "extra_group"
	MissingDirectory  DriftKind = "missing_directory" // nothing was ever heard of the directory itself
	MissingGroup      DriftKind = "missing_group"
	MissingAccount    DriftKind = "missing_account" // a user of whom nothing was ever heard
	Tombstone         DriftKind = "tombstone"       // listed as active, and a removal is known
	Attributes        DriftKind = "attributes"
	MissingMembership DriftKind = "missing_membership"
)

// DriftKinds are all of them, in that order.
var DriftKinds = []DriftKind{
	ShouldBeInactive, ExtraMembership, ExtraGroup, MissingDirectory, MissingGroup, MissingAccount, Tombstone, Attributes, MissingMembership,
}

// Removes reports that repairing drift of the kind takes something away.
func (k DriftKind) Removes() bool {
	return k == ShouldBeInactive || k == ExtraMembership || k == ExtraGroup
}

// DriftKey is the place of a finding in its run.
type DriftKey struct {
	Rank        int
	Group, User string
}

// Drift is one finding. What is listed and what is known is nil where there is no such thing.
type Drift struct {
	DriftKey
	Kind DriftKind
	Seen directory.Version // of the register that a repair would move, when it was compared; empty when there was none

	ListedUser  *StagedUser  // of a membership: its user
	ListedGroup *StagedGroup // of a membership: its group
	KnownUser   *directory.User
	KnownGroup  *directory.Group
	KnownEdge   *directory.Edge // its Version is Seen
}

// KnownDirectory is a directory's register, and how many users and groups it has that were not removed.
type KnownDirectory struct {
	directory.Register
	Active, Inactive, Groups int64
}

// RegisterKey names a register of a directory: the directory's own when both are empty, a user, a group, or a membership.
type RegisterKey struct{ Group, User string }
