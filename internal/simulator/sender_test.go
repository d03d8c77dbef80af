package simulator_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/internal/provider/workos"
	"github.com/rollcallhq/rollcall/internal/simulator"
	"github.com/rollcallhq/rollcall/verify"
)

// newSender returns a sender to nowhere, and the check of a request that it sent, which returns the delivery's id.
func newSender(t testing.TB) (*simulator.Sender, func(r *http.Request) (id string, signed time.Time)) {
	t.Helper()
	scheme, _ := verify.Preset("workos")
	verifier, err := verify.New(scheme)
	if err != nil {
		t.Fatal(err)
	}
	key, err := verifier.NewKey("1", []byte("a secret of the test's own"))
	if err != nil {
		t.Fatal(err)
	}
	check := func(r *http.Request) (string, time.Time) {
		body, _ := io.ReadAll(r.Body)
		result, err := verifier.Verify(r.Header, body, []*verify.Key{key}, time.Now())
		if err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s, %v: %v", r.Method, r.URL, r.Header, err)
		}
		id, err := workos.Provider().Identify(body)
		if err != nil {
			t.Error(err)
		}
		return id.ID, result.Timestamp
	}
	return &simulator.Sender{URL: "http://receiver.example/webhooks/workos", Verifier: verifier, Key: key}, check
}

// transport answers without a network.
type transport func(r *http.Request) (*http.Response, error)

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) { return t(r) }

func answer(status int, header ...string) *http.Response {
	r := &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("{}"))}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

// order sends and returns the ids in the order in which they arrived.
func order(t *testing.T, s *simulator.Sender, check func(*http.Request) (string, time.Time), deliveries []simulator.Delivery) ([]string, simulator.Stats) {
	t.Helper()
	var ids []string
	var mu sync.Mutex
	s.Client = &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
		id, _ := check(r)
		mu.Lock()
		defer mu.Unlock()
		ids = append(ids, id)
		return answer(200), nil
	})}
	stats, err := s.Send(t.Context(), deliveries)
	if err != nil {
		t.Fatalf("Send() = %v, %v", stats, err)
	}
	return ids, stats
}

func TestEachDeliveryArrivesAtLeastOnceThroughABadServer(t *testing.T) {
	t.Parallel()
	s, check := newSender(t)
	_, deliveries := live(4, 200)
	var mu sync.Mutex
	accepted, requests := map[string]int{}, 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, _ := check(r)
		mu.Lock()
		defer mu.Unlock()
		switch requests++; requests % 7 {
		case 1:
			w.WriteHeader(http.StatusInternalServerError)
		case 3:
			w.Header().Set("Retry-After", "1") // bounded by MaxWait
			w.WriteHeader(http.StatusServiceUnavailable)
		case 5:
			panic(http.ErrAbortHandler) // drops the connection
		default:
			accepted[id]++
		}
	}))
	t.Cleanup(server.Close)
	s.URL, s.Client = server.URL, server.Client()
	s.Concurrency, s.Repeat, s.Window, s.Delay = 8, 0.2, 30, time.Millisecond
	s.Attempts, s.Backoff, s.MaxWait = -1, time.Millisecond, 5*time.Millisecond
	var calls []simulator.Answer // without a lock: calls come one at a time
	s.OnAnswer = func(a simulator.Answer) { calls = append(calls, a) }

	stats, err := s.Send(t.Context(), deliveries)
	if err != nil {
		t.Fatalf("Send() = %v, %v", stats, err)
	}
	total := 0
	for _, d := range deliveries {
		if n := accepted[d.ID]; n < 1 || n > 2 {
			t.Errorf("%s was accepted %d times, want once or twice", d.ID, n)
		}
		total += accepted[d.ID]
	}
	if total != len(deliveries)+stats.Repeated || stats.Accepted != total || stats.Status[200] != total {
		t.Errorf("the server accepted %d, %d deliveries, stats %v", total, len(deliveries), stats)
	}
	if stats.Repeated < len(deliveries)/10 || stats.Status[0] == 0 || stats.Status[500] == 0 || stats.Status[503] == 0 || stats.Failed != 0 {
		t.Errorf("a bad server and a bad network do not show in the stats: %v", stats)
	}
	if stats.Sent != len(calls) || stats.Sent-stats.Retried != len(deliveries)+stats.Repeated || stats.P50 <= 0 || stats.P99 < stats.P50 || stats.Max < stats.P99 {
		t.Errorf("%d answers told of, stats %v", len(calls), stats)
	}
}

