package handlers

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/rollcallhq/rollcall/internal/provider"
	"github.com/rollcallhq/rollcall/queue"
	"github.com/rollcallhq/rollcall/verify"
)

func TestEveryCaseHasItsAnswer(t *testing.T) {
	t.Parallel()
	body := eventBody("event_1")
	queueSays := func(result queue.Result, err error) func(*ReceiverConfig) {
		return func(c *ReceiverConfig) {
			c.Queue.(*enqueuer).do = func(context.Context, queue.Delivery) (queue.Result, error) { return result, err }
		}
	}
	keysSay := func(keys []*verify.Key, err error) func(*ReceiverConfig) {
		return func(c *ReceiverConfig) { c.Sources[0].Keys = func() ([]*verify.Key, error) { return keys, err } }
	}
	cases := map[string]struct {
		body    []byte
		age     time.Duration
		change  func(*http.Request)
		config  func(*ReceiverConfig)
		status  int
		outcome string
		source  string // workos unless named
		queued  bool
	}{
		"accepted":             {status: 200, outcome: "accepted", queued: true},
		"accepted at its path": {change: func(r *http.Request) { r.URL.Path = "/hooks/old" }, status: 200, outcome: "accepted", queued: true},
		"duplicate":            {config: queueSays(queue.Duplicate, nil), status: 200, outcome: "duplicate", queued: true},
		"not decodable":        {body: []byte("{not json"), status: 200, outcome: "accepted", queued: true},
		"the provider's success": {
			config: func(c *ReceiverConfig) { c.Sources[0].Provider.Success = provider.Answer{Status: 204} },
			status: 204, outcome: "accepted", queued: true,
		},
		"content type with parameters": {
			change: func(r *http.Request) { r.Header.Set("Content-Type", "application/json; charset=utf-8") },
			status: 200, outcome: "accepted", queued: true,
		},
		"content type of a JSON kind": {
			change: func(r *http.Request) { r.Header.Set("Content-Type", "application/cloudevents+json") },
			status: 200, outcome: "accepted", queued: true,
		},
		"identity encoding": {
			change: func(r *http.Request) { r.Header.Set("Content-Encoding", "identity") },
			status: 200, outcome: "accepted", queued: true,
		},
		"a content type of the source": {
			config: func(c *ReceiverConfig) { c.Sources[0].ContentTypes = []string{"application/jwt"} },
			change: func(r *http.Request) { r.Header.Set("Content-Type", "application/jwt") },
			status: 200, outcome: "accepted", queued: true,
		},
		"unknown source": {
			change: func(r *http.Request) { r.URL.Path = "/webhooks/nobody" },
			status: 404, outcome: "unknown_source", source: "unknown",
		},
		"unknown path": {
			change: func(r *http.Request) { r.URL.Path = "/webhooks/workos/../../etc/passwd" },
			status: 404, outcome: "unknown_source", source: "unknown",
		},
		"wrong method":   {change: func(r *http.Request) { r.Method = http.MethodGet }, status: 405, outcome: "method"},
		"unheard method": {change: func(r *http.Request) { r.Method = "BREW" }, status: 405, outcome: "method", source: "unknown"},
		"too large, declared": {
			body: bytes.Repeat([]byte("x"), DefaultBodyLimit+1), status: 413, outcome: "too_large",
		},
		"too large, found out": {
			body:   bytes.Repeat([]byte("x"), DefaultBodyLimit+1),
			change: func(r *http.Request) { r.ContentLength = -1 },
			status: 413, outcome: "too_large",
		},
		"as large as allowed": {
			body: append(eventBody("event_1"), bytes.Repeat([]byte(" "), DefaultBodyLimit-len(body))...), status: 200, outcome: "accepted", queued: true,
		},
		"no content type":    {change: func(r *http.Request) { r.Header.Del("Content-Type") }, status: 415, outcome: "media_type"},
		"wrong content type": {change: func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }, status: 415, outcome: "media_type"},
		"gzip":               {change: func(r *http.Request) { r.Header.Set("Content-Encoding", "gzip") }, status: 415, outcome: "media_type"},
		"two encodings": {
			change: func(r *http.Request) { r.Header["Content-Encoding"] = []string{"identity", "gzip"} },
			status: 415, outcome: "media_type",
		},
		"no signature": {change: func(r *http.Request) { r.Header.Del("WorkOS-Signature") }, status: 401, outcome: "missing"},
		"malformed signature": {
			change: func(r *http.Request) { r.Header.Set("WorkOS-Signature", "v1") }, status: 401, outcome: "malformed",
		},
		"ten thousand signatures": {
			change: func(r *http.Request) {
				r.Header.Set("WorkOS-Signature", r.Header.Get("WorkOS-Signature")+strings.Repeat(", v1=00", 10_000))
			},
			status: 401, outcome: "malformed",
		},
		"body changed by a byte": {
			change: func(r *http.Request) {
				changed := bytes.Replace(body, []byte("event_1"), []byte("event_2"), 1)
				r.Body = io.NopCloser(bytes.NewReader(changed))
			},
			status: 401, outcome: "mismatch",
		},
		"stale":                {age: 180*time.Second + time.Millisecond, status: 401, outcome: "stale"},
		"at the edge of stale": {age: 180 * time.Second, status: 200, outcome: "accepted", queued: true},
		"of the future":        {age: -180*time.Second - time.Millisecond, status: 401, outcome: "future"},
		"no keys yet":          {config: keysSay(nil, errors.New("vault is down")), status: 503, outcome: "no_key"},
		"no key at all":        {config: keysSay(nil, nil), status: 503, outcome: "no_key"},
		"queue full": {
			config: queueSays(0, fmt.Errorf("enqueue: %w", queue.ErrFull)), status: 503, outcome: "full", queued: true,
		},
		"queue unreachable": {
			config: queueSays(0, fmt.Errorf("enqueue: %w: refused", queue.ErrUnavailable)), status: 503, outcome: "unavailable", queued: true,
		},
		"queue too slow": {
			config: queueSays(0, fmt.Errorf("enqueue: %w: %w", queue.ErrUnavailable, context.DeadlineExceeded)),
			status: 503, outcome: "timeout", queued: true,
		},
		"something else": {config: queueSays(0, errors.New("a surprise")), status: 503, outcome: "failed", queued: true},
		"panic in the provider": {
			body: []byte(`{"id":"event_1","event":"panic","email":"` + bodyCanary + `"}`), status: 503, outcome: "failed",
		},
		"a body that breaks off": {
			change: func(r *http.Request) { r.Body = io.NopCloser(io.MultiReader(strings.NewReader("{"), brokenReader{})) },
			status: 503, outcome: "aborted",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rig := newRig(t, func(config *ReceiverConfig) {
				if c.config != nil {
					c.config(config)
				}
			})
			if c.body == nil {
				c.body = body
			}
			if c.source == "" {
				c.source = "workos"
			}
			req := rig.signed(t, c.body, rig.now.Add(-c.age))
			signature := req.Header.Get("WorkOS-Signature")
			if c.change != nil {
				c.change(req)
			}
			w := rig.do(req)
			if w.Code != c.status {
				t.Errorf("status %d, want %d; log %s", w.Code, c.status, rig.log)
			}
			if got := len(rig.enqueued.all()); (got == 1) != c.queued {
				t.Errorf("the queue was asked %d times", got)
			}
			lines := rig.log.lines(t)
			if len(lines) != 1 {
				t.Fatalf("%d log lines, want one: %s", len(lines), rig.log)
			}
			id := w.Header().Get(DeliveryHeader)
			want := map[string]any{"delivery": id, "outcome": c.outcome, "status": float64(c.status), "source": c.source}
			for key, value := range want {
				if lines[0][key] != value {
					t.Errorf("log: %s is %v, want %v", key, lines[0][key], value)
				}
			}
			if n := testutil.ToFloat64(rig.metrics.deliveries.WithLabelValues(c.source, c.outcome)); n != 1 {
				t.Errorf("counted %v times as %s", n, c.outcome)
			}
			checkAnswer(t, w, id)
			for _, canary := range []string{testSecret, bodyCanary, signature[len(signature)-64:]} {
				if strings.Contains(rig.log.String()+w.Body.String(), canary) {
					t.Errorf("%q shows in the log or the answer:\n%s\n%s", canary, rig.log, w.Body)
				}
			}
		})
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// checkAnswer checks what all answers have in common.
func checkAnswer(t *testing.T, w *httptest.ResponseRecorder, id string) {
	t.Helper()
	if len(id) < 26 {
		t.Errorf("delivery id %q has less than 128 bits", id)
	}
	if retry := w.Header().Get("Retry-After"); (retry != "") != (w.Code == 503) {
		t.Errorf("status %d with Retry-After %q", w.Code, retry)
	}
	if allow := w.Header().Get("Allow"); (allow != "") != (w.Code == 405) {
		t.Errorf("status %d with Allow %q", w.Code, allow)
	}
	if w.Code < 300 {
		return
	}
	if got := w.Header().Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("content type %q", got)
	}
	var problem map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &problem); err != nil {
		t.Fatalf("%s: %v", w.Body, err)
	}
	if problem["status"] != float64(w.Code) || problem["id"] != id || problem["title"] == "" || problem["type"] != "about:blank" {
		t.Errorf("problem %v for status %d, id %s", problem, w.Code, id)
	}
}

