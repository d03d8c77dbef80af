package workos

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// What WorkOS allows: 6,000 requests a minute for a key, and 4 a second for the users of a directory.
// Source: https://workos.com/docs/reference/rate-limits
const (
	atOnce     = 60
	perSecond  = (6000.0 - atOnce) / 60 // so that no minute has more than 6,000
	usersEvery = 260 * time.Millisecond // a little more than a quarter of a second: requests do not arrive as evenly as they are sent
)

// limits are what a key may ask, shared by all who ask with it.
type limits struct {
	all *pace

	mu    *sync.Mutex      // guards users
	users map[string]*pace // by directory; "" is for requests that name none
}

func newLimits() limits {
	return limits{all: newPace(perSecond, atOnce), mu: new(sync.Mutex), users: map[string]*pace{}}
}

// ofUsers returns the limits of requests for users of a directory.
func (l *limits) ofUsers(directoryID string) []*pace {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.users[directoryID] == nil {
		l.users[directoryID] = newPace(rate.Every(usersEvery), 1)
	}
	return []*pace{l.all, l.users[directoryID]}
}

// pace is one limit.
type pace struct {
	limiter *rate.Limiter

	mu   sync.Mutex // guards held
	held time.Time  // the provider asked for no request before
}

func newPace(perSecond rate.Limit, atOnce int) *pace {
	return &pace{limiter: rate.NewLimiter(perSecond, atOnce)}
}

// wait returns nil when a request may be sent, or why the context ends before.
func (p *pace) wait(ctx context.Context) error {
	for {
		p.mu.Lock()
		left := time.Until(p.held)
		p.mu.Unlock()
		if left <= 0 {
			break
		}
		if err := pause(ctx, left); err != nil {
			return err
		}
	}
	err := p.limiter.Wait(ctx)
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("%w: the rate limit leaves it no time", context.DeadlineExceeded)
	}
	return err
}

// hold lets no request of this limit go before.
func (p *pace) hold(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if until := time.Now().Add(d); until.After(p.held) {
		p.held = until
	}
}

// pause waits, or returns the context's error when that ends before.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// retryAfter returns how long the answer asks to wait: seconds, or a time by the provider's clock.
func (a answer) retryAfter(now func() time.Time) time.Duration {
	text := a.header.Get("Retry-After")
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	from := a.date
	if from.IsZero() {
		from = now()
	}
	return max(at.Sub(from), 0)
}
