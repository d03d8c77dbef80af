package binder

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

// errProtected keeps somebody whom nothing wholesale deactivates from losing access with a whole directory.
var errProtected = errors.New("is protected: the end of a whole directory does not end them")

// deprovisioned is the type of the event by which an operator ends one account.
const deprovisioned = "rollcall.account.deprovisioned"

// spare is errProtected when a removal is part of something wholesale and the application protects whom it is about, until an
// operator ends that account by itself.
func (a *attempt) spare(ctx context.Context, link store.Link, c store.WaitingChange) error {
	if a.Binder.protected == nil {
		return nil
	}
	wholesale, err := a.wholesale(ctx, c)
	if err != nil || !wholesale {
		return err
	}
	if a.shielded == nil {
		if a.shielded, err = protectedIDs(ctx, a.session, *a.Binder.protected); err != nil {
			return fmt.Errorf("protected: %w", a.session.blame(ctx, err))
		}
	}
	if !a.shielded[link.AppID] {
		return nil
	}
	decided, err := a.Store.Events(ctx, store.EventFilter{
		Source: c.Source, Directory: c.Directory, Subject: face(c.Change).User, Type: deprovisioned, Since: c.At, Limit: 1,
	})
	if err != nil || len(decided) > 0 {
		return err
	}
	return fmt.Errorf("user %s %w\nhint: `rollcall accounts deprovision %s --reason …` does", link.AppID, errProtected, c.Account)
}

// wholesale reports whether a change is part of what became of a whole directory, and no word on one person.
func (a *attempt) wholesale(ctx context.Context, c store.WaitingChange) (bool, error) {
	switch ownCause(c.Event) {
	case "enforce", "resync":
		return true, nil
	case "link":
		last, err := a.lastWord(ctx, c)
		if err != nil || last.Kind != directory.AccountDeactivated {
			return err == nil, err // they were active until the directory ended, and that is still being carried through
		}
		return a.ofDirectory(ctx, last)
	case "roles":
		return false, nil
	default:
		return a.ofDirectory(ctx, c.ChangeRow)
	}
}

// ofDirectory reports whether the event behind a change is about the whole directory.
func (a *attempt) ofDirectory(ctx context.Context, c store.ChangeRow) (bool, error) {
	if known, ok := a.endings[c.Event]; ok {
		return known, nil
	}
	entry, err := a.Store.Event(ctx, c.Source, c.Event)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return false, err
	}
	a.endings[c.Event] = err == nil && entry.Subject == c.Directory
	return a.endings[c.Event], nil
}

// lastWord returns the last change before this one that said whether its account is active, other than to tell it again.
func (a *attempt) lastWord(ctx context.Context, c store.WaitingChange) (last store.ChangeRow, err error) {
	f := store.ChangeFilter{Source: c.Source, Directory: c.Directory, Account: c.Account, Limit: 1000}
	for {
		changes, err := a.Store.Changes(ctx, f)
		if err != nil || len(changes) == 0 {
			return last, err
		}
		for _, earlier := range changes {
			if f.After = earlier.Seq; earlier.Seq >= c.Seq {
				return last, nil
			}
			says := earlier.Kind == directory.AccountActivated || earlier.Kind == directory.AccountDeactivated
			if says && ownCause(earlier.Event) != "link" {
				last = earlier
			}
		}
	}
}

// protectedIDs asks for the ids of the application's users whom nothing wholesale deactivates.
func protectedIDs(ctx context.Context, s *session, st statement) (map[string]bool, error) {
	rows, err := s.QueryContext(ctx, st.sql)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	ids := map[string]bool{}
	for rows.Next() {
		var id sql.NullString
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids[id.String] = true
	}
	return ids, rows.Err()
}