func TestA401SaysTheSameWhateverTheReason(t *testing.T) {
	t.Parallel()
	rig := newRig(t)
	answers := map[string]bool{}
	send := func(req *http.Request) {
		w := rig.do(req)
		answers[strings.ReplaceAll(w.Body.String(), w.Header().Get(DeliveryHeader), "ID")] = true
	}
	body := eventBody("event_1")
	send(rig.signed(t, body, rig.now.Add(-time.Hour)))
	send(rig.signed(t, body, rig.now.Add(time.Hour)))
	for _, header := range []string{"", "nonsense", "t=1, v1=00", "t=1, v1=" + strings.Repeat("00", 32)} {
		req := rig.signed(t, body, rig.now)
		req.Header.Set("WorkOS-Signature", header)
		send(req)
	}
	if len(answers) != 1 {
		t.Errorf("different reasons give different answers: %v", answers)
	}
}

func TestWhatIsQueuedIsWhatWasSent(t *testing.T) {
	t.Parallel()
	rig := newRig(t)
	body, signedAt := eventBody("event_1"), rig.now.Add(-30*time.Second)
	rig.do(rig.signed(t, body, signedAt))
	undecodable := []byte("[1, 2]")
	rig.do(rig.signed(t, undecodable, signedAt))
	sum := sha256.Sum256(undecodable)
	want := []queue.Delivery{
		{Source: "workos", ID: "event_1", Directory: "directory_1", Origin: queue.Hook, Received: rig.now, KeyVersion: "7", SignedAt: signedAt, Body: body},
		{Source: "workos", ID: "sha256:" + hex.EncodeToString(sum[:]), Origin: queue.Hook, Received: rig.now, KeyVersion: "7", SignedAt: signedAt, Body: undecodable},
	}
	if diff := cmp.Diff(want, rig.enqueued.all()); diff != "" {
		t.Errorf("queued (-want +got):\n%s", diff)
	}
}

