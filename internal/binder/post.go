package binder

import (
	"bytes"
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

const (
	posters     = 4  // each holds a connection while it waits for answers
	postLanes   = 16 // that one of them posts at once, each in its own order
	postTimeout = 10 * time.Second
	answerRead  = 4096
	idleEvery   = time.Minute
)

// Posted is the body of a POST.
type Posted struct {
	Environment string               `json:"environment"`
	Seq         int64                `json:"seq"`
	Kind        directory.ChangeKind `json:"kind"`
	Source      string               `json:"source"`
	Directory   string               `json:"directory"`
	Account     string               `json:"account,omitempty"`
	AppID       string               `json:"app_id,omitempty"` // when a link is known
	Group       string               `json:"group,omitempty"`
	GroupName   string               `json:"group_name,omitempty"`
	Role        string               `json:"role,omitempty"`
	Event       string               `json:"event"`
	Occurred    time.Time            `json:"occurred"`
	At          time.Time            `json:"at"`
	Before      *directory.Face      `json:"before"`
	After       *directory.Face      `json:"after"`
}

// post sends what waits in lanes of a class. Those of the changes before the first POST that nothing is posted for are settled
// at once, and then each lane goes its own way.
func (b *Binder) post(stop, ctx context.Context, class store.Class, lanes []store.Lane) (out rest, err error) {
	mine, release, err := b.claimPosts(ctx, lanes)
	if err != nil {
		return rest{}, err
	}
	defer release()
	boxes, err := b.outboxes(ctx, mine)
	if err != nil {
		return rest{}, err
	}
	var quick outcome
	for _, key := range lanes {
		box := boxes[key]
		if box == nil {
			out.still = append(out.still, key)
			continue
		}
		box.settleUnposted()
		quick.done = append(quick.done, box.done...)
		box.done = nil
	}
	if len(quick.done) > 0 {
		if err := b.settlePosted(ctx, &quick); err != nil {
			return rest{}, err
		}
	}
	var g sync.WaitGroup
	var mu sync.Mutex // guards failure
	var failure error
	for _, box := range boxes {
		g.Go(func() {
			if err := box.run(stop, ctx, class); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failure = errors.Join(failure, err)
			}
		})
	}
	g.Wait()
	for _, box := range boxes {
		if now, more := box.class(box.now); more {
			out.giveBack(class, now, box.key)
		}
	}
	return out, failure
}

// claimPosts locks lanes for posting, on a connection that is kept until release.
func (b *Binder) claimPosts(ctx context.Context, lanes []store.Lane) (mine []store.Lane, release func(), err error) {
	if b.Database == nil || b.Database.Kind == SQLite {
		return lanes, func() {}, nil // there is one process
	}
	asking, cancel := context.WithTimeout(ctx, b.StatementTimeout+overtime)
	defer cancel()
	conn, err := b.Database.SQL.Conn(asking)
	if err != nil {
		return nil, nil, err
	}
	if mine, err = tryLocks(asking, conn, "pg_try_advisory_lock", store.Posted, lanes); err != nil {
		giveUp(conn)
		return nil, nil, err
	}
	return mine, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), overtime)
		defer cancel()
		if _, err := conn.ExecContext(ctx, `SELECT pg_advisory_unlock_all()`); err != nil {
			giveUp(conn)
			return
		}
		_ = conn.Close()
	}, nil
}

// giveUp closes a connection for good, and with it its locks.
func giveUp(conn *sql.Conn) {
	_ = conn.Raw(func(any) error { return driver.ErrBadConn })
	_ = conn.Close()
}

// outbox is what waits to be posted in one lane.
type outbox struct {
	*Binder
	outcome
	lane
	mercy *mercy
}

func (b *Binder) outboxes(ctx context.Context, lanes []store.Lane) (map[store.Lane]*outbox, error) {
	waiting, err := b.Store.Waiting(ctx, nil, store.Posted, lanes)
	if err != nil {
		return nil, err
	}
	links, err := b.Store.LinksOf(ctx, nil, lanes)
	if err != nil {
		return nil, err
	}
	boxes := map[store.Lane]*outbox{}
	for _, c := range waiting {
		key := c.Lane()
		if boxes[key] == nil {
			boxes[key] = &outbox{Binder: b, outcome: outcome{config: &b.Config, now: b.Now()}, lane: lane{key: key, link: links[key]}, mercy: b.newMercy(b.Protected)}
		}
		boxes[key].changes = append(boxes[key].changes, c)
	}
	return boxes, nil
}

