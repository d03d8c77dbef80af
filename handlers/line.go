package handlers

import (
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/rs/zerolog"
	"golang.org/x/time/rate"
)

// Anybody can cause a line of a delivery that is not verified, so each source has so many a second.
const (
	linesPerSecond = 10
	linesAtOnce    = 10
)

// lineLimiter bounds the lines of deliveries that nobody has proven, and counts those left out.
type lineLimiter struct {
	rate    *rate.Limiter
	dropped *atomic.Int64
}

func newLineLimiter() lineLimiter {
	return lineLimiter{rate.NewLimiter(linesPerSecond, linesAtOnce), new(atomic.Int64)}
}

// allow reports whether a line may be written, and how many were left out before it.
func (l lineLimiter) allow(now time.Time) (dropped int64, ok bool) {
	if !l.rate.AllowN(now, 1) {
		l.dropped.Add(1)
		return 0, false
	}
	return l.dropped.Swap(0), true
}

// log writes the delivery's one line. It holds ids, sizes and times; never a body, a signature or a secret.
func (r *Receiver) log(c echo.Context, d *delivery, took time.Duration) {
	var dropped int64
	if !d.verified {
		var ok bool
		if dropped, ok = d.source.limiter.allow(d.begun); !ok {
			return
		}
	}
	level, message := d.message()
	line := r.config.Log.WithLevel(level).
		Str("delivery", d.id).Str("source", d.source.Name).Str("outcome", d.outcome.outcome).Int("status", d.outcome.status).
		Int("bytes", len(d.body)).Dur("took", took).Str("remote", c.RealIP())
	if d.identity.ID != "" {
		line.Str("event", d.identity.ID).Str("type", d.identity.Type).Str("directory", d.identity.Directory)
	}
	if d.proof.KeyVersion != "" {
		line.Str("key_version", d.proof.KeyVersion)
	}
	if dropped > 0 {
		line.Int64("dropped", dropped)
	}
	if d.cause != nil {
		line.AnErr("error", d.cause)
	}
	line.Msg(message)
}

func (d *delivery) message() (zerolog.Level, string) {
	switch {
	case d.cause == nil:
		return zerolog.InfoLevel, "delivery"
	case d.outcome.outcome == "stale":
		return zerolog.WarnLevel, "a validly signed delivery came too late and was refused: it is a replay, or it was held up, or a clock is wrong"
	case d.outcome.outcome == "future":
		return zerolog.WarnLevel, "a validly signed delivery is of the future and was refused: compare this machine's clock with the sender's"
	case d.outcome.status == http.StatusServiceUnavailable:
		return zerolog.ErrorLevel, "delivery not taken, the sender was told to come again"
	default:
		return zerolog.WarnLevel, "delivery refused"
	}
}

// clientIP tells who sent a request: the peer, or, when the peer is a trusted proxy, the last address of X-Forwarded-For
// that is not one. What others write there is not believed.
func clientIP(proxies []netip.Prefix) echo.IPExtractor {
	if len(proxies) == 0 {
		return echo.ExtractIPDirect()
	}
	trust := []echo.TrustOption{echo.TrustLoopback(false), echo.TrustLinkLocal(false), echo.TrustPrivateNet(false)}
	for _, p := range proxies {
		p = p.Masked()
		trust = append(trust, echo.TrustIPRange(&net.IPNet{
			IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen()),
		}))
	}
	return echo.ExtractIPFromXFFHeader(trust...)
}