func TestALogLineTellsADelivery(t *testing.T) {
	t.Parallel()
	rig := newRig(t)
	req := rig.signed(t, eventBody("event_1"), rig.now)
	req.RemoteAddr = "192.0.2.9:4711"
	w := rig.do(req)
	want := map[string]any{
		"level": "info", "message": "delivery", "delivery": w.Header().Get(DeliveryHeader), "source": "workos", "outcome": "accepted",
		"status": 200.0, "bytes": float64(len(eventBody("event_1"))), "took": 0.0, "remote": "192.0.2.9",
		"event": "event_1", "type": "dsync.user.created", "directory": "directory_1", "key_version": "7",
	}
	if diff := cmp.Diff([]map[string]any{want}, rig.log.lines(t)); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}

func TestReplayedDeliveryIsAcceptedOnce(t *testing.T) {
	t.Parallel()
	q, err := queue.OpenEmbedded(queue.EmbeddedConfig{Path: filepath.Join(t.TempDir(), "queue.db"), Environment: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
	rig := newRig(t, func(c *ReceiverConfig) { c.Queue = q })
	for range 3 {
		if w := rig.do(rig.signed(t, eventBody("event_1"), rig.now)); w.Code != 200 || w.Body.String() != "{}" {
			t.Fatalf("answer %d %s; log %s", w.Code, w.Body, rig.log)
		}
	}
	stats, err := q.Stats(t.Context())
	if err != nil || stats.Depth() != 1 {
		t.Errorf("the queue holds %d, %v; want 1", stats.Depth(), err)
	}
	accepted := testutil.ToFloat64(rig.metrics.deliveries.WithLabelValues("workos", "accepted"))
	duplicate := testutil.ToFloat64(rig.metrics.deliveries.WithLabelValues("workos", "duplicate"))
	if accepted != 1 || duplicate != 2 {
		t.Errorf("%v accepted, %v duplicate", accepted, duplicate)
	}
}

func TestBlockedQueueIsA503InsideASecond(t *testing.T) {
	t.Parallel()
	blocked := &enqueuer{do: func(ctx context.Context, _ queue.Delivery) (queue.Result, error) {
		release := time.NewTimer(5 * time.Second)
		defer release.Stop()
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("enqueue: %w: %w", queue.ErrUnavailable, ctx.Err())
		case <-release.C:
			return queue.Accepted, nil
		}
	}}
	rig := newRig(t, func(c *ReceiverConfig) { c.Queue = blocked })
	begun := time.Now()
	w := rig.do(rig.signed(t, eventBody("event_1"), rig.now))
	if took := time.Since(begun); w.Code != 503 || took >= time.Second {
		t.Errorf("status %d after %s", w.Code, took)
	}
}

func TestASenderThatHangsUpIsQueuedStill(t *testing.T) {
	t.Parallel()
	rig := newRig(t)
	rig.enqueued.do = func(ctx context.Context, _ queue.Delivery) (queue.Result, error) { return queue.Accepted, ctx.Err() }
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if w := rig.do(rig.signed(t, eventBody("event_1"), rig.now).WithContext(ctx)); w.Code != 200 {
		t.Errorf("status %d; log %s", w.Code, rig.log)
	}
}

func TestMoreDeliveriesThanTheLimitAreToldToComeAgain(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}), make(chan struct{})
	rig := newRig(t, func(c *ReceiverConfig) { c.InFlight = 1 })
	rig.enqueued.do = func(context.Context, queue.Delivery) (queue.Result, error) {
		entered <- struct{}{}
		<-leave
		return queue.Accepted, nil
	}
	first := make(chan int)
	req := rig.signed(t, eventBody("event_1"), rig.now)
	go func() { first <- rig.do(req).Code }()
	<-entered
	if n := rig.inFlight.used.Load(); n != 1 {
		t.Errorf("%d in flight", n)
	}
	if w := rig.do(rig.signed(t, eventBody("event_2"), rig.now)); w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("the second: status %d", w.Code)
	}
	close(leave)
	if status := <-first; status != 200 {
		t.Errorf("the first: status %d", status)
	}
	go func() { <-entered }()
	if w := rig.do(rig.signed(t, eventBody("event_3"), rig.now)); w.Code != 200 {
		t.Errorf("the third, alone again: status %d", w.Code)
	}
}

