package worker

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/provider"
	"github.com/rollcallhq/rollcall/internal/provider/operator"
	"github.com/rollcallhq/rollcall/internal/provider/repair"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/queue"
)

// item is one event on its way into the ledger: with an event it is folded, with a dead one parked, else ignored.
type item struct {
	entry store.Entry
	event *directory.Event
	dead  *store.Dead
	force bool
	body  []byte
}

// items decodes each delivery alone, so that what becomes of one never depends on its neighbours. Of several items
// under one key it keeps the first, or the first that is forced.
func (w *Worker) items(entries []queue.Entry) []item {
	var out []item
	at := map[store.EventKey]int{}
	for _, e := range entries {
		for _, it := range w.decode(e.Delivery) {
			i, seen := at[it.entry.EventKey]
			switch {
			case !seen:
				at[it.entry.EventKey] = len(out)
				out = append(out, it)
			case it.force && !out[i].force:
				out[i] = it
			}
		}
	}
	return out
}

// decode turns a delivery into items, at least one.
func (w *Worker) decode(d queue.Delivery) []item {
	base := w.ledgerEntry(d)
	switch d.Origin {
	case queue.Operator:
		return []item{w.decided(base, d)}
	case queue.Reconcile:
		return []item{w.repaired(base, d)}
	case queue.Hook, queue.Poll, queue.Replay:
	}
	source, known := w.Sources[d.Source]
	if !known {
		return []item{park(base, d, "unconfigured", "this worker's configuration has no source of this name; it is tried again", w.Now().Add(unconfiguredWait))}
	}
	statements, err := decode(source, d)
	if err != nil {
		base.Type = typeOf(source, d.Body)
		return []item{park(base, d, class(err), err.Error(), time.Time{})}
	}
	out := make([]item, 0, len(statements))
	for _, s := range statements {
		out = append(out, w.item(base, d, s))
	}
	return out
}

// decided turns an operator's decision into an item, whatever its source is, and whether it is configured or not. The ledger
// keeps who decided, and why. Nobody's webhook gets here: what comes over HTTP has another origin.
func (w *Worker) decided(base store.Entry, d queue.Delivery) item {
	e, err := operator.Decode(d.Body)
	if err != nil {
		base.Type = storable(e.Type)
		return park(base, d, "invalid", err.Error(), time.Time{})
	}
	it := w.item(base, d, provider.Statement{
		Identity: provider.Identity{ID: e.ID, Type: e.Type, Directory: e.Directory}, Event: e.In(d.Source),
	})
	if it.event != nil {
		it.entry.Reason = storable(e.Why())
	}
	return it
}

// repaired turns what the directory's own listing showed into an item, as decided does with a decision: by the way that it came.
func (w *Worker) repaired(base store.Entry, d queue.Delivery) item {
	e, err := repair.Decode(d.Body)
	if err != nil {
		base.Type = storable(e.Type)
		return park(base, d, "invalid", err.Error(), time.Time{})
	}
	it := w.item(base, d, provider.Statement{
		Identity: provider.Identity{ID: e.ID, Type: e.Type, Directory: e.Directory}, Event: e.In(d.Source),
	})
	if it.event != nil {
		it.entry.Reason = storable(e.Why)
	}
	return it
}

// ours reports that the delivery is of Rollcall's own making. What comes over HTTP or from a provider's log never is.
func ours(d queue.Delivery) bool { return d.Origin == queue.Operator || d.Origin == queue.Reconcile }

// reserved reports an id that only Rollcall's own events bear.
func reserved(id string) bool { return operator.IsID(id) || repair.IsID(id) }

// keyOf is the delivery's id as a key of the ledger. One of a sender's that looks like one of ours is kept under its hash, so
// that it takes no key away from what Rollcall itself is going to say.
func keyOf(d queue.Delivery, id string) string {
	if !ours(d) && reserved(id) {
		id = ""
	}
	return storableID(id, d.Body)
}

// decode calls the provider's decoder and turns its panic into an error: one body must not stop a partition.
func decode(source Source, d queue.Delivery) (statements []provider.Statement, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: the decoder of %s failed on it: %v", errUndecodable, source.Provider.Name, p)
		}
	}()
	statements, err = source.Provider.Decode(d.Body, provider.Options{Source: d.Source, Attributes: source.Attributes})
	if err == nil && len(statements) == 0 {
		err = fmt.Errorf("%w: it holds no event", errUndecodable)
	}
	return statements, err
}

