package simulator

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/rollcallhq/rollcall/verify"
)

// Sender posts deliveries as a provider does over a bad network: it signs each attempt anew, and tries again until the
// answer is a 2xx. Its decisions come from Seed and the deliveries' ids; with a Concurrency of 1 the requests have the
// same order every time.
//
// Send may be called by many goroutines at once, as long as the fields are left alone.
type Sender struct {
	URL      string
	Client   *http.Client // nil is http.DefaultClient; set one with a timeout
	Verifier *verify.Verifier
	Key      *verify.Key

	Seed        uint64
	Concurrency int           // deliveries under way at once; 0 is 1
	Repeat      float64       // share of deliveries that are sent twice: half of them at the same time, half later
	Window      int           // how many places a delivery may be late by; 0 keeps the order
	Delay       time.Duration // before each first attempt, up to this much; 0 is none

	Attempts int           // of one delivery; 0 is 10, negative is until the context ends
	Backoff  time.Duration // before the second attempt, doubled for each further one, with jitter; 0 is 100 ms
	MaxWait  time.Duration // bound of that, and of what a Retry-After asks for; 0 is 5 s

	OnAnswer func(Answer)     // one call at a time; may be nil
	Now      func() time.Time // when an attempt is signed; nil is time.Now
}

// Answer is what came of one attempt.
type Answer struct {
	Delivery Delivery
	Repeat   bool // this delivery is sent for the second time
	Attempt  int  // from 1
	Status   int  // 0 when no answer came
	Err      error
	Took     time.Duration
}

// Accepted reports whether the receiver said so.
func (a Answer) Accepted() bool { return a.Status/100 == 2 }

// Stats is what came of a Send.
type Stats struct {
	Deliveries int         // that were asked for, each once
	Sent       int         // attempts
	Accepted   int         // attempts answered by a 2xx: Deliveries and repeats, if all went well
	Repeated   int         // deliveries sent twice
	Retried    int         // attempts after a first one
	Failed     int         // given up
	Status     map[int]int // attempts by status; 0 is no answer
	Took       time.Duration

	P50, P99, Max time.Duration // of attempts
}

// errGivenUp says that a delivery was never accepted.
var errGivenUp = errors.New("given up")

// Send posts the deliveries, each at least once, and returns when all of them are accepted or given up, or when the
// context ends. The error tells of the first that was given up, or is the context's.
func (s *Sender) Send(ctx context.Context, deliveries []Delivery) (Stats, error) {
	queue := make(chan post)
	var feeder sync.WaitGroup
	feeder.Go(func() { feed(ctx, queue, s.plan(deliveries)) })
	stats, err := s.follow(ctx, queue)
	feeder.Wait()
	stats.Deliveries = len(deliveries)
	return stats, err
}

// follow sends what comes from the queue, until that is closed.
func (s *Sender) follow(ctx context.Context, queue <-chan post) (Stats, error) {
	begun := time.Now()
	run := &sending{Sender: s, client: s.client(), stats: Stats{Status: map[int]int{}}}
	var workers sync.WaitGroup
	for range max(s.Concurrency, 1) {
		workers.Go(func() {
			for p := range queue {
				run.deliver(ctx, p)
			}
		})
	}
	workers.Wait()
	stats, err := run.result()
	stats.Took = time.Since(begun)
	return stats, cmp.Or(ctx.Err(), err)
}

// post is one delivery on its way.
type post struct {
	Delivery
	twin   bool // send it twice at the same time
	repeat bool // it has been sent before
}

// plan says what is sent in which order.
func (s *Sender) plan(deliveries []Delivery) []post {
	type placed struct {
		post
		place float64
	}
	var posts []placed
	for i, d := range deliveries {
		r := s.random(d.ID, "plan")
		p := placed{post{Delivery: d}, float64(i) + r.Float64()*float64(s.Window)}
		if r.Float64() < s.Repeat {
			if p.twin = r.IntN(2) == 0; !p.twin {
				later := p.place + 1 + r.Float64()*float64(max(s.Window, 20))
				posts = append(posts, placed{post{Delivery: d, repeat: true}, later})
			}
		}
		posts = append(posts, p)
	}
	slices.SortStableFunc(posts, func(a, b placed) int { return cmp.Compare(a.place, b.place) })
	out := make([]post, len(posts))
	for i, p := range posts {
		out[i] = p.post
	}
	return out
}

// random is a source of its own for each delivery and purpose, so that chance does not depend on who comes first.
func (s *Sender) random(id, purpose string) *rand.Rand {
	h := fnv.New64a()
	_, _ = io.WriteString(h, purpose+id)
	return rand.New(rand.NewPCG(s.Seed, h.Sum64()))
}

// sending is one Send under way. mu guards what follows it, and orders the calls of OnAnswer.
type sending struct {
	*Sender
	client http.Client

	mu    sync.Mutex
	stats Stats
	took  []time.Duration
	first error // of a delivery that was given up
}

func feed(ctx context.Context, queue chan<- post, posts []post) {
	defer close(queue)
	for _, p := range posts {
		select {
		case queue <- p:
		case <-ctx.Done():
			return
		}
	}
}