func TestOnlyAMismatchSuspectsTheKeysAndOnlyAStaleOnePokesThePoller(t *testing.T) {
	t.Parallel()
	body := eventBody("event_1")
	cases := map[string]struct {
		send             func(*testing.T, *rig) *http.Request
		suspected, stale int64
	}{
		"valid": {func(t *testing.T, r *rig) *http.Request { return r.signed(t, body, r.now) }, 0, 0},
		"stale": {func(t *testing.T, r *rig) *http.Request { return r.signed(t, body, r.now.Add(-time.Hour)) }, 0, 1},
		"other key": {func(t *testing.T, r *rig) *http.Request {
			req := r.signed(t, body, r.now)
			if err := r.verifier.Sign(req.Header, body, newKey(t, r.verifier, "8", "another secret, just as long"), "", r.now); err != nil {
				t.Fatal(err)
			}
			return req
		}, 1, 0},
		"stale under another key": {func(t *testing.T, r *rig) *http.Request {
			req := r.signed(t, body, r.now)
			if err := r.verifier.Sign(req.Header, body, newKey(t, r.verifier, "8", "another secret, just as long"), "", r.now.Add(-time.Hour)); err != nil {
				t.Fatal(err)
			}
			return req
		}, 1, 0},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rig := newRig(t)
			rig.do(c.send(t, rig))
			if rig.suspected.Load() != c.suspected || rig.stale.Load() != c.stale {
				t.Errorf("keys suspected %d times, stale told %d times; want %d, %d", rig.suspected.Load(), rig.stale.Load(), c.suspected, c.stale)
			}
		})
	}
}

