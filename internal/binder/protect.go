package binder

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

// deprovisioned is the type of the event by which an operator ends one account.
const deprovisioned = "rollcall.account.deprovisioned"

// mercy decides which removals take nothing from a person whose row is known. What it asked once it does not ask again.
type mercy struct {
	*Binder
	ask      func(ctx context.Context) (map[string]bool, error) // for the ids that the application protects
	shielded map[string]bool                                    // these, once they were asked for
	endings  map[string]bool                                    // by event: whether it is about a whole directory
}

func (b *Binder) newMercy(ask func(ctx context.Context) (map[string]bool, error)) *mercy {
	return &mercy{Binder: b, ask: ask, endings: map[string]bool{}}
}

// result is that of a removal which takes nothing from the person that the link names, or "".
func (m *mercy) result(ctx context.Context, s store.Session, link store.Link, c store.WaitingChange) (string, error) {
	if !c.Kind.Removes() {
		return "", nil
	}
	if c.Kind != directory.GrantRevoked {
		siblings, err := m.Store.Siblings(ctx, s, link)
		if err != nil {
			return "", err
		}
		for _, s := range siblings {
			if keeps(s, c) {
				m.said(c).Str("other", s.ID.ID).Str("of", s.Directory).Msg("not taken away: another account of the same person has it")
				return store.ResultKept, nil
			}
		}
	}
	protected, err := m.protects(ctx, link, c)
	if err != nil || !protected {
		return "", err
	}
	m.said(c).Str("user", link.AppID).Msg("not taken away: the user is protected, and the end of a whole directory does not end them; `rollcall accounts deprovision` does")
	return store.ResultProtected, nil
}

func (m *mercy) said(c store.WaitingChange) *zerolog.Event {
	return m.Log.Info().Int64("change", c.Seq).Str("kind", string(c.Kind)).Str("account", c.Account).Str("directory", c.Directory)
}

// keeps reports whether the person keeps what the change takes, by another account. One in a directory that is only
// observed gives nothing to the application, and keeps nothing. One that is paused gave it, and takes it when it goes on.
func keeps(s store.Sibling, c store.WaitingChange) bool {
	if s.Mode == store.Observe || s.Mode == "" {
		return false
	}
	return c.Kind == directory.AccountDeactivated || slices.Contains(s.Roles, c.Role)
}

// protects reports whether a removal is part of something wholesale and the application protects whom it is about, until an
// operator ends that account by itself.
func (m *mercy) protects(ctx context.Context, link store.Link, c store.WaitingChange) (bool, error) {
	if m.protected == nil {
		return false, nil
	}
	wholesale, since, err := m.wholesale(ctx, c)
	if err != nil || !wholesale {
		return false, err
	}
	if m.shielded == nil {
		if m.shielded, err = m.ask(ctx); err != nil {
			return false, fmt.Errorf("protected: %w", err)
		}
	}
	if !m.shielded[link.AppID] {
		return false, nil
	}
	decided, err := m.decidedOn(ctx, c.ChangeRow, since)
	return !decided, err
}

// wholesale reports whether a change is part of what became of a whole directory, and no word on one person; and since when an
// operator's word on the person counts.
func (m *mercy) wholesale(ctx context.Context, c store.WaitingChange) (is bool, since time.Time, err error) {
	switch ownCause(c.Event) {
	case "enforce", "resync":
		return true, c.At, nil
	case "link", "kept", "protected":
		if face(c.Change).Active {
			return false, c.At, nil // nothing has become of their directory
		}
		last, err := m.lastWord(ctx, c)
		if err != nil || last.Kind != directory.AccountDeactivated {
			return err == nil, c.At, err // they were active until the directory ended, and that is still being carried through
		}
		is, err = m.ofDirectory(ctx, last)
		return is, last.At, err
	case "roles":
		return false, c.At, nil
	default:
		is, err = m.ofDirectory(ctx, c.ChangeRow)
		return is, c.At, err
	}
}

// ofDirectory reports whether the event behind a change is about the whole directory.
func (m *mercy) ofDirectory(ctx context.Context, c store.ChangeRow) (bool, error) {
	if known, ok := m.endings[c.Event]; ok {
		return known, nil
	}
	entry, err := m.Store.Event(ctx, c.Source, c.Event)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return false, err
	}
	m.endings[c.Event] = err == nil && entry.Subject == c.Directory
	return m.endings[c.Event], nil
}

// lastWord returns the last change before this one that said whether its account is active, other than to tell it again.
func (m *mercy) lastWord(ctx context.Context, c store.WaitingChange) (last store.ChangeRow, err error) {
	f := store.ChangeFilter{Source: c.Source, Directory: c.Directory, Account: c.Account, Limit: 1000}
	for {
		changes, err := m.Store.Changes(ctx, f)
		if err != nil || len(changes) == 0 {
			return last, err
		}
		for _, earlier := range changes {
			if f.After = earlier.Seq; earlier.Seq >= c.Seq {
				return last, nil
			}
			says := earlier.Kind == directory.AccountActivated || earlier.Kind == directory.AccountDeactivated
			if says && !again[ownCause(earlier.Event)] {
				last = earlier
			}
		}
	}
}

// again are the causes of changes that only tell again what was said before.
var again = map[string]bool{"link": true, "kept": true, "protected": true}

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
