package handlers

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/rollcallhq/rollcall/queue"
	"github.com/rollcallhq/rollcall/verify"
)

// The reasons for which this package refuses a delivery itself.
var (
	errUnknownSource = errors.New("no source answers there")
	errMethod        = errors.New("the method is not POST")
	errMediaType     = errors.New("the content type or encoding is not the source's")
	errTooLarge      = errors.New("the body is too large")
	errOverload      = errors.New("too many deliveries at once")
	errAborted       = errors.New("the body did not come")
	errNoKey         = errors.New("no key to verify with")
	errPanic         = errors.New("panic")
)

// answer is what is said to a sender, and the outcome under which it is counted and logged.
type answer struct {
	status  int
	outcome string
	title   string // empty on success
}

// The titles that several cases share: a sender learns no more than whom to ask and whether to come again.
const (
	unproven    = "The signature could not be verified."
	unavailable = "The delivery cannot be taken now. Please send it again."
)

// refusals is the one table from errors to answers; the first that matches counts. What is not in it is our trouble.
var refusals = []struct {
	err error
	answer
}{
	{errUnknownSource, answer{http.StatusNotFound, "unknown_source", "No webhook answers here."}},
	{errMethod, answer{http.StatusMethodNotAllowed, "method", "A delivery is sent with POST."}},
	{errMediaType, answer{http.StatusUnsupportedMediaType, "media_type", "The body is not of a type and encoding that is taken here."}},
	{errTooLarge, answer{http.StatusRequestEntityTooLarge, "too_large", "The body is too large."}},
	{verify.ErrMissing, answer{http.StatusUnauthorized, "missing", unproven}},
	{verify.ErrMalformed, answer{http.StatusUnauthorized, "malformed", unproven}},
	{verify.ErrMismatch, answer{http.StatusUnauthorized, "mismatch", unproven}},
	{verify.ErrStale, answer{http.StatusUnauthorized, "stale", unproven}},
	{verify.ErrFuture, answer{http.StatusUnauthorized, "future", unproven}},
	{errOverload, answer{http.StatusServiceUnavailable, "overload", unavailable}},
	{errAborted, answer{http.StatusServiceUnavailable, "aborted", unavailable}},
	{errNoKey, answer{http.StatusServiceUnavailable, "no_key", unavailable}},
	{errPanic, answer{http.StatusServiceUnavailable, "failed", unavailable}},
	{queue.ErrFull, answer{http.StatusServiceUnavailable, "full", unavailable}},
	{context.DeadlineExceeded, answer{http.StatusServiceUnavailable, "timeout", unavailable}},
	{queue.ErrUnavailable, answer{http.StatusServiceUnavailable, "unavailable", unavailable}},
}

var ourTrouble = answer{http.StatusServiceUnavailable, "failed", unavailable}

func (d *delivery) answer() answer {
	if d.cause == nil && d.queued == queue.Duplicate {
		return answer{status: d.source.Provider.Success.Status, outcome: "duplicate"}
	}
	if d.cause == nil {
		return answer{status: d.source.Provider.Success.Status, outcome: "accepted"}
	}
	for _, r := range refusals {
		if errors.Is(d.cause, r.err) {
			return r.answer
		}
	}
	return ourTrouble
}

// DeliveryHeader carries the id under which the log knows a delivery.
const DeliveryHeader = "Rollcall-Delivery"

// retryAfter is how many seconds a sender is asked to wait when the trouble is ours.
const retryAfter = "5"

func (r *Receiver) write(c echo.Context, d *delivery) {
	w := c.Response()
	h := w.Header()
	h.Set(DeliveryHeader, d.id)
	if d.cause != nil {
		if d.outcome.status == http.StatusMethodNotAllowed {
			h.Set("Allow", http.MethodPost)
		}
		WriteProblem(w, d.outcome.status, d.outcome.title, d.id)
		return
	}
	if len(d.source.success) > 0 {
		h.Set("Content-Type", d.source.Provider.Success.ContentType)
	}
	w.WriteHeader(d.outcome.status)
	_, _ = w.Write(d.source.success) // a sender that is gone comes again
}

// WriteProblem answers with an application/problem+json (RFC 9457) that bears the id, when there is one, and asks the
// caller to come again when the status is 503.
func WriteProblem(w http.ResponseWriter, status int, title, id string) {
	p := struct {
		Type     string `json:"type"`
		Title    string `json:"title"`
		Status   int    `json:"status"`
		Instance string `json:"instance,omitempty"`
		ID       string `json:"id,omitempty"`
	}{Type: "about:blank", Title: title, Status: status, ID: id}
	if id != "" {
		p.Instance = "urn:rollcall:delivery:" + id
	}
	body, _ := json.Marshal(p) // of strings and a number: it cannot fail
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if status == http.StatusServiceUnavailable {
		h.Set("Retry-After", retryAfter)
	}
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// problemsOf makes a router answer its own errors as problems.
func problemsOf(e *echo.Echo) {
	e.HTTPErrorHandler = func(err error, c echo.Context) {
		status := http.StatusInternalServerError
		var refused *echo.HTTPError
		if errors.As(err, &refused) {
			status = refused.Code
		}
		WriteProblem(c.Response(), status, http.StatusText(status), "")
	}
}