func TestForgersCannotFloodTheLog(t *testing.T) {
	t.Parallel()
	rig := newRig(t)
	forge := func() {
		req := rig.signed(t, eventBody("event_1"), rig.now)
		req.Header.Set("WorkOS-Signature", "t=1, v1="+strings.Repeat("00", 32))
		rig.do(req)
	}
	for range 1000 {
		forge()
	}
	if n := len(rig.log.lines(t)); n != linesAtOnce {
		t.Errorf("1000 forgeries at once made %d lines, want %d", n, linesAtOnce)
	}
	rig.do(rig.signed(t, eventBody("event_2"), rig.now))
	rig.now = rig.now.Add(time.Second)
	forge()
	lines := rig.log.lines(t)
	if n := len(lines); n != linesAtOnce+2 {
		t.Fatalf("%d lines, want %d: a proven delivery always has one", n, linesAtOnce+2)
	}
	if got := lines[len(lines)-1]["dropped"]; got != float64(1000-linesAtOnce) {
		t.Errorf("the next line says %v were dropped, want %d", got, 1000-linesAtOnce)
	}
}

func TestForwardedAddressIsBelievedOfTrustedProxiesOnly(t *testing.T) {
	t.Parallel()
	proxies := []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("2001:db8::/64")}
	cases := map[string]struct {
		trusted   []netip.Prefix
		peer      string
		forwarded []string
		want      string
	}{
		"nobody is trusted":                  {nil, "10.1.0.9:1", []string{"198.51.100.7"}, "10.1.0.9"},
		"not even this machine":              {proxies, "127.0.0.1:1", []string{"198.51.100.7"}, "127.0.0.1"},
		"a stranger's word":                  {proxies, "203.0.113.5:1", []string{"198.51.100.7"}, "203.0.113.5"},
		"a proxy's word":                     {proxies, "10.1.0.9:1", []string{"198.51.100.7"}, "198.51.100.7"},
		"a proxy's word over IPv6":           {proxies, "[2001:db8::1]:1", []string{"198.51.100.7"}, "198.51.100.7"},
		"a stranger's word through a proxy":  {proxies, "10.1.0.9:1", []string{"192.0.2.1, 198.51.100.7"}, "198.51.100.7"},
		"the same in two headers":            {proxies, "10.1.0.9:1", []string{"192.0.2.1", "198.51.100.7"}, "198.51.100.7"},
		"through two proxies":                {proxies, "10.1.0.9:1", []string{"198.51.100.7, 10.1.0.8"}, "198.51.100.7"},
		"a private address is not a proxy's": {proxies, "10.1.0.9:1", []string{"198.51.100.7, 192.168.0.1"}, "192.168.0.1"},
		"no address":                         {proxies, "10.1.0.9:1", []string{"nonsense"}, "10.1.0.9"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rig := newRig(t, func(config *ReceiverConfig) { config.TrustedProxies = c.trusted })
			req := rig.signed(t, eventBody("event_1"), rig.now)
			req.RemoteAddr = c.peer
			req.Header["X-Forwarded-For"] = c.forwarded
			req.Header.Set("X-Real-Ip", "192.0.2.200")
			rig.do(req)
			if got := rig.log.lines(t)[0]["remote"]; got != c.want {
				t.Errorf("remote is %v, want %s", got, c.want)
			}
		})
	}
}

