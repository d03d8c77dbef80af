package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/verify"
)

const simulatedSecret = "a signing secret of the simulation"

// signed is a receiver that takes only what is signed, and counts how often each event came.
func signed(t *testing.T) (url string, came func() map[string]int) {
	t.Helper()
	scheme, _ := verify.Preset("workos")
	v, err := verify.New(scheme)
	if err != nil {
		t.Fatal(err)
	}
	key, err := v.NewKey("test", []byte(simulatedSecret))
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	events := map[string]int{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var event struct{ ID string }
		if err != nil || json.Unmarshal(body, &event) != nil {
			t.Errorf("%s: %v", body, err)
		}
		if _, err := v.Verify(r.Header, body, []*verify.Key{key}, time.Now()); err != nil {
			t.Errorf("%s: %v", event.ID, err)
		}
		mu.Lock()
		defer mu.Unlock()
		events[event.ID]++
	}))
	t.Cleanup(server.Close)
	return server.URL, func() map[string]int {
		mu.Lock()
		defer mu.Unlock()
		return maps.Clone(events)
	}
}

// simulated is `rollcall simulate`, running.
type simulated struct {
	t     *testing.T
	talk  *bufio.Scanner
	out   bytes.Buffer
	code  chan int
	end   context.CancelFunc
	truth string
}

func simulating(t *testing.T, args ...string) *simulated {
	t.Helper()
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte(simulatedSecret), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	from, talk := io.Pipe()
	s := &simulated{t: t, talk: bufio.NewScanner(from), code: make(chan int, 1), end: end, truth: filepath.Join(dir, "truth.json")}
	args = append([]string{"simulate", "--secret", "file:" + secret, "--truth", s.truth, "--listen", "127.0.0.1:0", "-o", "json"}, args...)
	go func() {
		s.code <- run(ctx, args, strings.NewReader(""), &s.out, talk)
		_ = talk.Close()
	}()
	t.Cleanup(end)
	return s
}

// says waits for a line of talk that matches, and returns what is in the pattern's parentheses.
func (s *simulated) says(pattern string) string {
	s.t.Helper()
	for s.talk.Scan() {
		if found := regexp.MustCompile(pattern).FindStringSubmatch(s.talk.Text()); found != nil {
			return found[len(found)-1]
		}
	}
	s.t.Fatalf("it ended without saying %q", pattern)
	return ""
}

// ended waits for the end, and returns what it printed.
func (s *simulated) ended(code int) (out simulatedJSON, truth truthJSON) {
	s.t.Helper()
	var rest strings.Builder
	for s.talk.Scan() {
		rest.WriteString(s.talk.Text() + "\n")
	}
	if got := <-s.code; got != code {
		s.t.Fatalf("it exited with %d, want %d:\n%s", got, code, rest.String())
	}
	text, err := os.ReadFile(s.truth)
	if err == nil {
		err = json.Unmarshal(text, &truth)
	}
	if err == nil {
		err = json.Unmarshal(s.out.Bytes(), &out)
	}
	if err != nil {
		s.t.Fatalf("%v in\n%s\n%s", err, text, s.out.String())
	}
	return out, truth
}

// logged is an event of the events API.
type logged struct {
	ID, Event string
	Data      struct {
		ID, State string
		IDPID     string `json:"idp_id"`
	}
}

// logOf reads the whole log by its cursor.
func logOf(t *testing.T, address, key string) (all []logged) {
	t.Helper()
	for after := ""; ; {
		request, err := http.NewRequest(http.MethodGet, address+"/events?limit=100&events=dsync.activated,dsync.user.created,dsync.user.updated,dsync.user.deleted,"+
			"dsync.group.created,dsync.group.updated,dsync.group.deleted,dsync.group.user_added,dsync.group.user_removed&after="+after, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+key)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		var page struct {
			Data         []logged
			ListMetadata struct{ After *string } `json:"list_metadata"`
		}
		err = json.NewDecoder(response.Body).Decode(&page)
		_ = response.Body.Close()
		if err != nil || response.StatusCode != 200 {
			t.Fatalf("GET /events: %s, %v", response.Status, err)
		}
		all = append(all, page.Data...)
		if page.ListMetadata.After == nil {
			return all
		}
		after = *page.ListMetadata.After
	}
}

