package main

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"time"
)

// refused is the error of a delivery that was answered, and not with a 2xx.
func refused(out sentJSON, at time.Time) error {
	var problem struct {
		Title string `json:"title"`
	}
	text := strings.TrimSpace(out.Answer)
	if json.Unmarshal([]byte(out.Answer), &problem) == nil && problem.Title != "" {
		text = problem.Title
	}
	return fmt.Errorf("refused with %d: %s\nhint: %s", out.Status, printable(text), refusalHint(out, at))
}

// refusalHint says what to do about a refusal of a delivery that was signed as of a time.
func refusalHint(out sentJSON, at time.Time) string {
	if out.Delivery == "" {
		return "it is no rollcall's receiver that answers there; is --url right?"
	}
	grep := "look for delivery " + printable(out.Delivery) + " in the receiver's log"
	switch {
	case out.Status == http.StatusNotFound:
		return "is the source's name right? It answers at /webhooks/NAME; " + grep
	case out.Status != http.StatusUnauthorized:
		return grep
	case at.IsZero():
		return "mostly it is another secret, or a clock that differs; " + grep
	default:
		return "it was signed " + ago(time.Since(at)) + "; " + grep
	}
}

// ago is a time in the past, or in the future, as people say it: 1h6m ago, 30s ahead.
func ago(d time.Duration) string {
	word, unit := " ago", time.Second
	if d < 0 {
		d, word = -d, " ahead"
	}
	if d >= time.Minute {
		unit = time.Minute
	}
	text := d.Round(unit).String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	return text + word
}

// unreachable is the error of a delivery that was not answered at all.
func unreachable(url string, err error) error {
	hint := "is it running there, and reachable from here?"
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &certificate):
		hint = "a self-made certificate needs --ca FILE, or --insecure on this machine"
	case errors.Is(err, syscall.ECONNREFUSED):
		hint = "nobody listens there; is it running, and is the port that of its public.address?"
	case strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"): // net/http has no type for it
		hint = "it speaks plain HTTP there; --url begins with http:// then"
	}
	return fmt.Errorf("post to %s: %w\nhint: %s", url, cause(err), hint)
}
