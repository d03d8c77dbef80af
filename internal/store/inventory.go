package store

import (
	"context"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
)

// Inventory is what comparing the application with its directories asks, and what came of changes.
type Inventory interface {
	// Directories returns every directory that said something of itself or has accounts, ended ones too, by source and directory.
	Directories(ctx context.Context) ([]DirectoryRow, error)

	// Groups returns every group that a directory said anything of, removed ones too, by source, directory and id.
	Groups(ctx context.Context) ([]directory.Group, error)

	// Standings returns up to limit accounts that follow this one by source, directory and key; the first ones follow the zero
	// ID, and after the last one there are none.
	Standings(ctx context.Context, after directory.ID, limit int) ([]Standing, error)

	// Settled returns what came of these changes on the track Bound. Changes that wait are left out.
	Settled(ctx context.Context, seqs []int64) (map[int64]Settled, error)
}

// DirectoryRow is a directory, and what its changes do to the application.
type DirectoryRow struct {
	directory.Scope
	Organization string
	Ended        bool // its end counts
	Mode         Mode // empty when it has none yet
}

// Standing is how an account stands with the application.
type Standing struct {
	directory.ID
	Email  string
	Active bool                 // effectively, ends counted at once
	Told   directory.ChangeKind // AccountActivated or AccountDeactivated, whichever the application was told last; else empty
	Link   LinkState            // empty when nobody has looked yet
	AppID  string
	Tenant string
	Grants []GrantStanding // of an active one that is linked, but for those of ended groups; by group
}

// GrantStanding is a grant that was announced, and whether the application was told of it.
type GrantStanding struct {
	GroupRow
	Told bool
}

// Settled is what came of a change, and when.
type Settled struct {
	Done
	At time.Time
}
