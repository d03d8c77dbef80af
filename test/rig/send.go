package rig

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/internal/simulator"
	"github.com/rollcallhq/rollcall/verify"
)

// Answer is what a process said to a request.
type Answer struct {
	Status int
	Header http.Header
	Body   string
	Proto  string
	Took   time.Duration
}

// Problem is an error as senders get it.
type Problem struct {
	Type     string `json:"type"`
	Title    string `json:"title"`
	Status   int    `json:"status"`
	Instance string `json:"instance"`
	ID       string `json:"id"`
}

// Problem reads the answer as one, or fails the test.
func (a Answer) Problem(t testing.TB) (p Problem) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.Body), &p); err != nil || a.Header.Get("Content-Type") != "application/problem+json" {
		t.Fatalf("the answer is %s %q, want a problem: %v", a.Header.Get("Content-Type"), a.Body, err)
	}
	return p
}

// Request returns a delivery signed now.
func (s *Site) Request(t testing.TB, address string, body []byte) *http.Request {
	t.Helper()
	return s.RequestAt(t, address, body, s.Key, time.Now())
}

// RequestAt returns a delivery signed with a key at a time.
func (s *Site) RequestAt(t testing.TB, address string, body []byte, key *verify.Key, at time.Time) *http.Request {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	if err := s.Verifier.Sign(request.Header, body, key, "", at); err != nil {
		t.Fatal(err)
	}
	return request
}

// Do sends a request and reads the answer. No answer fails the test.
func (s *Site) Do(t testing.TB, request *http.Request) Answer {
	t.Helper()
	a, err := s.Try(request)
	if err != nil {
		t.Fatalf("%s %s: %v", request.Method, request.URL.Path, err)
	}
	return a
}

// Try is Do that returns what kept an answer from coming.
func (s *Site) Try(request *http.Request) (Answer, error) {
	begun := time.Now()
	response, err := s.Client.Do(request)
	if err != nil {
		return Answer{}, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	return Answer{response.StatusCode, response.Header, string(body), response.Proto, time.Since(begun)}, err
}

// Post sends a body, signed now.
func (s *Site) Post(t testing.TB, address string, body []byte) Answer {
	t.Helper()
	return s.Do(t, s.Request(t, address, body))
}

// Sender returns a sender of the site's, whose attempts go to the addresses in turn.
func (s *Site) Sender(t testing.TB, spread *Spread) *simulator.Sender {
	t.Helper()
	client := s.NewClient(t)
	spread.next = client.Transport
	client.Transport = spread
	return &simulator.Sender{
		URL: "https://sites.invalid/webhooks/workos", Client: client, Verifier: s.Verifier, Key: s.Key,
		Concurrency: 16, Attempts: 200, Backoff: 20 * time.Millisecond, MaxWait: 500 * time.Millisecond,
	}
}

// Spread is a load balancer that asks nobody how they are: each request goes to the next of its addresses.
type Spread struct {
	next http.RoundTripper

	mu    sync.Mutex // guards what follows
	hosts []string
	turn  int
}

// NewSpread makes one of these processes.
func NewSpread(processes ...*Process) *Spread {
	s := &Spread{}
	s.Set(processes...)
	return s
}

// Set makes it spread over these processes from now on.
func (s *Spread) Set(processes ...*Process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hosts = nil
	for _, p := range processes {
		s.hosts = append(s.hosts, p.public)
	}
}

func (s *Spread) pick() (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.hosts) == 0 {
		return "", errors.New("no process to send to")
	}
	s.turn++
	return s.hosts[s.turn%len(s.hosts)], nil
}

// RoundTrip implements http.RoundTripper.
func (s *Spread) RoundTrip(request *http.Request) (*http.Response, error) {
	host, err := s.pick()
	if err != nil {
		return nil, err
	}
	sent := request.Clone(request.Context())
	sent.URL = &url.URL{Scheme: "https", Host: host, Path: request.URL.Path}
	sent.Host = ""
	return s.next.RoundTrip(sent)
}

// Signature is the value of the header that holds the request's signature.
func Signature(request *http.Request) string {
	_, hex, _ := strings.Cut(request.Header.Get("WorkOS-Signature"), "v1=")
	return hex
}