func TestTheOrderComesFromTheSeedAndTheWindow(t *testing.T) {
	t.Parallel()
	s, check := newSender(t)
	_, deliveries := live(4, 100)
	var want []string
	for _, d := range deliveries {
		want = append(want, d.ID)
	}
	straight, _ := order(t, s, check, deliveries)
	if diff := cmp.Diff(want, straight); diff != "" {
		t.Errorf("without a window the order changed (-want +got):\n%s", diff)
	}
	s.Window = 20
	one, _ := order(t, s, check, deliveries)
	again, _ := order(t, s, check, deliveries)
	s.Seed++
	other, _ := order(t, s, check, deliveries)
	if !slices.Equal(one, again) || slices.Equal(one, other) || slices.Equal(one, straight) {
		t.Errorf("want the same order for a seed, another for another, and none as delivered")
	}
	for at, id := range one {
		if late := at - slices.Index(want, id); late > s.Window || late < -s.Window {
			t.Errorf("%s arrived %d places late, the window is %d", id, late, s.Window)
		}
	}
}

func TestAShareIsRepeatedHalfOfItAtOnce(t *testing.T) {
	t.Parallel()
	s, check := newSender(t)
	_, deliveries := live(4, 400)
	s.Repeat = 0.5
	ids, stats := order(t, s, check, deliveries)
	times, atOnce := map[string]int{}, 0
	for i, id := range ids {
		times[id]++
		if i > 0 && ids[i-1] == id {
			atOnce++
		}
	}
	if n := len(deliveries); stats.Repeated < n*4/10 || stats.Repeated > n*6/10 || len(times) != n || len(ids) != n+stats.Repeated {
		t.Errorf("%d of %d deliveries repeated, want half", stats.Repeated, n)
	}
	if atOnce < stats.Repeated*4/10 || atOnce > stats.Repeated*7/10 {
		t.Errorf("%d of %d repeats follow at once, want about half", atOnce, stats.Repeated)
	}
}

func TestTwinsAreUnderWayAtTheSameTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := newSender(t)
		s.Repeat = 1
		underway, most := map[string]int{}, 0
		var mu sync.Mutex
		s.Client = &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
			body, _ := io.ReadAll(r.Body)
			count := func(n int) {
				mu.Lock()
				defer mu.Unlock()
				underway[string(body)] += n
				most = max(most, underway[string(body)])
			}
			count(1)
			time.Sleep(time.Second)
			count(-1)
			return answer(200), nil
		})}
		_, deliveries := live(4, 1)
		if _, err := s.Send(t.Context(), deliveries); err != nil || most != 2 {
			t.Errorf("%d copies of a delivery were under way at once, want 2; error %v", most, err)
		}
	})
}

func TestAttemptsAreSignedAnewAndWaitLongerEachTime(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		header  []string
		maxWait time.Duration
		want    []time.Duration // between attempts, give or take a quarter
	}{
		"backoff":               {nil, 0, []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond}},
		"bounded":               {nil, 150 * time.Millisecond, []time.Duration{100 * time.Millisecond, 150 * time.Millisecond, 150 * time.Millisecond}},
		"retry-after":           {[]string{"Retry-After", "3"}, 0, []time.Duration{3 * time.Second, 3 * time.Second}},
		"retry-after, a date":   {[]string{"Retry-After", "Sat, 01 Jan 2000 00:00:04 GMT"}, 0, []time.Duration{4 * time.Second}},
		"retry-after, bounded":  {[]string{"Retry-After", "86400"}, 2 * time.Second, []time.Duration{2 * time.Second, 2 * time.Second}},
		"retry-after, nonsense": {[]string{"Retry-After", "soon"}, 0, []time.Duration{100 * time.Millisecond, 200 * time.Millisecond}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { // begins at midnight, 2000-01-01
				s, check := newSender(t)
				s.MaxWait = c.maxWait
				var attempts []time.Time
				s.Client = &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
					if _, signed := check(r); !signed.Equal(time.Now().Truncate(time.Millisecond)) {
						t.Errorf("attempt at %s was signed at %s", time.Now(), signed)
					}
					if attempts = append(attempts, time.Now()); len(attempts) > len(c.want) {
						return answer(200), nil
					}
					return answer(503, c.header...), nil
				})}
				_, deliveries := simulator.New(simulator.Config{Start: start})
				stats, err := s.Send(t.Context(), deliveries[:1])
				if err != nil || stats.Retried != len(c.want) {
					t.Fatalf("Send() = %v, %v, want %d retries", stats, err, len(c.want))
				}
				for i, want := range c.want {
					if got := attempts[i+1].Sub(attempts[i]); got < want*3/4 || got > want*5/4 {
						t.Errorf("attempt %d came after %s, want about %s", i+2, got, want)
					}
				}
			})
		})
	}
}