// deliver sends a post until it is accepted, and its twin at the same time.
func (r *sending) deliver(ctx context.Context, p post) {
	var twin sync.WaitGroup
	defer twin.Wait()
	if p.twin {
		again := post{Delivery: p.Delivery, repeat: true}
		twin.Go(func() { r.insist(ctx, again) })
	}
	r.insist(ctx, p)
}

// insist tries until the post is accepted, or given up.
func (r *sending) insist(ctx context.Context, p post) {
	random := r.random(p.ID, fmt.Sprintf("attempts %t", p.repeat))
	if r.Delay > 0 && !wait(ctx, time.Duration(random.Int64N(int64(r.Delay)))) {
		return
	}
	r.note(func() {
		if p.repeat {
			r.stats.Repeated++
		} else {
			r.stats.Deliveries++
		}
	})
	for attempt := 1; ; attempt++ {
		answer, asked := r.attempt(ctx, p, attempt)
		if ctx.Err() != nil && !answer.Accepted() {
			return
		}
		r.note(func() { r.count(answer) })
		if answer.Accepted() {
			return
		}
		if attempt == r.attempts() {
			r.note(func() { r.giveUp(answer) })
			return
		}
		if !wait(ctx, r.pause(attempt, asked, random)) {
			return
		}
	}
}

func (r *sending) note(what func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	what()
}

func (r *sending) count(a Answer) {
	r.stats.Sent++
	r.stats.Status[a.Status]++
	if a.Accepted() {
		r.stats.Accepted++
	}
	if a.Attempt > 1 {
		r.stats.Retried++
	}
	r.took = append(r.took, a.Took)
	if r.OnAnswer != nil {
		r.OnAnswer(a)
	}
}

func (r *sending) giveUp(a Answer) {
	r.stats.Failed++
	if r.first == nil {
		r.first = fmt.Errorf("send %s: %w after %d attempts: %w", a.Delivery.ID, errGivenUp, a.Attempt, cmp.Or(a.Err, fmt.Errorf("status %d", a.Status)))
	}
}

// attempt signs and posts once. It returns what a Retry-After asks for, too.
func (r *sending) attempt(ctx context.Context, p post, n int) (a Answer, asked time.Duration) {
	begun := time.Now()
	a = Answer{Delivery: p.Delivery, Repeat: p.repeat, Attempt: n}
	defer func() { a.Took = time.Since(begun) }()
	response, err := r.post(ctx, p.Delivery)
	if err != nil {
		a.Err = err
		return a, 0
	}
	defer func() { _ = response.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 1<<20)) // so that the connection is used again
	a.Status = response.StatusCode
	return a, retryAfter(response.Header.Get("Retry-After"))
}

func (r *sending) post(ctx context.Context, d Delivery) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL, bytes.NewReader(d.Body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	if err := r.Verifier.Sign(request.Header, d.Body, r.Key, d.ID, r.now()); err != nil {
		return nil, err
	}
	return r.client.Do(request)
}

// client is the sender's client, which takes a redirect for the answer that it is: nobody sends a webhook on.
func (s *Sender) client() http.Client {
	client := *cmp.Or(s.Client, http.DefaultClient)
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return client
}

func (s *Sender) now() time.Time {
	if s.Now == nil {
		return time.Now()
	}
	return s.Now()
}

func (s *Sender) attempts() int { return cmp.Or(s.Attempts, 10) }

// pause is how long to wait after a failed attempt: twice as long each time, give or take a quarter, but not less than
// asked for and not more than MaxWait.
func (s *Sender) pause(attempt int, asked time.Duration, random *rand.Rand) time.Duration {
	most, backoff := cmp.Or(s.MaxWait, 5*time.Second), cmp.Or(s.Backoff, 100*time.Millisecond)
	for ; attempt > 1 && backoff < most; attempt-- {
		backoff *= 2
	}
	backoff = time.Duration(float64(backoff) * (0.75 + random.Float64()/2))
	return min(max(backoff, asked), most)
}

// retryAfter reads the header's two forms, seconds and a date; what is neither asks for nothing.
func retryAfter(header string) time.Duration {
	if seconds, err := strconv.ParseUint(header, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(header); err == nil {
		return time.Until(at)
	}
	return 0
}

// wait returns false when the context ended first.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (r *sending) result() (Stats, error) {
	slices.Sort(r.took)
	if n := len(r.took); n > 0 {
		r.stats.P50, r.stats.P99, r.stats.Max = r.took[n/2], r.took[n*99/100], r.took[n-1]
	}
	return r.stats, r.first
}

// String is a line for people.
func (s Stats) String() string {
	text := fmt.Sprintf("%d deliveries, %d repeated, %d retried, %d given up, in %d requests:", s.Deliveries, s.Repeated, s.Retried, s.Failed, s.Sent)
	for _, status := range slices.Sorted(maps.Keys(s.Status)) {
		name := strconv.Itoa(status)
		if status == 0 {
			name = "no answer"
		}
		text += fmt.Sprintf(" %d × %s,", s.Status[status], name)
	}
	return fmt.Sprintf("%s p50 %s, p99 %s, max %s", text, s.P50.Round(10*time.Microsecond), s.P99.Round(10*time.Microsecond), s.Max.Round(10*time.Microsecond))
}
