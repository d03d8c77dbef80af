package secrets

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/rs/zerolog"
)

// suspectEvery is the least time between two reads of one secret that suspicion asks for: anybody can send a bad
// signature, and each read is a line in the audit log of Vault.
const suspectEvery = 5 * time.Second

// readWithin bounds one refresh, with a new login and a second try if need be.
const readWithin = 30 * time.Second

// remindEvery is how often a trouble that lasts is logged again.
const remindEvery = 10 * time.Minute

// Keyring keeps a snapshot of each configured secret. Its methods may be called by many goroutines at once, and only
// Run and Wait take their time.
type Keyring struct {
	config  Config
	entries map[string]*entry
	names   []string // of entries, sorted
	session *session // nil without a reference to Vault
	metrics metrics
}

// entry is one secret.
type entry struct {
	name    string
	ref     Ref
	origin  origin
	log     zerolog.Logger
	made    time.Time
	suspect chan struct{}
	held    atomic.Pointer[held]
	loaded  chan struct{} // closed when the first snapshot is there

	// Of the goroutine that refreshes.
	last     outcome
	reminded time.Time
}

// held is what the last refresh left. It is replaced, never edited.
type held struct {
	snapshot *Snapshot // nil when there is none
	known    bool      // the last refresh made it
	err      error     // of the last refresh
}

// origin reads a secret from where it is kept. It is used by one goroutine.
type origin interface {
	read(ctx context.Context) answer
}

// answer is what an origin knows.
type answer struct {
	versions []Version // valid now, newest first, values differ
	known    bool      // versions is what the place says now; otherwise it could not be asked
	err      error     // what is wrong, even if versions are known
}

// New makes a keyring that is still empty: Run fills it. It does no I/O but for reading the Vault's CA certificate; a
// reference that cannot be right, and settings that cannot work, are errors.
func New(c Config) (*Keyring, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	k := &Keyring{config: c, entries: map[string]*entry{}}
	if c.usesVault() {
		v, err := newVault(c)
		if err != nil {
			return nil, err
		}
		k.session = newSession(v, c)
	}
	for name, ref := range c.Refs {
		origin, err := c.origin(ref, k.session)
		if err != nil {
			return nil, fmt.Errorf("secret %s: %w", name, err)
		}
		k.names = append(k.names, name)
		k.entries[name] = &entry{
			name: name, ref: ref, origin: origin, made: c.Now(), suspect: make(chan struct{}, 1), loaded: make(chan struct{}),
			log: c.Log.With().Str("source", name).Stringer("ref", ref).Logger(),
		}
	}
	slices.Sort(k.names)
	k.metrics = newMetrics(c.Registerer, k)
	return k, nil
}

// Run reads all secrets and keeps reading them, until the context ends; then it gives the Vault token back, if it was
// made for this keyring, and returns nil. No trouble of Vault or a file ends it.
func (k *Keyring) Run(ctx context.Context) error {
	var running sync.WaitGroup
	refreshing, stop := context.WithCancel(context.WithoutCancel(ctx))
	if k.session != nil {
		running.Go(func() { k.session.run(refreshing) })
	}
	var keeping sync.WaitGroup
	for _, e := range k.entries {
		keeping.Go(func() { k.keep(ctx, e) })
	}
	keeping.Wait() // the token is given back when nobody reads with it any more
	stop()
	running.Wait()
	return nil
}

// Current returns the secret's snapshot, whose versions were valid when it was called, and which is the same pointer
// until something changes. It does no I/O. It fails when there was none yet, when none is valid any more, and when the
// last read is longer ago than max_stale; the error says what went wrong with it.
func (k *Keyring) Current(name string) (*Snapshot, error) {
	e, ok := k.entries[name]
	if !ok {
		return nil, fmt.Errorf("secret %s: %w", name, ErrUnknown)
	}
	h, now := e.held.Load(), k.config.Now()
	switch {
	case h == nil:
		return nil, fmt.Errorf("secret %s: %w", name, ErrNotLoaded)
	case h.snapshot == nil:
		return nil, fmt.Errorf("secret %s: %w", name, h.err)
	case now.Sub(h.snapshot.Fetched) > k.config.MaxStale:
		return nil, fmt.Errorf("secret %s: %w", name, join(ErrStale, h.err))
	}
	return e.live(h, now)
}

// live returns the snapshot without the versions that have ended since it was made.
func (e *entry) live(h *held, now time.Time) (*Snapshot, error) {
	ended := func(v Version) bool { return !v.Expires.IsZero() && !now.Before(v.Expires) }
	if !slices.ContainsFunc(h.snapshot.Versions, ended) {
		return h.snapshot, nil
	}
	left := slices.DeleteFunc(slices.Clone(h.snapshot.Versions), ended)
	if len(left) == 0 {
		return nil, fmt.Errorf("secret %s: %w", e.name, join(ErrNoCurrent, h.err))
	}
	s := &Snapshot{Versions: left, Fetched: h.snapshot.Fetched}
	if !e.held.CompareAndSwap(h, &held{snapshot: s, known: h.known, err: h.err}) {
		return e.live(e.held.Load(), now)
	}
	return s, nil
}

// join keeps the cause of a state that it does not change; the cause may be nil.
func join(state, cause error) error {
	if cause == nil {
		return state
	}
	return fmt.Errorf("%w: %w", state, cause)
}