func TestASourceThatCannotBeServedIsRefused(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		change func(*ReceiverConfig)
		want   string
	}{
		"name":       {func(c *ReceiverConfig) { c.Sources[0].Name = "a/b" }, "name"},
		"reserved":   {func(c *ReceiverConfig) { c.Sources[0].Name = "unknown" }, "choose another"},
		"wildcard":   {func(c *ReceiverConfig) { c.Sources[0].Paths = []string{"/hooks/*"} }, "/hooks/*"},
		"relative":   {func(c *ReceiverConfig) { c.Sources[0].Paths = []string{"hooks"} }, "hooks"},
		"path twice": {func(c *ReceiverConfig) { c.Sources[0].Paths = []string{"/webhooks/workos"} }, "already"},
		"name twice": {func(c *ReceiverConfig) { c.Sources = append(c.Sources, c.Sources[0]) }, "already"},
		"no keys":    {func(c *ReceiverConfig) { c.Sources[0].Keys = nil }, "keys"},
		"status":     {func(c *ReceiverConfig) { c.Sources[0].Provider.Success.Status = 302 }, "302"},
		"no queue":   {func(c *ReceiverConfig) { c.Queue = nil }, "queue"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := ReceiverConfig{
				Queue: &enqueuer{},
				Sources: []Source{{
					Name: "workos", Verifier: newVerifier(t), Provider: testProvider(), Keys: func() ([]*verify.Key, error) { return nil, nil },
				}},
			}
			c.change(&config)
			if _, err := NewReceiver(config); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("NewReceiver: %v, want something about %q", err, c.want)
			}
		})
	}
}

func TestMetricsReadAsPinned(t *testing.T) {
	t.Parallel()
	verifier := newVerifier(t)
	keys := []*verify.Key{newKey(t, verifier, "7", testSecret), newKey(t, verifier, "6", "the previous secret, still good")}
	rig := newRig(t, func(c *ReceiverConfig) {
		c.Sources[0].Verifier, c.Sources[0].Keys = verifier, func() ([]*verify.Key, error) { return keys, nil }
	})
	body := eventBody("event_1")
	rig.do(rig.signed(t, body, rig.now))
	rig.do(rig.signed(t, body, rig.now))
	rig.key = keys[1]
	rig.do(rig.signed(t, body, rig.now))
	rig.do(rig.signed(t, body, rig.now.Add(-time.Hour)))
	unsigned := rig.signed(t, body, rig.now)
	unsigned.Header.Del("WorkOS-Signature")
	rig.do(unsigned)
	stray := rig.signed(t, body, rig.now)
	stray.URL.Path = "/wp-login.php"
	rig.do(stray)
	err := testutil.GatherAndCompare(rig.registry, strings.NewReader(pinnedMetrics), "rollcall_deliveries_total",
		"rollcall_signature_failures_total", "rollcall_key_verifications_total", "rollcall_inflight_deliveries", "rollcall_delivery_bytes",
		"rollcall_delivery_duration_seconds")
	if err != nil {
		t.Error(err)
	}
	if problems, err := testutil.GatherAndLint(rig.registry); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
}

