// Package status judges how far the application is from what its directories say: a [Look] is all that was seen, in figures, and
// [Judge] says what they mean and what to do. It asks nobody itself.
package status

import (
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

// Look is what was seen at one time. What could not be seen is in Unseen, and its figures are zero: they say nothing.
type Look struct {
	At          time.Time // by the database's clock
	Environment string

	Unready     string // where this configuration's process says that it is not ready; empty when it is, or was not seen
	Queue       Queue
	Lags        []store.Lag            // of the last hour, and the worst of the last day
	Leavers     []store.Leavers        // of the last day
	Directories []store.DirectoryTally //
	Ended       []Ended                // directories that the provider deleted, and that nobody decided on
	Polls       []store.Poll
	Every       map[string]time.Duration // the sources whose log is to be read, and how often; 0 is as usual
	Runs        []store.Run              // the last of each directory that was complete, and the last one if it was not
	Compared    map[string]time.Duration // by source, how often its directories are to be compared
	Dead        []store.DeadTally
	Backlog     store.Backlog
	Broken      []Broken
	Links       []HeldLinks
	Probes      Probes
	Secrets     []Secret
	Inventory   *Inventory // nil when it was not compared

	Unseen []Unseen
}

// Queue is what waits to be folded.
type Queue struct {
	Backend    string
	Depth      int64 // of all partitions
	Fullest    int64 // of one partition
	Capacity   int64 // of one partition
	Oldest     time.Time
	Durability string // "fsynced", "everysec", "memory"; empty when it is not known
	Detail     string // why it is less than it should be
	Err        string // why it did not answer; empty when it did
}

// Ended is a directory whose end waits for somebody's decision.
type Ended struct {
	directory.Scope
	Name  string
	Since time.Time // zero when it is not known
}

// Broken is a binding that the application's database does not take.
type Broken struct{ Binding, Why string }

// HeldLinks are accounts of a directory whose row of the application's is not known.
type HeldLinks struct {
	directory.Scope
	State store.LinkState
	Count int
	Since time.Time // of the oldest
}

// Probes counts accounts that left, by the worst that a probe says of them.
type Probes struct{ Dirty, Unknown int }

// Secret is a secret and since when it is what it is.
type Secret struct {
	Name    string
	Version string
	Created time.Time // zero when it is not known
}

// Inventory is what comparing the application's own listing came to.
type Inventory struct {
	Reactivated, Orphans, Extra, Missing int
	Unknown                              int // could not be judged
}

// Unseen is something that could not be looked at from here, and why.
type Unseen struct{ What, Why string }
