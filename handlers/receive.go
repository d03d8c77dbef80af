package handlers

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/rollcallhq/rollcall/internal/provider"
	"github.com/rollcallhq/rollcall/queue"
	"github.com/rollcallhq/rollcall/verify"
)

// delivery is one request, filled in as it goes and written down at the end.
type delivery struct {
	id       string
	source   *source
	begun    time.Time
	body     []byte
	read     bool          // the whole body was
	claimed  int64         // bytes of the budget for what is unproven
	proof    verify.Result // of the key that signed; also of a stale one
	verified bool
	identity provider.Identity
	queued   queue.Result
	outcome  answer
	cause    error
}

// answer takes a delivery, or refuses it when it is given the reason, and answers, counts and logs it.
func (r *Receiver) answer(c echo.Context, s *source, refused error) {
	d := delivery{id: rand.Text(), source: s, begun: r.config.Now(), cause: refused}
	if refused == nil {
		d.cause = r.take(c, &d)
	}
	d.outcome = d.answer()
	d.leaveUnread(c)
	r.write(c, &d)
	took := r.config.Now().Sub(d.begun)
	s.metrics.count(&d, took)
	if d.read {
		r.metrics.bytes.Observe(float64(len(d.body)))
	}
	r.log(c, &d, took)
}

// take does what stands between a request and its place in the queue, in the order in which it costs us more. Until the
// signature is verified, the body is seen by nothing but the verifier. A place among those in flight is taken once the
// body is here, so that senders whose bodies do not come hold none.
func (r *Receiver) take(c echo.Context, d *delivery) (err error) {
	defer recovered(&err)
	req, s := c.Request(), d.source
	if err := s.admits(req, r.config.BodyLimit); err != nil {
		return err
	}
	if err := s.Verifier.Precheck(req.Header); err != nil {
		return err
	}
	defer r.release(d)
	if err := r.readBody(c, d); err != nil {
		return err
	}
	if !r.inFlight.take(1) {
		return errOverload
	}
	defer r.inFlight.give(1)
	if err := r.prove(req, d); err != nil {
		return err
	}
	r.release(d)
	d.identity = s.identify(d.body)
	return r.enqueue(req.Context(), d)
}

// admits checks what can be checked before a byte of the body is read.
func (s *source) admits(req *http.Request, limit int64) error {
	switch {
	case req.Method != http.MethodPost:
		return errMethod
	case !s.speaks(req.Header.Get("Content-Type")):
		return errMediaType
	case !unencoded(req.Header):
		return errMediaType
	case req.ContentLength > limit:
		return errTooLarge
	}
	return nil
}

func (s *source) speaks(contentType string) bool {
	if contentType == "application/json" && len(s.ContentTypes) == 0 {
		return true
	}
	media, _, err := mime.ParseMediaType(contentType)
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) {
		return false
	}
	if len(s.ContentTypes) == 0 {
		return media == "application/json" || strings.HasSuffix(media, "+json")
	}
	return slices.Contains(s.ContentTypes, media)
}

// unencoded reports whether the body is sent as it was signed. Nothing is ever unpacked.
func unencoded(h http.Header) bool {
	values := h.Values("Content-Encoding")
	return len(values) == 0 || len(values) == 1 && (values[0] == "" || strings.EqualFold(values[0], "identity"))
}

// prove verifies the signature. A delivery without a key to check it with is our trouble, never the sender's.
func (r *Receiver) prove(req *http.Request, d *delivery) error {
	keys, err := d.source.Keys()
	if err == nil && len(keys) == 0 {
		err = errors.New("there is none")
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errNoKey, err)
	}
	d.proof, err = d.source.Verifier.Verify(req.Header, d.body, keys, r.config.Now())
	switch {
	case err == nil:
		d.verified = true
	case errors.Is(err, verify.ErrMismatch):
		d.source.Suspect()
	case errors.Is(err, verify.ErrStale):
		r.config.OnStale(d.source.Name)
	}
	return err
}

// longestID is as long as an id may be to name a delivery; the hash names a body with a longer one.
const longestID = 255

// identify names a verified body, if need be by its hash: what cannot be decoded is queued too, and parked by the worker.
func (s *source) identify(body []byte) provider.Identity {
	identity, err := s.Provider.Identify(body)
	if err != nil || identity.ID == "" || len(identity.ID) > longestID {
		sum := sha256.Sum256(body)
		return provider.Identity{ID: "sha256:" + hex.EncodeToString(sum[:])}
	}
	return identity
}

// enqueue goes on when the sender hangs up: what it sent is proven, and worth keeping.
func (r *Receiver) enqueue(ctx context.Context, d *delivery) (err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), enqueueWithin)
	defer cancel()
	d.queued, err = r.config.Queue.Enqueue(ctx, queue.Delivery{
		Source: d.source.Name, ID: d.identity.ID, Directory: d.identity.Directory, Origin: queue.Hook,
		Received: d.begun, KeyVersion: d.proof.KeyVersion, SignedAt: d.proof.Timestamp, Body: d.body,
	})
	return err
}

// recovered makes an error of a panic. The error shows the panic's text only when the runtime wrote it: another may hold
// the body.
func recovered(err *error) {
	p := recover()
	broken, isError := p.(error)
	var ours runtime.Error
	switch {
	case p == nil:
	case isError && errors.Is(broken, http.ErrAbortHandler):
		panic(p)
	case isError && errors.As(broken, &ours):
		*err = fmt.Errorf("%w: %s\n%s", errPanic, ours.Error(), debug.Stack())
	default:
		*err = fmt.Errorf("%w: %T\n%s", errPanic, p, debug.Stack())
	}
}