const pinnedMetrics = `
# HELP rollcall_deliveries_total Requests of senders, by what came of them.
# TYPE rollcall_deliveries_total counter
rollcall_deliveries_total{outcome="aborted",source="workos"} 0
rollcall_deliveries_total{outcome="accepted",source="workos"} 3
rollcall_deliveries_total{outcome="duplicate",source="workos"} 0
rollcall_deliveries_total{outcome="failed",source="unknown"} 0
rollcall_deliveries_total{outcome="failed",source="workos"} 0
rollcall_deliveries_total{outcome="full",source="workos"} 0
rollcall_deliveries_total{outcome="future",source="workos"} 0
rollcall_deliveries_total{outcome="malformed",source="workos"} 0
rollcall_deliveries_total{outcome="media_type",source="workos"} 0
rollcall_deliveries_total{outcome="method",source="unknown"} 0
rollcall_deliveries_total{outcome="method",source="workos"} 0
rollcall_deliveries_total{outcome="mismatch",source="workos"} 0
rollcall_deliveries_total{outcome="missing",source="workos"} 1
rollcall_deliveries_total{outcome="no_key",source="workos"} 0
rollcall_deliveries_total{outcome="overload",source="workos"} 0
rollcall_deliveries_total{outcome="stale",source="workos"} 1
rollcall_deliveries_total{outcome="timeout",source="workos"} 0
rollcall_deliveries_total{outcome="too_large",source="workos"} 0
rollcall_deliveries_total{outcome="unavailable",source="workos"} 0
rollcall_deliveries_total{outcome="unknown_source",source="unknown"} 1
# HELP rollcall_delivery_bytes Size of the bodies that were read whole.
# TYPE rollcall_delivery_bytes histogram
rollcall_delivery_bytes_bucket{le="256"} 4
rollcall_delivery_bytes_bucket{le="1024"} 4
rollcall_delivery_bytes_bucket{le="4096"} 4
rollcall_delivery_bytes_bucket{le="16384"} 4
rollcall_delivery_bytes_bucket{le="65536"} 4
rollcall_delivery_bytes_bucket{le="262144"} 4
rollcall_delivery_bytes_bucket{le="1.048576e+06"} 4
rollcall_delivery_bytes_bucket{le="+Inf"} 4
rollcall_delivery_bytes_sum 432
rollcall_delivery_bytes_count 4
# HELP rollcall_delivery_duration_seconds Time from a delivery's headers to its answer.
# TYPE rollcall_delivery_duration_seconds histogram
rollcall_delivery_duration_seconds_bucket{source="unknown",le="0.0005"} 1
rollcall_delivery_duration_seconds_bucket{source="unknown",le="0.001"} 1
rollcall_delivery_duration_seconds_bucket{source="unknown",le="0.0025"} 1
rollcall_delivery_duration_seconds_bucket{source="unknown",le="0.005"} 1
rollcall_delivery_duration_seconds_bucket{source="unknown",le="0.01"} 1
rollcall_delivery_duration_seconds_bucket{source="unknown",le="0.025"} 1
rollcall_delivery_duration_seconds_bucket{source="unknown",le="0.05"} 1
rollcall_delivery_duration_seconds_bucket{source="unknown",le="0.1"} 1
rollcall_delivery_duration_seconds_bucket{source="unknown",le="0.25"} 1
rollcall_delivery_duration_seconds_bucket{source="unknown",le="0.5"} 1
rollcall_delivery_duration_seconds_bucket{source="unknown",le="1"} 1
rollcall_delivery_duration_seconds_bucket{source="unknown",le="2.5"} 1
rollcall_delivery_duration_seconds_bucket{source="unknown",le="10"} 1
rollcall_delivery_duration_seconds_bucket{source="unknown",le="+Inf"} 1
rollcall_delivery_duration_seconds_sum{source="unknown"} 0
rollcall_delivery_duration_seconds_count{source="unknown"} 1
rollcall_delivery_duration_seconds_bucket{source="workos",le="0.0005"} 5
rollcall_delivery_duration_seconds_bucket{source="workos",le="0.001"} 5
rollcall_delivery_duration_seconds_bucket{source="workos",le="0.0025"} 5
rollcall_delivery_duration_seconds_bucket{source="workos",le="0.005"} 5
rollcall_delivery_duration_seconds_bucket{source="workos",le="0.01"} 5
rollcall_delivery_duration_seconds_bucket{source="workos",le="0.025"} 5
rollcall_delivery_duration_seconds_bucket{source="workos",le="0.05"} 5
rollcall_delivery_duration_seconds_bucket{source="workos",le="0.1"} 5
rollcall_delivery_duration_seconds_bucket{source="workos",le="0.25"} 5
rollcall_delivery_duration_seconds_bucket{source="workos",le="0.5"} 5
rollcall_delivery_duration_seconds_bucket{source="workos",le="1"} 5
rollcall_delivery_duration_seconds_bucket{source="workos",le="2.5"} 5
rollcall_delivery_duration_seconds_bucket{source="workos",le="10"} 5
rollcall_delivery_duration_seconds_bucket{source="workos",le="+Inf"} 5
rollcall_delivery_duration_seconds_sum{source="workos"} 0
rollcall_delivery_duration_seconds_count{source="workos"} 5
# HELP rollcall_inflight_deliveries Deliveries being taken now.
# TYPE rollcall_inflight_deliveries gauge
rollcall_inflight_deliveries 0
# HELP rollcall_key_verifications_total Deliveries verified, by whether the current key or a previous one signed them.
# TYPE rollcall_key_verifications_total counter
rollcall_key_verifications_total{source="workos",version="current"} 2
rollcall_key_verifications_total{source="workos",version="previous"} 1
# HELP rollcall_signature_failures_total Deliveries refused for their signature; stale and future ones were validly signed.
# TYPE rollcall_signature_failures_total counter
rollcall_signature_failures_total{reason="future",source="workos"} 0
rollcall_signature_failures_total{reason="malformed",source="workos"} 0
rollcall_signature_failures_total{reason="mismatch",source="workos"} 0
rollcall_signature_failures_total{reason="missing",source="workos"} 1
rollcall_signature_failures_total{reason="stale",source="workos"} 1
`