// Suspect says that the secret may have changed, because a signature did not match. It returns at once; the secret is
// read early, but at most every 5 s, however often it is called.
func (k *Keyring) Suspect(name string) {
	if e, ok := k.entries[name]; ok {
		select {
		case e.suspect <- struct{}{}:
		default:
		}
	}
}

// Age returns how long ago the secret was read; when it never was, how long the keyring has waited for it. Of an unknown
// name it is the longest duration there is.
func (k *Keyring) Age(name string) time.Duration {
	e, ok := k.entries[name]
	if !ok {
		return math.MaxInt64
	}
	since := e.made
	if h := e.held.Load(); h != nil && h.snapshot != nil {
		since = h.snapshot.Fetched
	}
	return max(k.config.Now().Sub(since), 0)
}

// created is when the newest version of a secret was written, in seconds; 0 when it is not known.
func (k *Keyring) created(name string) float64 {
	h := k.entries[name].held.Load()
	if h == nil || h.snapshot == nil || h.snapshot.Versions[0].Created.IsZero() {
		return 0
	}
	return float64(h.snapshot.Versions[0].Created.Unix())
}

// Ready returns what Current has to say against each secret, or nil when all can be used.
func (k *Keyring) Ready() error {
	var causes []error
	for _, name := range k.names {
		if _, err := k.Current(name); err != nil {
			causes = append(causes, err)
		}
	}
	return errors.Join(causes...)
}

// Wait returns nil when every secret has been read once. When the context ends first, its error names those that were
// not, and why.
func (k *Keyring) Wait(ctx context.Context) error {
	for _, name := range k.names {
		select {
		case <-k.entries[name].loaded:
		case <-ctx.Done():
			return fmt.Errorf("wait for secrets: %w", join(ctx.Err(), k.Ready()))
		}
	}
	return nil
}

// keep refreshes one secret until the context ends.
func (k *Keyring) keep(ctx context.Context, e *entry) {
	retry := backoff.NewExponentialBackOff()
	retry.MaxInterval = min(DefaultRefresh, k.config.Refresh)
	retry.InitialInterval = min(retry.InitialInterval, k.config.Refresh)
	for ctx.Err() == nil {
		loggedIn := k.session.loggedIn()
		err := k.refresh(ctx, e)
		wait := k.config.Refresh
		if err == nil {
			loggedIn = nil
			retry.Reset()
		} else {
			wait = min(wait, retry.NextBackOff())
		}
		k.pause(ctx, e, jitter(wait), loggedIn)
	}
}

// pause returns when it is time to read again: after the wait, on suspicion, or when a new login may have mended what
// was wrong.
func (k *Keyring) pause(ctx context.Context, e *entry, wait time.Duration, loggedIn <-chan struct{}) {
	began := time.Now()
	next := time.NewTimer(wait)
	defer next.Stop()
	suspect := e.suspect
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
			return
		case <-loggedIn:
			return
		case <-suspect:
			suspect = nil // one is enough
			early := min(suspectEvery, k.config.Refresh)
			next.Reset(max(0, min(early, wait)-time.Since(began)))
		}
	}
}

// jitter moves the duration by up to a tenth, so that the processes of a fleet do not read together.
func jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.9 + 0.2*rand.Float64())) //nolint:gosec // a delay need not be secret
}

// refresh reads the secret once and keeps what came of it.
func (k *Keyring) refresh(ctx context.Context, e *entry) error {
	limited, cancel := context.WithTimeout(ctx, readWithin)
	a := e.origin.read(limited)
	cancel()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	before := e.held.Load()
	now := &held{known: a.known, err: a.err}
	switch {
	case a.known && len(a.versions) > 0:
		now.snapshot = &Snapshot{Versions: a.versions, Fetched: k.config.Now()}
	case !a.known && before != nil:
		now.snapshot = before.snapshot
	}
	e.held.Store(now)
	if now.snapshot != nil && (before == nil || before.snapshot == nil) {
		e.announce()
	}
	k.metrics.refreshed(e.name, outcomeOf(a.err))
	e.report(before, now, k.config.Now())
	return a.err
}

func (e *entry) announce() {
	select {
	case <-e.loaded:
	default:
		close(e.loaded)
	}
}

// report logs what changed: loud when a secret cannot be read, again every ten minutes while that lasts.
func (e *entry) report(before, now *held, at time.Time) {
	was, is := e.last, outcomeOf(now.err)
	e.last = is
	if was, is := ids(before), ids(now); was != is && is != "" {
		e.log.Info().Str("versions", is).Str("before", was).Msg("secret read")
	}
	switch {
	case now.err != nil && (was != is || at.Sub(e.reminded) >= remindEvery):
		e.reminded = at
		e.log.Error().Err(now.err).Str("result", string(is)).Msg(now.consequence())
	case now.err == nil && was != "" && was != is:
		e.log.Info().Str("result", string(was)).Msg("secret can be read again")
	}
}

// consequence says what a trouble means for deliveries.
func (h *held) consequence() string {
	switch {
	case h.snapshot == nil:
		return "no secret; deliveries that need it are answered 503, and an API that needs it is not asked"
	case h.known:
		return "the current version of the secret cannot be used; older ones are valid for the grace"
	default:
		return "secret cannot be read; the last good one is used until max_stale"
	}
}

func ids(h *held) string {
	if h == nil || h.snapshot == nil {
		return ""
	}
	var all []string
	for _, v := range h.snapshot.Versions {
		all = append(all, v.ID)
	}
	return strings.Join(all, ",")
}
