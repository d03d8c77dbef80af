package secrets

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/hashicorp/vault/api"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// Logins that fail are tried again after these times, with jitter, for ever.
const (
	loginSoonest = 500 * time.Millisecond
	loginLatest  = 30 * time.Second
)

// session keeps a token of Vault alive, and replaces it when it cannot be: at the end of its life, or when Vault refuses
// it. Its methods may be called by many goroutines at once.
type session struct {
	vault   *vault
	refresh time.Duration
	log     zerolog.Logger
	logins  *prometheus.CounterVec
	expiry  prometheus.Gauge
	refused chan struct{} // tells run that Vault refused the token

	// mu guards what follows. The channels are closed and replaced, so that whoever holds one is told of the next event.
	mu       sync.Mutex
	token    *token // nil before the first login
	failure  error  // of the last login; nil when it worked, and before the first
	tried    chan struct{}
	replaced chan struct{}
	forced   time.Time // when a refusal last made it log in
}

func newSession(v *vault, c Config) *session {
	s := &session{
		vault: v, refresh: c.Refresh, log: c.Log,
		refused: make(chan struct{}, 1), tried: make(chan struct{}), replaced: make(chan struct{}),
		logins: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rollcall_vault_logins_total", Help: "Logins to Vault, by what came of them.",
		}, []string{"result"}),
		expiry: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "rollcall_vault_token_expiry_timestamp_seconds", Help: "When the Vault token ends if it is not renewed; 0 when it has no known end.",
		}),
	}
	for _, result := range []outcome{"ok", "missing", "denied", "sealed", "throttled", "unreachable", "failed"} {
		s.logins.WithLabelValues(string(result))
	}
	return s
}

func (s *session) collectors() []prometheus.Collector {
	return []prometheus.Collector{s.logins, s.expiry}
}

// loggedIn returns a channel that is closed at the next login. Without a session it never is.
func (s *session) loggedIn() <-chan struct{} {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.replaced
}

// do works with the token. When Vault refuses it, it logs in once and works once more.
func (s *session) do(ctx context.Context, work func(context.Context, *api.Client) error) error {
	t, err := s.current(ctx)
	if err != nil {
		return err
	}
	err = work(ctx, s.vault.with(t))
	if !errors.Is(err, ErrDenied) {
		return err
	}
	if t = s.another(ctx, t); t == nil {
		return err
	}
	return work(ctx, s.vault.with(t))
}

// current returns the token. Before the first login it waits for what comes of it.
func (s *session) current(ctx context.Context) (*token, error) {
	for {
		s.mu.Lock()
		t, failure, tried := s.token, s.failure, s.tried
		s.mu.Unlock()
		switch {
		case t != nil:
			return t, nil
		case failure != nil:
			return nil, failure
		}
		select {
		case <-tried:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// another returns a token that is not the one that was refused, or nil. It has the session log in if nobody else did,
// but once in a refresh at most: a refusal may also mean that the policy is not right, and each login makes a token.
func (s *session) another(ctx context.Context, refused *token) *token {
	s.mu.Lock()
	tried := s.tried
	if !s.token.same(refused) {
		defer s.mu.Unlock()
		return s.token
	}
	if time.Since(s.forced) < s.refresh {
		s.mu.Unlock()
		return nil
	}
	s.forced = time.Now()
	select {
	case s.refused <- struct{}{}:
	default:
	}
	s.mu.Unlock()
	select {
	case <-tried:
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.token.same(refused) {
		return nil
	}
	return s.token
}

// run logs in, again and again, until the context ends; then it gives the token back.
func (s *session) run(ctx context.Context) {
	var watching sync.WaitGroup
	defer watching.Wait()
	again := backoff.NewExponentialBackOff()
	again.InitialInterval, again.MaxInterval = loginSoonest, loginLatest
	for ctx.Err() == nil {
		t, err := s.vault.method.login(ctx, s.vault.client)
		if ctx.Err() != nil {
			s.vault.revoke(ctx, t)
			break
		}
		s.logins.WithLabelValues(string(outcomeOf(err))).Inc()
		if err != nil {
			s.fail(err)
			sleep(ctx, again.NextBackOff())
			continue
		}
		before := s.install(t)
		if before != nil && !before.same(t) {
			s.vault.revoke(ctx, before)
		}
		began := time.Now()
		if ended := s.outlive(ctx, t, &watching); ended && time.Since(began) < time.Second {
			sleep(ctx, again.NextBackOff()) // a token that somebody else made may be about to end, and be given again
			continue
		}
		again.Reset()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.vault.revoke(ctx, s.token)
	s.token = nil
}

// fail keeps what went wrong with a login, and logs it when it is something new.
func (s *session) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if outcomeOf(s.failure) != outcomeOf(err) {
		s.log.Error().Err(err).Msg("cannot log in to Vault; trying again")
	}
	s.failure = err
	close(s.tried)
	s.tried = make(chan struct{})
}

// install makes the token the one to use and returns the one before.
func (s *session) install(t *token) (before *token) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before = s.token
	if before == nil || s.failure != nil { // renewals of a login that works are not news
		s.log.Info().Dur("ttl", t.ttl).Msg("logged in to Vault")
	}
	s.token, s.failure = t, nil
	select {
	case <-s.refused: // it was about the one before
	default:
	}
	close(s.tried)
	s.tried = make(chan struct{})
	if !before.same(t) {
		close(s.replaced)
		s.replaced = make(chan struct{})
	}
	s.expires(t.ttl)
	return before
}

func (s *session) expires(ttl time.Duration) {
	if ttl <= 0 {
		s.expiry.Set(0)
		return
	}
	s.expiry.Set(float64(time.Now().Add(ttl).Unix()))
}

// outlive renews the token and returns when another is needed: its life is near its end, Vault refused it, or its file
// has changed. It says whether it was the first.
func (s *session) outlive(ctx context.Context, t *token, watching *sync.WaitGroup) (ended bool) {
	look := time.NewTicker(s.refresh)
	defer look.Stop()
	done, renewed, stop := s.watch(t, watching)
	defer stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-s.refused:
			return false
		case <-done: //nolint:errcheck // nil or not, its end is near
			return true
		case renewal := <-renewed:
			s.expires(time.Duration(renewal.Secret.Auth.LeaseDuration) * time.Second)
		case <-look.C:
			if s.changed(ctx, t) {
				return false
			}
		}
	}
}

// watch starts to renew the token, if it has an end. The watcher's goroutine is in the group; it may outlast stop by one
// call.
func (s *session) watch(t *token, watching *sync.WaitGroup) (done <-chan error, renewed <-chan *api.RenewOutput, stop func()) {
	if t.ttl <= 0 {
		return nil, nil, func() {}
	}
	w, err := s.vault.with(t).NewLifetimeWatcher(&api.LifetimeWatcherInput{Secret: t.secret()})
	if err != nil { // it has neither a secret nor a token
		return nil, nil, func() {}
	}
	watching.Go(w.Start)
	return w.DoneCh(), w.RenewCh(), w.Stop
}

// changed says whether somebody put another token where this one was read.
func (s *session) changed(ctx context.Context, t *token) bool {
	m, ok := s.vault.method.(given)
	if !ok {
		return false
	}
	value, err := m.token(ctx)
	return err == nil && value != t.text()
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
