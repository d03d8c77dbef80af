// Package binder makes the application follow the changes: it finds which row of the application's users an account is,
// runs the application's own statements once for each change, in order, and looks whether somebody who left has anything
// left.
//
// It may be killed at any point. What a change's statements did is committed together with a mark that says so, and a
// change whose mark is there is never run again. Any number of binders may run: each account is one's at a time, by a lock
// in the application's database that nobody waits for.
package binder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/verify"
)

// Config is what a binder needs. Store has no default.
type Config struct {
	Store    store.Store
	Database *Database // the application's; without one nothing but posts can be configured, and one process may post

	Bindings  []Binding
	Tenant    string // statement for the application's tenant of @organization_id; may be empty
	Link      *Link  // nil: the application's rows are not known, and @app_id is always null
	Protected string // statement for the ids of users whom nothing wholesale deactivates; may be empty
	Probes    []Probe
	Owners    Owners

	Mode store.Mode // of directories that are seen for the first time; "" is Observe

	LockTimeout      time.Duration // of a statement's wait for a lock; 0 is 2 s
	StatementTimeout time.Duration // of a statement; 0 is 5 s
	Connections      int           // transactions at once; 0 is 4; SQLite has one
	Batch            int           // lanes a transaction, at most; 0 is 64
	RetryFirst       time.Duration // until a failed change is tried again; it doubles; 0 is 1 s
	RetryLongest     time.Duration // where the doubling ends; 0 is 5 minutes
	LinkRetry        time.Duration // until an account without a row is looked up again; it doubles up to an hour; 0 is 1 minute
	Poll             time.Duration // between two looks for changes when nobody calls Wake; 0 is 200 ms
	Grace            time.Duration // that transactions in hand get to finish when Run's context ends; 0 is 15 s

	Environment string       // named in posts
	Client      *http.Client // for posts; nil is one that follows no redirects

	Log        zerolog.Logger
	Registerer prometheus.Registerer // nil registers nothing
	Now        func() time.Time      // nil is time.Now
}

// Binder binds. Make it with New; its methods may be called by many goroutines at once, Run once.
type Binder struct {
	Config
	statements
	signer  *verify.Verifier
	metrics metrics
	health  health
	woken   []chan struct{} // of the tracks and of what looks after directories
	found   chan struct{}   // poked when a link was found of which changes are to be told again
	left    chan []settled  // those who left and are to be probed; nil until Run

	keptAfter int64 // what was kept is looked at after this change next; it belongs to lookAtSpared
}

const (
	lockTimeout      = 2 * time.Second
	statementTimeout = 5 * time.Second
	connections      = 4
	lanesAtOnce      = 64
	retryFirst       = time.Second
	retryLongest     = 5 * time.Minute
	linkRetry        = time.Minute
	linkLongest      = time.Hour
	pollEvery        = 200 * time.Millisecond
	lastTransaction  = 15 * time.Second
)