func TestASenderStopsWhenTheContextEnds(t *testing.T) {
	t.Parallel()
	for name, respond := range map[string]transport{
		"while it waits to try again": func(*http.Request) (*http.Response, error) { return answer(503, "Retry-After", "5"), nil },
		"while it waits for an answer": func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			s, _ := newSender(t)
			s.Client, s.Concurrency, s.Attempts, s.Repeat = &http.Client{Transport: respond}, 3, -1, 0.5
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute+time.Second)
			defer cancel()
			begun := time.Now()
			_, deliveries := live(4, 10)
			stats, err := s.Send(ctx, deliveries)
			if !errors.Is(err, context.DeadlineExceeded) || stats.Failed != 0 || stats.Status[0] != 0 {
				t.Errorf("%s: Send() = %v, %v, want the context's error, and nothing given up or unanswered", name, stats, err)
			}
			if took := time.Since(begun); took != time.Minute+time.Second {
				t.Errorf("%s: Send() took %s after the context's minute", name, took-time.Minute)
			}
		})
	}
}

func TestWhatIsNeverAcceptedIsGivenUpAndTheRestIsSent(t *testing.T) {
	t.Parallel()
	for name, refuse := range map[string]func() (*http.Response, error){
		"refused":      func() (*http.Response, error) { return answer(401), nil },
		"redirected":   func() (*http.Response, error) { return answer(302, "Location", "http://elsewhere.example/"), nil },
		"unreachable":  func() (*http.Response, error) { return nil, errors.New("connection refused") },
		"not modified": func() (*http.Response, error) { return answer(304), nil },
	} {
		synctest.Test(t, func(t *testing.T) {
			s, check := newSender(t)
			s.Attempts = 4
			_, deliveries := simulator.New(simulator.Config{Start: start})
			requests := map[string]int{}
			s.Client = &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
				id, _ := check(r)
				if requests[id]++; id == deliveries[1].ID {
					return refuse()
				}
				return answer(200), nil
			})}
			stats, err := s.Send(t.Context(), deliveries)
			if err == nil || !strings.Contains(err.Error(), deliveries[1].ID+": given up after 4 attempts") || stats.Failed != 1 {
				t.Errorf("%s: Send() = %v, %v, want one given up", name, stats, err)
			}
			for i, d := range deliveries {
				if want := map[bool]int{true: 4, false: 1}[i == 1]; requests[d.ID] != want {
					t.Errorf("%s: delivery %d was sent %d times, want %d", name, i, requests[d.ID], want)
				}
			}
		})
	}
}

func TestStatsReadAsASentence(t *testing.T) {
	t.Parallel()
	s := simulator.Stats{
		Deliveries: 10, Sent: 14, Accepted: 12, Repeated: 2, Retried: 2, Status: map[int]int{200: 12, 503: 1, 0: 1},
		P50: 1234567 * time.Nanosecond, P99: 5 * time.Millisecond, Max: 6 * time.Millisecond,
	}
	want := "10 deliveries, 2 repeated, 2 retried, 0 given up, in 14 requests: 1 × no answer, 12 × 200, 1 × 503, p50 1.23ms, p99 5ms, max 6ms"
	if got := fmt.Sprint(s); got != want {
		t.Errorf("String() = %q\nwant       %q", got, want)
	}
}
