// Package handlers answers HTTP: it proves who sent a delivery before anything else sees it, and says "received" only
// when the queue has it.
//
// [Receiver] takes the deliveries, [Ops] tells how the process is, and [Servers] gives each its listener, its limits and
// an orderly end. Nothing here knows what an event means.
package handlers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/rollcallhq/rollcall/internal/provider"
	"github.com/rollcallhq/rollcall/queue"
	"github.com/rollcallhq/rollcall/verify"
)

// The limits that hold when the configuration names none.
const (
	DefaultBodyLimit = 1 << 20
	DefaultInFlight  = 512
)

// enqueueWithin bounds the queue's time, so that a sender has our 503 inside a second.
const enqueueWithin = 800 * time.Millisecond

// Source is a configured sender.
type Source struct {
	Name         string   // it answers at /webhooks/NAME; a-z 0-9 _ -
	Paths        []string // further paths that it answers at
	ContentTypes []string // media types of its bodies; empty is JSON: application/json and everything that ends in +json
	Verifier     *verify.Verifier
	Provider     provider.Provider

	// Keys returns the keys that are good now, the current one first. It does not block. Keys of this package makes one.
	Keys func() ([]*verify.Key, error)

	// Suspect is told that a signature matched none of the keys; it returns at once. It may be nil.
	Suspect func()
}

// Enqueuer is the part of the queue that receiving needs. It returns soon after its context ends.
type Enqueuer interface {
	Enqueue(ctx context.Context, d queue.Delivery) (queue.Result, error)
}

// ReceiverConfig is what a Receiver is made of. Zero numbers take the defaults.
type ReceiverConfig struct {
	Sources        []Source
	Queue          Enqueuer
	BodyLimit      int64               // bytes
	InFlight       int                 // deliveries at once whose body is here; more are told to come again
	TrustedProxies []netip.Prefix      // whose X-Forwarded-For is believed, for the log; empty is nobody's
	OnStale        func(source string) // told of a validly signed delivery that came too late; returns at once; may be nil
	Log            zerolog.Logger
	Now            func() time.Time      // nil is time.Now
	Registerer     prometheus.Registerer // nil keeps the metrics to itself
}

// Receiver answers the senders. It is an http.Handler.
//
// A request whose headers claim no signature of the source's scheme is answered before its body is read. The body of
// any other is unproven until its signature is verified, and what unproven bodies hold is bounded together: 8 times
// InFlight of them are read at once, each may hold 16 KiB, and all beyond that 64 MiB, or four times BodyLimit if that is
// more. Past a bound a sender is told to come again. So while somebody fills the 64 MiB, deliveries of up to 16 KiB are
// taken still, and larger ones wait until those bodies' time is over: see Timeouts.
type Receiver struct {
	config  ReceiverConfig
	echo    *echo.Echo
	metrics metrics
	unknown *source // stands for every path that is no source's

	readers  budget // requests whose body is being read
	unproven budget // bytes that bodies hold beyond freeBytes, until they are proven or refused
	inFlight budget // deliveries whose body was read and that are not answered
}

// source is a Source with what is worked out once.
type source struct {
	Source
	success []byte
	metrics sourceMetrics
	limiter lineLimiter
}

// NewReceiver checks the sources and gives each its paths. Its errors name the source.
func NewReceiver(c ReceiverConfig) (*Receiver, error) {
	if c.Queue == nil {
		return nil, errors.New("receiver: no queue")
	}
	if c.BodyLimit <= 0 {
		c.BodyLimit = DefaultBodyLimit
	}
	if c.InFlight <= 0 {
		c.InFlight = DefaultInFlight
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.OnStale == nil {
		c.OnStale = func(string) {}
	}
	r := &Receiver{config: c, echo: newEcho()}
	r.inFlight.limit = int64(c.InFlight)
	r.readers.limit = readersInFlight * r.inFlight.limit
	r.unproven.limit = max(unprovenBytes, 4*c.BodyLimit)
	r.metrics = newMetrics(c.Registerer, func() float64 { return float64(r.readers.used.Load() + r.inFlight.used.Load()) })
	r.unknown = &source{Source: Source{Name: unknownSource}, metrics: r.metrics.ofUnknown(), limiter: newLineLimiter()}
	r.echo.IPExtractor = clientIP(c.TrustedProxies)
	r.echo.HTTPErrorHandler = func(err error, ec echo.Context) { r.answer(ec, r.unknown, fromEcho(err)) }
	taken := map[string]string{}
	for _, s := range c.Sources {
		if err := r.add(s, taken); err != nil {
			return nil, fmt.Errorf("source %q: %w", s.Name, err)
		}
	}
	return r, nil
}

// ServeHTTP implements http.Handler.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) { r.echo.ServeHTTP(w, req) }

func (r *Receiver) add(s Source, taken map[string]string) error {
	if err := s.check(); err != nil {
		return err
	}
	if s.Suspect == nil {
		s.Suspect = func() {}
	}
	own := &source{Source: s, success: []byte(s.Provider.Success.Body), metrics: r.metrics.of(s.Name), limiter: newLineLimiter()}
	handler := func(c echo.Context) error { r.answer(c, own, nil); return nil }
	for _, p := range append([]string{"/webhooks/" + s.Name}, s.Paths...) {
		if other, ok := taken[p]; ok {
			return fmt.Errorf("path %s: is source %q's already", p, other)
		}
		taken[p] = s.Name
		r.echo.Any(p, handler)
	}
	return nil
}

var sourceName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)

func (s Source) check() error {
	success := s.Provider.Success.Status
	switch {
	case !sourceName.MatchString(s.Name):
		return errors.New("name: it is made of a-z 0-9 _ -, 63 at most, and does not begin with _ or -")
	case s.Name == unknownSource:
		return errors.New("name: it stands for senders that are not configured; choose another")
	case s.Verifier == nil || s.Keys == nil || s.Provider.Identify == nil:
		return errors.New("it needs a verifier, keys and a provider")
	case success < 200 || success > 299:
		return fmt.Errorf("provider %s: success status %d is not 200 to 299", s.Provider.Name, success)
	}
	for _, p := range s.Paths {
		if !strings.HasPrefix(p, "/") || path.Clean(p) != p || p == "/" || strings.ContainsAny(p, ":*?#% \\") {
			return fmt.Errorf("path %q: it begins with /, has no empty part, and none of : * ? # %% \\", p)
		}
	}
	return nil
}

// newEcho returns a router that prints nothing and answers nothing by itself.
func newEcho() *echo.Echo {
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	return e
}

// fromEcho says in this package's errors why the router found no handler.
func fromEcho(err error) error {
	var refused *echo.HTTPError
	if !errors.As(err, &refused) {
		return err
	}
	switch refused.Code {
	case http.StatusNotFound:
		return errUnknownSource
	case http.StatusMethodNotAllowed:
		return errMethod
	default:
		return err
	}
}