// New returns a binder that has not begun, its statements compiled. Its errors name each statement that cannot be.
func New(c Config) (*Binder, error) {
	c.Mode = cmp.Or(c.Mode, store.Observe)
	c.LockTimeout, c.StatementTimeout = cmp.Or(c.LockTimeout, lockTimeout), cmp.Or(c.StatementTimeout, statementTimeout)
	c.Connections, c.Batch = cmp.Or(c.Connections, connections), cmp.Or(c.Batch, lanesAtOnce)
	c.RetryFirst, c.RetryLongest, c.LinkRetry = cmp.Or(c.RetryFirst, retryFirst), cmp.Or(c.RetryLongest, retryLongest), cmp.Or(c.LinkRetry, linkRetry)
	c.Poll, c.Grace = cmp.Or(c.Poll, pollEvery), cmp.Or(c.Grace, lastTransaction)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Client == nil {
		c.Client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	if c.Database != nil && c.Database.Kind == SQLite {
		c.Connections = 1
	}
	compiled, err := compile(c)
	if err != nil {
		return nil, err
	}
	scheme, _ := verify.Preset("standard-webhooks")
	signer, err := verify.New(scheme)
	if err != nil {
		return nil, fmt.Errorf("posts: %w", err)
	}
	b := &Binder{Config: c, statements: compiled, signer: signer, metrics: newMetrics(c.Registerer), found: make(chan struct{}, 1)}
	b.health.now = c.Now
	for range 3 {
		b.woken = append(b.woken, make(chan struct{}, 1))
	}
	return b, nil
}

// Wake makes the binder look for changes now. It does not wait.
func (b *Binder) Wake() {
	for _, c := range b.woken {
		poke(c)
	}
}

// Run binds until the context ends, then finishes the transactions in hand within the grace, and returns nil. Whatever a
// database or receiver answers, it goes on trying.
func (b *Binder) Run(ctx context.Context) error {
	if !b.ready(ctx) {
		return nil
	}
	var g sync.WaitGroup
	b.left = make(chan []settled, probesWait)
	g.Go(func() { b.probeThose(ctx) })
	g.Go(func() { b.bound(b.Connections).run(ctx) })
	if len(b.posts) > 0 {
		g.Go(func() { b.posted().run(ctx) })
	} else {
		g.Go(func() {
			b.every(ctx, "changes that nothing is posted for not settled", idleEvery, idleEvery, nil, b.nothingToPost)
		})
	}
	g.Go(func() { b.every(ctx, "directories not looked after", b.Poll, time.Second, b.woken[2], b.admit) })
	g.Go(func() { b.every(ctx, "backlog not counted", gaugesEvery, gaugesEvery, nil, b.measure) })
	g.Go(func() { b.every(ctx, "broken bindings not prepared", prepareEvery, prepareEvery, nil, b.prepareBroken) })
	if b.Link != nil {
		g.Go(func() { b.every(ctx, "links not looked up again", b.Poll, b.LinkRetry/4, b.found, b.lookAgain) })
		g.Go(func() {
			b.every(ctx, "what took nothing not looked at again", b.Poll, b.LinkRetry/4, nil, b.lookAtSpared)
		})
		again := min(probeEvery, b.LinkRetry)
		g.Go(func() { b.every(ctx, "accounts not probed", probeEvery, probeEvery, nil, b.probeMissing) })
		g.Go(func() { b.every(ctx, "accounts not probed again", again, again, nil, b.probeAgain) })
	}
	g.Wait()
	b.left = nil
	return nil
}

// ready waits until the application's database can be asked, then makes its table of marks and prepares the statements.
func (b *Binder) ready(ctx context.Context) bool {
	if b.Database == nil {
		return true
	}
	retry := newBackoff()
	for {
		err := b.Database.Marks.Create(ctx, b.Database.SQL)
		if err == nil {
			err = b.prepare(ctx, b.all())
		}
		if err == nil || ctx.Err() != nil {
			return ctx.Err() == nil
		}
		b.Log.Error().Err(err).Msg("the application's database is not ready; trying again")
		wait(ctx, retry.NextBackOff())
	}
}

// every does something again and again: after a time, or sooner when poked, but not sooner than the least one. It logs what
// goes wrong, once while it does.
func (b *Binder) every(ctx context.Context, what string, least, most time.Duration, poked <-chan struct{}, do func(context.Context) error) {
	said := false
	for ctx.Err() == nil {
		err := do(ctx)
		if err != nil && !said && ctx.Err() == nil {
			b.Log.Warn().Err(err).Msg(what + "; trying again")
		}
		said = err != nil
		wait(ctx, least)
		timer := time.NewTimer(max(most-least, 0))
		select {
		case <-ctx.Done():
		case <-poked:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// errHeld reports that nobody knows which row of the application's an account is.
var errHeld = errors.New("nobody knows which of the application's accounts this is")

// errAgain reports that another account of the same person is worked on, or somebody else settles the same changes. Nothing of the
// change stays, and it has not failed: it is looked at again.
var errAgain = errors.New("somebody else has to do with the same at this time")

// errSpared is errAgain when what came of the other account is known already.
var errSpared = fmt.Errorf("%w: it keeps what was to be taken", errAgain)
