package handlers

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"
)

// Anybody can send a body with a signature that is none, and let it come slowly or never end. What such bodies hold is
// bounded: so many at once, the first bytes of each, and beyond those one budget for all of them. A body's time is the
// server's to bound; see Timeouts.
const (
	freeBytes       = 16 << 10 // that each body may hold without asking; few deliveries are larger
	unprovenBytes   = 64 << 20 // that all bodies may hold beyond those, or four whole bodies if that is more
	readersInFlight = 8        // bodies being read, for each delivery that may be in flight
)

// firstRoom is what a body whose length is not declared begins with.
const firstRoom = 512

// discardWithin is how long the rest of a refused body is waited for: HTTP/1.1 reads it to use the connection again.
const discardWithin = 100 * time.Millisecond

// budget is so much at once of something. It may be used by many goroutines.
type budget struct {
	limit int64
	used  atomic.Int64 // never above the limit
}

// take takes n, if they are there.
func (b *budget) take(n int64) bool {
	for {
		used := b.used.Load()
		if used+n > b.limit {
			return false
		}
		if b.used.CompareAndSwap(used, used+n) {
			return true
		}
	}
}

func (b *budget) give(n int64) { b.used.Add(-n) }

// readBody reads the whole body into the delivery. What it claims for that is the delivery's until release.
func (r *Receiver) readBody(c echo.Context, d *delivery) error {
	if !r.readers.take(1) {
		return fmt.Errorf("%w: %d bodies are being read", errOverload, r.readers.limit)
	}
	defer r.readers.give(1)
	req := c.Request()
	// The writer below echo's is the one that closes the connection when the limit is passed.
	from := http.MaxBytesReader(c.Response().Writer, req.Body, r.config.BodyLimit)
	room := min(req.ContentLength+1, freeBytes)
	if req.ContentLength < 0 {
		room = firstRoom
	}
	for body := make([]byte, 0, room); ; {
		if len(body) == cap(body) {
			var err error
			if body, err = r.grow(d, body, req.ContentLength); err != nil {
				return err
			}
		}
		n, err := from.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		var tooLarge *http.MaxBytesError
		switch {
		case errors.Is(err, io.EOF):
			d.body, d.read = body, true
			return nil
		case errors.As(err, &tooLarge):
			return errTooLarge
		case err != nil:
			return fmt.Errorf("%w: %w", errAborted, err)
		}
	}
}

// grow doubles the room of a body that has filled it, so that no body has more than twice the room of what has come, or
// than freeBytes. A declared length only makes it less: the room ends a byte after it, for the end of the body to be
// found there.
func (r *Receiver) grow(d *delivery, body []byte, declared int64) ([]byte, error) {
	room := 2 * int64(cap(body))
	if declared >= int64(cap(body)) {
		room = min(room, declared+1)
	}
	claim := max(0, room-freeBytes)
	if !r.unproven.take(claim - d.claimed) {
		return nil, fmt.Errorf("%w: their bodies hold %d bytes", errOverload, r.unproven.used.Load())
	}
	d.claimed = claim
	return append(make([]byte, 0, room), body...), nil
}

// release gives back what the delivery has claimed: it is proven now, or refused.
func (r *Receiver) release(d *delivery) {
	r.unproven.give(d.claimed)
	d.claimed = 0
}

// leaveUnread keeps the answer from waiting for the rest of a body that nobody wants any more.
func (d *delivery) leaveUnread(c echo.Context) {
	if d.read || c.Request().ContentLength == 0 {
		return
	}
	// An error means that this writer has no deadlines, as in a test; then the server's own hold.
	_ = http.NewResponseController(c.Response()).SetReadDeadline(time.Now().Add(discardWithin))
}
