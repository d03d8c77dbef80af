package binder

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rollcallhq/rollcall/internal/store"
)

// outcome gathers what came of changes on a track.
type outcome struct {
	config *Config
	now    time.Time
	done   []settled
	failed []store.Failed
}

// settled is a change that is done, and what is to be known of it.
type settled struct {
	store.Done
	change store.WaitingChange
	link   store.Link
}

// settle notes that a change is done, and with it those that it makes moot. It returns how many these are.
func (o *outcome) settle(l *lane, i int, done store.Done) int {
	moot := skipped(l.changes, i)
	for _, j := range moot {
		c := l.changes[j]
		o.done = append(o.done, settled{store.Done{Seq: c.Seq, Result: store.ResultSkipped}, c, l.link})
	}
	o.done = append(o.done, settled{done, l.changes[i], l.link})
	if l.asked && l.link.State != store.Linked && done.Result != store.ResultNone {
		l.missed = true
	}
	n := 0
	for j, c := range l.changes {
		if j != i && !slices.Contains(moot, j) {
			l.changes[n] = c
			n++
		}
	}
	l.changes = l.changes[:n]
	return len(moot)
}

// fail notes that a change failed. Those that wait to be skipped with it wait as long as it does.
func (o *outcome) fail(l *lane, i int, err error) {
	c := &l.changes[i]
	wait := backoff(o.config.RetryFirst, o.config.RetryLongest, c.Attempts)
	var busy *busyError
	if errors.As(err, &busy) {
		wait = max(wait, min(busy.after, o.config.RetryLongest))
	}
	c.Next = o.config.Now().Add(wait)
	c.Attempts++
	o.failed = append(o.failed, store.Failed{Seq: c.Seq, Error: err.Error(), Next: c.Next})
	for _, j := range skipped(l.changes, i) {
		if m := &l.changes[j]; m.Next.Before(c.Next) {
			m.Next = c.Next
			o.failed = append(o.failed, store.Failed{Seq: m.Seq, Next: m.Next, Error: fmt.Sprintf("change %d takes it away again, and fails: %v", c.Seq, err)})
		}
	}
}

// hold lets all changes of an account wait until it is known whose they are. Somebody may say so at any time, so that they do
// not wait long.
func (o *outcome) hold(l *lane) {
	until := o.now.Add(o.config.LinkRetry)
	for i := range l.changes {
		if c := &l.changes[i]; !c.Next.After(o.now) {
			c.Next = until
			o.failed = append(o.failed, store.Failed{Seq: c.Seq, Next: until, Error: fmt.Sprintf("%v (%s): %s\nhint: see `rollcall links`", errHeld, l.link.State, l.link.Detail)})
		}
	}
}

func (o *outcome) doneOnes() []store.Done {
	done := make([]store.Done, len(o.done))
	for i, d := range o.done {
		done[i] = d.Done
	}
	return done
}