// typeOf is the type that a body names though it cannot be decoded; empty when it names none.
func typeOf(source Source, body []byte) (name string) {
	defer func() { _ = recover() }() // it is a decoder, too
	if source.Provider.Identify == nil {
		return ""
	}
	id, err := source.Provider.Identify(body)
	if err != nil {
		return ""
	}
	return storable(id.Type)
}

var errUndecodable = errors.New("undecodable")

func class(err error) string {
	if errors.Is(err, errUndecodable) {
		return "undecodable"
	}
	return "invalid"
}

func (w *Worker) item(base store.Entry, d queue.Delivery, s provider.Statement) item {
	base.ID = keyOf(d, s.ID)
	base.Type, base.Directory = storable(s.Type), storable(s.Directory)
	if !ours(d) && reserved(s.ID) {
		return park(base, d, "invalid", "a sender gave it an id that only Rollcall's own events have", time.Time{})
	}
	it := item{entry: base, force: d.Force, body: d.Body}
	if s.Event == nil {
		it.entry.Outcome, it.entry.Reason = store.Ignored, storable(s.Ignored)
		return it
	}
	e := s.Event
	if err := e.Validate(); err != nil {
		return park(base, d, "invalid", err.Error(), time.Time{})
	}
	it.entry.Type, it.entry.Directory, it.entry.Subject = e.Type, e.Directory, e.SubjectID()
	it.entry.Organization, it.entry.Occurred = e.Organization, e.Occurred.UTC()
	switch now := w.Now(); {
	case e.Occurred.After(now.Add(w.Ahead)):
		return park(it.entry, d, "future", fmt.Sprintf("it is dated %s; it is folded then", e.Occurred.UTC().Format(time.RFC3339)), e.Occurred)
	case w.MaxAge > 0 && e.Occurred.Before(now.Add(-w.MaxAge)) && !d.Force:
		it.entry.Outcome, it.entry.Reason = store.Ignored, fmt.Sprintf("older than max_event_age (%s)", w.MaxAge)
	default:
		it.event = e
	}
	return it
}

func (w *Worker) ledgerEntry(d queue.Delivery) store.Entry {
	sum := sha256.Sum256(d.Body)
	return store.Entry{
		EventKey:  store.EventKey{Source: directory.Text(d.Source, directory.MaxID), ID: keyOf(d, d.ID)},
		Directory: storable(d.Directory), Received: cmp.Or(storableTime(d.Received), w.Now()), Origin: storable(string(d.Origin)),
		KeyVersion: storable(d.KeyVersion), SignedAt: storableTime(d.SignedAt), BodySHA256: hex.EncodeToString(sum[:]),
		Binary: w.Binary, Config: w.Digest,
	}
}

// park makes an item that keeps its whole body for whoever looks at it.
func park(entry store.Entry, d queue.Delivery, class, why string, due time.Time) item {
	why = strings.TrimPrefix(why, class+" event: ")
	entry.Outcome, entry.Reason = store.Parked, storable(class+": "+why)
	return item{entry: entry, force: d.Force, body: d.Body, dead: &store.Dead{
		EventKey: entry.EventKey, Type: entry.Type, Directory: entry.Directory, Class: class, Error: storable(why),
		Body: d.Body, Origin: entry.Origin, Received: entry.Received, KeyVersion: entry.KeyVersion, SignedAt: entry.SignedAt, Due: due,
	}}
}

// parked is the same item, parked because the database would not have it.
func (it item) parked(err error) item {
	it.entry.Outcome, it.entry.Reason = store.Parked, storable("data: "+err.Error())
	it.event = nil
	it.dead = &store.Dead{
		EventKey: it.entry.EventKey, Type: it.entry.Type, Directory: it.entry.Directory, Class: "data", Error: storable(err.Error()),
		Body: it.body, Origin: it.entry.Origin, Received: it.entry.Received, KeyVersion: it.entry.KeyVersion, SignedAt: it.entry.SignedAt,
	}
	return it
}

// storable makes a text that every database takes out of one that came from outside.
func storable(s string) string { return directory.Text(s, directory.MaxText) }

// storableTime is the time, or the zero time where no calendar has it.
func storableTime(t time.Time) time.Time {
	if y := t.Year(); y < 1970 || y > 9999 {
		return time.Time{}
	}
	return t
}

// storableID is the id, or the body's SHA-256 where the id could not be a key.
func storableID(id string, body []byte) string {
	if id != "" && len(id) <= directory.MaxID && storable(id) == id {
		return id
	}
	sum := sha256.Sum256(body)
	return "sha256:" + hex.EncodeToString(sum[:])
}
