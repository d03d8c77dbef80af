package handlers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/rollcallhq/rollcall/internal/provider"
	"github.com/rollcallhq/rollcall/queue"
	"github.com/rollcallhq/rollcall/verify"
)

const (
	testSecret = "wh_secret_canary_0123456789abcdef"
	bodyCanary = "body.canary@example.com"
)

// rig is a receiver of one source, "workos", with everything around it in the test's hand.
type rig struct {
	*Receiver
	verifier  *verify.Verifier
	key       *verify.Key
	now       time.Time
	log       *logBuffer
	registry  *prometheus.Registry
	enqueued  *enqueuer
	suspected atomic.Int64
	stale     atomic.Int64
}

// newRig builds the receiver; each change may alter its configuration first.
func newRig(t testing.TB, changes ...func(*ReceiverConfig)) *rig {
	t.Helper()
	r := &rig{
		verifier: newVerifier(t), now: time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC),
		log: &logBuffer{}, registry: prometheus.NewRegistry(), enqueued: &enqueuer{},
	}
	r.key = newKey(t, r.verifier, "7", testSecret)
	config := ReceiverConfig{
		Sources: []Source{{
			Name: "workos", Paths: []string{"/hooks/old"}, Verifier: r.verifier, Provider: testProvider(),
			Keys:    func() ([]*verify.Key, error) { return []*verify.Key{r.key}, nil },
			Suspect: func() { r.suspected.Add(1) },
		}},
		Queue: r.enqueued, OnStale: func(string) { r.stale.Add(1) },
		Log: zerolog.New(r.log), Now: func() time.Time { return r.now }, Registerer: r.registry,
	}
	for _, change := range changes {
		change(&config)
	}
	receiver, err := NewReceiver(config)
	if err != nil {
		t.Fatal(err)
	}
	r.Receiver = receiver
	return r
}

func newVerifier(t testing.TB) *verify.Verifier {
	t.Helper()
	scheme, _ := verify.Preset("workos")
	v, err := verify.New(scheme)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func newKey(t testing.TB, v *verify.Verifier, version, secret string) *verify.Key {
	t.Helper()
	key, err := v.NewKey(version, []byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// testProvider reads {"id","event","directory_id"}, and panics when it is told to.
func testProvider() provider.Provider {
	return provider.Provider{
		Name: "test", Scheme: "workos", Success: provider.Answer{Status: 200, ContentType: "application/json", Body: "{}"},
		Identify: func(body []byte) (provider.Identity, error) {
			var e struct {
				ID, Event string
				Directory string `json:"directory_id"`
			}
			if err := json.Unmarshal(body, &e); err != nil || e.ID == "" {
				return provider.Identity{}, errors.New("no event")
			}
			if e.Event == "panic" {
				panic(string(body))
			}
			return provider.Identity{ID: e.ID, Type: e.Event, Directory: e.Directory}, nil
		},
	}
}

func eventBody(id string) []byte {
	return fmt.Appendf(nil, `{"id":%q,"event":"dsync.user.created","directory_id":"directory_1","email":%q}`, id, bodyCanary)
}

// signed returns a delivery as the sender makes it.
func (r *rig) signed(t testing.TB, body []byte, at time.Time) *http.Request {
	t.Helper()
	req := httptest.NewRequest(http.MethodPost, "/webhooks/workos", bytes.NewReader(body))
	req.Header.Set("Content-Type", "application/json")
	if err := r.verifier.Sign(req.Header, body, r.key, "", at); err != nil {
		t.Fatal(err)
	}
	return req
}

func (r *rig) do(req *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r.ServeHTTP(w, req)
	return w
}

// enqueuer is a queue that keeps what it is given, or does what the test says.
type enqueuer struct {
	mu  sync.Mutex
	got []queue.Delivery
	do  func(ctx context.Context, d queue.Delivery) (queue.Result, error)
}

func (q *enqueuer) Enqueue(ctx context.Context, d queue.Delivery) (queue.Result, error) {
	q.mu.Lock()
	q.got = append(q.got, d)
	q.mu.Unlock()
	if q.do != nil {
		return q.do(ctx, d)
	}
	return queue.Accepted, nil
}

func (q *enqueuer) all() []queue.Delivery {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.got
}

// logBuffer keeps lines.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// lines returns the log's lines as objects.
func (l *logBuffer) lines(t testing.TB) []map[string]any {
	t.Helper()
	var out []map[string]any
	for text := range strings.Lines(l.String()) {
		line := map[string]any{}
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("log line %q: %v", text, err)
		}
		out = append(out, line)
	}
	return out
}

func readAll(t testing.TB, res *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(res.Body)
	if err = errors.Join(err, res.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// eventually waits for a condition that something else brings about.
func eventually(t testing.TB, what string, met func() bool) {
	t.Helper()
	limit := time.NewTimer(20 * time.Second)
	defer limit.Stop()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for !met() {
		select {
		case <-limit.C:
			t.Fatalf("waited 20 s in vain: %s", what)
		case <-again.C:
		}
	}
}