func TestASimulationTellsAReceiverAndItsAPITheSame(t *testing.T) {
	t.Parallel()
	url, came := signed(t)
	s := simulating(t, "--url", url, "--people", "40", "--groups", "4", "--days", "20", "--minutes", "0.02", "--lost", "0.2", "--repeated", "0.1", "--reorder", "24h",
		"--seed", "5", "--style", "inactive", "--lag", "0s", "--keep")
	key := s.says(`^the API's key is (\S+)$`)
	address := s.says(`^40 people and 4 groups \(seed 5\): webhooks to http://\S+, events API and directory API at (\S+), 20 days in 0\.02 minutes$`)
	s.says("^all is played; the API stays up until Ctrl-C$")

	told, lost, state, idp := came(), 0, map[string]string{}, map[string]string{}
	for _, e := range logOf(t, address, key) {
		if told[e.ID] == 0 {
			lost++
		}
		delete(told, e.ID)
		if strings.HasPrefix(e.Event, "dsync.user.") {
			state[e.Data.ID], idp[e.Data.ID] = e.Data.State, e.Data.IDPID
		}
	}
	if len(told) > 0 {
		t.Errorf("%d webhooks are of no event in the log", len(told))
	}
	s.end()
	out, truth := s.ended(exitOK)
	if !out.Finished || out.Lost != lost || lost == 0 || out.Repeated == 0 || out.Accepted != out.Events-out.Lost+out.Repeated || out.Seed != 5 {
		t.Errorf("%+v: want %d lost, and some repeated", out, lost)
	}
	var want, got []string
	for _, a := range truth.Accounts {
		if a.Active {
			want = append(want, a.Account)
		}
	}
	for id, state := range state {
		if state == "active" {
			got = append(got, idp[id])
		}
	}
	slices.Sort(got)
	if diff := gocmp.Diff(want, got); diff != "" || len(want) != out.Active {
		t.Errorf("%d are active; those of the truth and the log's (-truth +log):\n%s", out.Active, diff)
	}
	if len(truth.Groups) < out.Groups || out.Memberships == 0 {
		t.Errorf("%+v, with %d groups in the truth", out, len(truth.Groups))
	}
}

func TestWhatHappensInAnOutageReachesNobodyUntilItIsOver(t *testing.T) {
	t.Parallel()
	url, came := signed(t)
	s := simulating(t, "--url", url, "--people", "20", "--groups", "2", "--days", "2", "--minutes", "0.02", "--lag", "0s", "--seed", "5",
		"--outage-at", "1/12:00", "--outage-for", "24h", "--keep")
	key := s.says(`^the API's key is (\S+)$`)
	address := s.says(`directory API at (\S+), 2 days`)
	s.says("^an outage: webhooks are lost and the APIs answer 503, for 24h0m0s of simulated time$")
	s.says("^the outage is over$")
	s.says("^all is played; the API stays up until Ctrl-C$")
	all, told := logOf(t, address, key), len(came())
	s.end()
	out, _ := s.ended(exitOK)
	if !out.Finished || out.Lost == 0 || out.Events != len(all) || told != out.Events-out.Lost {
		t.Errorf("%+v: %d are in the log, %d came; want all in the log, and some lost", out, len(all), told)
	}
}

func TestASimulationEndsWhenItIsToldTo(t *testing.T) {
	t.Parallel()
	url, _ := signed(t)
	s := simulating(t, "--url", url, "--people", "5", "--groups", "1", "--minutes", "600")
	s.says("events API")
	s.end()
	if out, truth := s.ended(exitOK); out.Finished || len(truth.Accounts) != 5 {
		t.Errorf("%+v, and %d accounts in the truth: want an end before the end", out, len(truth.Accounts))
	}
}

func TestASimulationWithoutAReceiverSaysSo(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(server.Close)
	s := simulating(t, "--url", server.URL, "--people", "0", "--groups", "0", "--days", "1", "--minutes", "0")
	s.says("given up after 6 attempts: status 404")
	s.says("^hint: is the receiver running at http://")
	if out, _ := s.ended(exitFailed); out.GivenUp == 0 || out.Finished {
		t.Errorf("%+v: want webhooks that were given up", out)
	}
}

func TestASimulationThatIsKeptStaysWhenWebhooksAreGivenUp(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(server.Close)
	s := simulating(t, "--url", server.URL, "--people", "2", "--groups", "0", "--days", "1", "--minutes", "0", "--lag", "0s", "--keep")
	key := s.says(`^the API's key is (\S+)$`)
	address := s.says(`events API and directory API at (\S+), `)
	s.says(`^directory directory_\w+ of organization org_\w+$`)
	s.says(`^day 1 of 1: [0-9]+ events, 0 webhooks accepted, 0 lost, [1-9][0-9]* given up, 0 requests to the API$`)
	s.says("given up after 6 attempts: status 404")
	s.says("^all is played; the API stays up until Ctrl-C$")
	if log := logOf(t, address, key); len(log) == 0 {
		t.Error("the log is empty, and webhooks were given up")
	}
	s.end()
	if out, _ := s.ended(exitFailed); out.GivenUp == 0 || out.Finished {
		t.Errorf("%+v: want webhooks that were given up", out)
	}
}

func TestABarIsOneLineOfATerminal(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	b := bar{out: &text, terminal: true}
	b.show(0.5, "half")
	b.show(2, "more than all")
	b.end()
	b.end()
	if want := "\r\x1b[K[############............] half\r\x1b[K[########################] more than all\n"; text.String() != want {
		t.Errorf("it shows %q, want %q", text.String(), want)
	}
	text.Reset()
	b = bar{out: &text}
	b.show(0.5, "half")
	b.end()
	if text.String() != "half\n" {
		t.Errorf("elsewhere it shows %q", text.String())
	}
}