func (o *outbox) settleUnposted() {
	for {
		i := next(o.changes, o.now)
		if i < 0 || len(o.on(o.changes[i].Kind)) > 0 {
			return
		}
		o.settle(&o.lane, i, store.Done{Seq: o.changes[i].Seq, Result: store.ResultNone})
	}
}

// run posts one change after the other, as long as they are of the class or its turn is not over, and settles each before the
// next one. Its error is the store's trouble.
func (o *outbox) run(stop, ctx context.Context, class store.Class) error {
	for began := time.Now(); stop.Err() == nil && time.Since(began) < turn; {
		o.now = o.Now()
		i := next(o.changes, o.now)
		if i < 0 || !o.suits(class) {
			return nil
		}
		c := o.changes[i]
		done, err := o.send(ctx, c)
		if err != nil && ctx.Err() != nil {
			return nil // it is not known whether it arrived: the next attempt has the same id
		}
		if err != nil {
			o.fail(&o.lane, i, err)
		} else {
			o.settle(&o.lane, i, done)
		}
		o.settleUnposted()
		if err := o.settlePosted(ctx, &o.outcome); err != nil {
			return err
		}
	}
	return nil
}

// suits reports whether what is to be posted next may be by a worker of the class: what failed, and what is no removal, holds up
// no one that is for others.
func (o *outbox) suits(class store.Class) bool {
	now, _ := o.class(o.now)
	switch class {
	case store.Removals, store.ManyRemovals:
		return now == store.Removals
	case store.Others:
		return now == store.Removals || now == store.Others
	default:
		return true
	}
}

// settlePosted writes what came of changes, and forgets it.
func (b *Binder) settlePosted(ctx context.Context, o *outcome) error {
	if err := b.Store.Settle(ctx, nil, store.Posted, o.doneOnes(), o.failed, false); err != nil {
		return err
	}
	for _, d := range o.done {
		b.metrics.bound(store.Posted, d, b.Now())
	}
	b.metrics.failed.WithLabelValues(string(store.Posted)).Add(float64(len(o.failed)))
	o.done, o.failed = nil, nil
	return nil
}

// send posts a change to all that it is for and that did not take it before. One that refused it as often as it may gets it
// no more.
func (o *outbox) send(ctx context.Context, c store.WaitingChange) (store.Done, error) {
	done := store.Done{Seq: c.Seq, Result: store.ResultBound}
	if spared, err := o.spared(ctx, c); err != nil || spared != "" {
		return store.Done{Seq: c.Seq, Result: spared}, err
	}
	posts := o.on(c.Kind)
	marked, err := o.taken(ctx, c, posts)
	if err != nil {
		return done, err
	}
	var failed error
	for _, binding := range posts {
		if marked[binding.Name] {
			continue
		}
		err := o.deliver(ctx, binding, c)
		switch {
		case err == nil:
			o.health.worked(binding.Name)
			err = o.note(ctx, c, posts, binding)
		case ctx.Err() != nil:
		default:
			o.health.failed(binding.Name, err, o.Log)
			if binding.Post.Attempts > 0 && c.Attempts+1 >= binding.Post.Attempts {
				o.Log.Error().Err(err).Str("binding", binding.Name).Int64("change", c.Seq).Int("attempts", c.Attempts+1).Msg("a change is given up: it was refused too often")
				done.Result, err = store.ResultDead, nil
			}
		}
		failed = errors.Join(failed, err)
	}
	return done, failed
}

// spared returns the result of a change that takes nothing, or "". Of somebody whose row is not known nobody can say so.
func (o *outbox) spared(ctx context.Context, c store.WaitingChange) (string, error) {
	if o.Link == nil || c.Account == "" || o.link.State != store.Linked {
		return "", nil
	}
	return o.mercy.result(ctx, nil, o.link, c)
}

// taken returns which of several posts took the change before; a single one has done so when the change is done.
func (o *outbox) taken(ctx context.Context, c store.WaitingChange, posts []Binding) (map[string]bool, error) {
	if len(posts) < 2 || o.Database == nil || c.Attempts == 0 {
		return nil, nil
	}
	marks, err := o.Database.Marks.Of(ctx, o.Database.SQL, []int64{c.Seq})
	marked := map[string]bool{}
	for _, m := range marks {
		if m.Change == c.Fingerprint() {
			marked[m.Binding] = true
		}
	}
	return marked, err
}

