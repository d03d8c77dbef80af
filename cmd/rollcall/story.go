package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rollcallhq/rollcall/internal/binder"
	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

// stepJSON is one change in the story of an account: what the event behind it was and how it came, what it changed, when and
// how the application was told, what a probe found afterwards, and who answers for it.
type stepJSON struct {
	changeJSON
	Owner string        `json:"owner,omitempty"`
	Cause *eventJSON    `json:"cause,omitempty"` // absent when the ledger does not hold it any more
	Bound *boundJSON    `json:"bound,omitempty"` // absent while it waits
	Ran   []ranJSON     `json:"ran,omitempty"`   // where the marks are in this database
	Found []verdictJSON `json:"probes,omitempty"`
	Fails *failureJSON  `json:"fails,omitempty"` // while it waits because it failed

	untold bool // nobody follows the directory: nothing waits
}

type ranJSON struct {
	Binding string    `json:"binding"`
	At      time.Time `json:"at"`
	Rows    int64     `json:"rows"`
	Digest  string    `json:"digest"`
}

type verdictJSON struct {
	Probe   string    `json:"probe"`
	At      time.Time `json:"at"`
	Verdict string    `json:"verdict"`
	Rows    int64     `json:"rows"`
	Detail  string    `json:"detail,omitempty"`
}

// failureJSON is why a change waits that was tried.
type failureJSON struct {
	Attempts int       `json:"attempts"`
	Error    string    `json:"error"`
	Next     time.Time `json:"next"`
}

// storyLimit is how many changes of an account its story has.
const storyLimit = 1000

// story returns an account's changes, oldest first, with all that is known of each.
func story(ctx context.Context, s store.Store, account directory.ID, owners binder.Owners) ([]stepJSON, error) {
	changes, err := s.Changes(ctx, store.ChangeFilter{Source: account.Source, Directory: account.Directory, Account: account.ID, Limit: storyLimit})
	if err != nil {
		return nil, err
	}
	seqs := store.Seqs(changes)
	settled, err := s.Settled(ctx, seqs)
	if err != nil {
		return nil, err
	}
	marks, err := s.Marks(ctx, nil, seqs)
	if err != nil {
		return nil, err
	}
	fails, err := failures(ctx, s, account)
	if err != nil {
		return nil, err
	}
	verdicts, err := s.Verdicts(ctx, account)
	if err != nil {
		return nil, err
	}
	ran, found := map[int64][]ranJSON{}, map[int64][]verdictJSON{}
	for _, m := range marks {
		ran[m.Seq] = append(ran[m.Seq], ranJSON{m.Binding, m.At, m.Rows, m.Digest})
	}
	for _, v := range verdicts {
		found[v.Seq] = append(found[v.Seq], verdictJSON{v.Probe, v.At, v.Result, v.Rows, v.Detail})
	}
	modes, err := s.Modes(ctx)
	if err != nil {
		return nil, err
	}
	untold := !slices.ContainsFunc(modes, func(m store.ModeRow) bool { return m.Scope == account.Scope })
	causes := map[string]*eventJSON{}
	out := make([]stepJSON, len(changes))
	for i, row := range changes {
		if _, asked := causes[row.Event]; !asked {
			if causes[row.Event], err = causeOf(ctx, s, row); err != nil {
				return nil, err
			}
		}
		out[i] = stepJSON{
			changeJSON: changesOf(changes[i : i+1])[0], Owner: owners.Of(row.Change), Cause: causes[row.Event], Ran: ran[row.Seq], Found: found[row.Seq],
			Fails: fails[row.Seq], untold: untold,
		}
		if done, is := settled[row.Seq]; is {
			out[i].Bound = &boundJSON{At: done.At, Result: done.Result, Rows: done.Rows, Digest: done.Digest}
		}
	}
	return out, nil
}

// failures are why the account's changes fail that wait.
func failures(ctx context.Context, s store.Store, account directory.ID) (map[int64]*failureJSON, error) {
	out := map[int64]*failureJSON{}
	for _, track := range []store.Track{store.Posted, store.Bound} { // of both, the statements' counts
		waiting, err := s.Waiting(ctx, nil, track, []store.Lane{{Scope: account.Scope, Account: account.ID}})
		if err != nil {
			return nil, err
		}
		for _, w := range waiting {
			if w.Attempts > 0 {
				out[w.Seq] = &failureJSON{Attempts: w.Attempts, Error: w.Error, Next: w.Next}
			}
		}
	}
	return out, nil
}

func causeOf(ctx context.Context, s store.Store, c store.ChangeRow) (*eventJSON, error) {
	e, err := s.Event(ctx, c.Source, c.Event)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := eventOf(e)
	return &out, nil
}

// describe adds the lines of a step.
func (s stepJSON) describe(t *table) {
	t.add(when(s.At), s.Kind+prefixed(" ", groupOf(s.changeJSON))+prefixed(" ", s.Role)+s.waiting())
	if c := s.Cause; c != nil {
		line := c.Type + " " + c.ID
		if c.Occurred != nil {
			line += ", happened " + when(*c.Occurred)
		}
		line += ", arrived " + when(c.Received) + " by " + c.Origin + prefixed(", signed with key ", c.KeyVersion) + ", folded " + when(c.Folded)
		t.add("", "because of "+line+prefixed(": ", c.Reason))
	} else {
		t.add("", "because of "+s.Event)
	}
	if b := s.Bound; b != nil && b.Result != store.ResultObserved {
		t.add("", fmt.Sprintf("%s %s, %s%s%s", b.Result, when(b.At), counted(b.Rows, "row"), prefixed(", statements ", b.Digest), s.statements()))
	}
	if f := s.Fails; f != nil {
		t.add("", fmt.Sprintf("failed %s, is tried again %s: %s", counted(int64(f.Attempts), "time"), when(f.Next), strings.ReplaceAll(f.Error, "\nhint: ", "; ")))
		if len(s.Ran) > 0 {
			t.add("", "took effect already"+s.statements())
		}
	}
	for _, v := range s.Found {
		t.add("", fmt.Sprintf("probe %s: %s %s%s", v.Probe, v.Verdict, when(v.At), prefixed(", ", v.Detail)))
	}
	if s.Owner != "" {
		t.add("", "owner "+s.Owner)
	}
}

// waiting says in a word when the application was not told.
func (s stepJSON) waiting() string {
	switch {
	case s.untold:
		return ""
	case s.Bound == nil:
		return " (waits)"
	case s.Bound.Result == store.ResultObserved:
		return " (observed only)"
	default:
		return ""
	}
}

func (s stepJSON) statements() string {
	if len(s.Ran) == 0 {
		return ""
	}
	each := make([]string, len(s.Ran))
	for i, r := range s.Ran {
		each[i] = fmt.Sprintf("%s %d", r.Binding, r.Rows)
	}
	return ": " + strings.Join(each, ", ")
}