// note marks that one of several posts took the change.
func (o *outbox) note(ctx context.Context, c store.WaitingChange, posts []Binding, taken Binding) error {
	if len(posts) < 2 || o.Database == nil {
		return nil
	}
	return o.Database.Marks.Add(ctx, o.Database.SQL, []store.Mark{{Seq: c.Seq, Binding: taken.Name, Change: c.Fingerprint(), At: o.now}})
}

// deliver makes one signed POST. Only an answer of 2xx means that the change was taken.
func (o *outbox) deliver(ctx context.Context, binding Binding, c store.WaitingChange) error {
	timeout := binding.Post.Timeout
	if timeout <= 0 {
		timeout = postTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	key, err := binding.Post.Key()
	if err != nil {
		return fmt.Errorf("%s: no key to sign with: %w", binding.Name, err)
	}
	body, err := json.Marshal(o.body(c))
	if err != nil {
		return fmt.Errorf("%s: %w", binding.Name, err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, binding.Post.URL, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%s: %w", binding.Name, err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "rollcall")
	if err := o.signer.Sign(request.Header, body, key, postID(c), o.Now()); err != nil {
		return fmt.Errorf("%s: %w", binding.Name, err)
	}
	response, err := o.Client.Do(request)
	if err != nil {
		return fmt.Errorf("%s: %w", binding.Name, err)
	}
	defer func() { _ = response.Body.Close() }()
	_, _ = io.CopyN(io.Discard, response.Body, answerRead) // so that the connection can be used again
	if response.StatusCode < 200 || response.StatusCode > 299 {
		err := fmt.Errorf("%s: %s answered %s", binding.Name, request.URL.Host, response.Status)
		if after := retryAfter(response, o.Now()); after > 0 {
			return &busyError{err, after}
		}
		return err
	}
	return nil
}

// postID is what a receiver knows a change by: its number, and what it is, for a database that is restored from a backup gives
// numbers again, and what a receiver took for done would never be.
func postID(c store.WaitingChange) string {
	return strconv.FormatInt(c.Seq, 10) + "-" + c.Fingerprint()
}

// busyError is a refusal by a receiver that said when to come again.
type busyError struct {
	error
	after time.Duration
}

func (e *busyError) Unwrap() error { return e.error }

// retryAfter is how long an answer of 429 or 503 asks to wait, by a number of seconds or a date (RFC 9110, 10.2.3), or 0.
func retryAfter(r *http.Response, now time.Time) time.Duration {
	if r.StatusCode != http.StatusTooManyRequests && r.StatusCode != http.StatusServiceUnavailable {
		return 0
	}
	text := r.Header.Get("Retry-After")
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if date, err := http.ParseTime(text); err == nil {
		return date.Sub(now)
	}
	return 0
}

func (o *outbox) body(c store.WaitingChange) Posted {
	p := Posted{
		Environment: o.Environment, Seq: c.Seq, Kind: c.Kind, Source: c.Source, Directory: c.Directory, Account: c.Account, Group: c.Group,
		GroupName: face(c.Change).GroupName, Role: c.Role, Event: c.Event, Occurred: c.Occurred, At: c.At, Before: c.Before, After: c.After,
	}
	if o.link.State == store.Linked {
		p.AppID = o.link.AppID
	}
	return p
}

// nothingToPost settles what waits to be posted when nothing is posted any more.
func (b *Binder) nothingToPost(ctx context.Context) error {
	for {
		found, _, err := b.Store.Lanes(ctx, store.Posted, b.Now(), 8*b.Batch)
		lanes := slices.Concat(found[:]...)
		if err != nil || len(lanes) == 0 {
			return err
		}
		waiting, err := b.Store.Waiting(ctx, nil, store.Posted, lanes)
		if err != nil || len(waiting) == 0 {
			return err
		}
		o := outcome{}
		for _, c := range waiting {
			o.done = append(o.done, settled{Done: store.Done{Seq: c.Seq, Result: store.ResultNone}, change: c})
		}
		if err := b.settlePosted(ctx, &o); err != nil {
			return err
		}
	}
}
