package workos_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcallhq/rollcall/internal/provider"
	"github.com/rollcallhq/rollcall/internal/provider/workos"
)

const allTypes = "dsync.activated%2Cdsync.deleted%2Cdsync.group.created%2Cdsync.group.deleted%2Cdsync.group.updated%2C" +
	"dsync.group.user_added%2Cdsync.group.user_removed%2Cdsync.user.created%2Cdsync.user.deleted%2Cdsync.user.updated"

func TestTheRequestsAreThoseThatTheManualKnows(t *testing.T) {
	t.Parallel()
	noPage := func(context.Context, provider.ListedPage) error { return nil }
	at := time.Date(2026, 7, 31, 10, 0, 0, 123_456_000, time.UTC)
	for want, ask := range map[string]func(ctx context.Context, c provider.API) error{
		"/events?after=event_1&events=" + allTypes + "&limit=100&order=asc": func(ctx context.Context, c provider.API) error {
			_, err := c.Page(ctx, provider.LogQuery{After: "event_1", Since: at})
			return err
		},
		"/events?events=dsync.deleted%2Cdsync.user.deleted&limit=7&order=asc&range_end=2026-07-31T11%3A00%3A00.124Z&range_start=2026-07-31T10%3A00%3A00.123Z": func(ctx context.Context, c provider.API) error {
			_, err := c.Page(ctx, provider.LogQuery{Types: []string{"dsync.deleted", "dsync.user.deleted"}, Since: at, Until: at.Add(time.Hour), Limit: 7})
			return err
		},
		"/events?after=event_1&events=" + allTypes + "&limit=100&order=asc&range_end=2026-07-31T10%3A00%3A00.124Z": func(ctx context.Context, c provider.API) error {
			_, err := c.Page(ctx, provider.LogQuery{After: "event_1", Until: at, Limit: 1000})
			return err
		},
		"/directories?limit=100&order=asc": func(ctx context.Context, c provider.API) error {
			return c.Directories(ctx, func(context.Context, []provider.ListedDirectory) error { return nil })
		},
		"/directory_users?directory=directory_1&limit=100&order=asc":  func(ctx context.Context, c provider.API) error { return c.Users(ctx, "directory_1", noPage) },
		"/directory_groups?directory=directory_1&limit=100&order=asc": func(ctx context.Context, c provider.API) error { return c.Groups(ctx, "directory_1", noPage) },
		"/directory_users?group=g+%26+1&limit=100&order=asc":          func(ctx context.Context, c provider.API) error { return c.Members(ctx, "g & 1", noPage) },
		"/directory_groups?limit=100&order=asc&user=user_1":           func(ctx context.Context, c provider.API) error { return c.GroupsOf(ctx, "user_1", noPage) },
		"/directories/directory%2F1%3F": func(ctx context.Context, c provider.API) error {
			_, err := c.Directory(ctx, "directory/1?")
			return err
		},
		"/directory_users/user_1": func(ctx context.Context, c provider.API) error {
			_, err := c.User(ctx, "user_1")
			return err
		},
	} {
		var got []asked
		simulate(t, func(w http.ResponseWriter, r *http.Request) {
			body := list("null")
			if _, id, single := strings.Cut(strings.Trim(r.URL.Path, "/"), "/"); single {
				body = fmt.Sprintf(`{"id":%q,"directory_id":"d"}`, id)
			}
			says(200, body)(w, r)
		}, func(t *testing.T, s *sim) {
			if err := ask(t.Context(), s); err != nil {
				t.Errorf("%s: %v", want, err)
			}
			got = s.requests()
		})
		if len(got) != 1 || got[0].Method != http.MethodGet || got[0].line != want {
			t.Errorf("asked %v, want once GET %s", got, want)
			continue
		}
		for name, value := range map[string]string{"Authorization": "Bearer " + apiKey, "Accept": "application/json", "User-Agent": "rollcall/v0"} {
			if got := got[0].Header.Get(name); got != value {
				t.Errorf("%s: %s is %q, want %q", want, name, got, value)
			}
		}
	}
}

func TestWhatPassesIsAskedAgain(t *testing.T) {
	t.Parallel()
	fine := says(200, list("null", ofDirectory("u1")))
	cut := func(w http.ResponseWriter, _ *http.Request) { // in the middle of a page
		w.Header().Set("Content-Length", "5000")
		_, _ = io.WriteString(w, `{"data":[{"id":"u1"`)
		panic(http.ErrAbortHandler)
	}
	for name, c := range map[string]struct {
		first []http.HandlerFunc
		least time.Duration // that it has to wait
	}{
		"a limit":                       {[]http.HandlerFunc{says(429, `"Ratelimited"`, "Retry-After: 7")}, 7 * time.Second},
		"a limit until a time":          {[]http.HandlerFunc{says(429, `"Ratelimited"`, "Date: Fri, 31 Jul 2026 10:00:00 GMT", "Retry-After: Fri, 31 Jul 2026 10:00:09 GMT")}, 9 * time.Second},
		"a limit of unknown length":     {[]http.HandlerFunc{says(429, `"Ratelimited"`, "Retry-After: soon")}, 0},
		"the server's trouble":          {[]http.HandlerFunc{says(500, `{"message":"oops"}`), says(502, "<html>"), says(504, "")}, 0},
		"the server's long trouble":     {[]http.HandlerFunc{says(503, ``, "Retry-After: 20")}, 20 * time.Second},
		"JSON that is cut":              {[]http.HandlerFunc{says(200, list("null", ofDirectory("u1"))[:60])}, 0},
		"an answer that breaks off":     {[]http.HandlerFunc{cut, cut}, 0},
		"no answer at all":              {[]http.HandlerFunc{func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }}, 0},
		"headers that do not come":      {[]http.HandlerFunc{func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }}, 0},
		"somebody's page in between":    {[]http.HandlerFunc{says(200, "<html>please log in</html>")}, 0},
		"a limit, and the same a while": {[]http.HandlerFunc{says(429, `"Ratelimited"`), says(429, `{"message":"x"}`), says(429, ``), says(429, `[]`)}, 0},
	} {
		simulate(t, inTurn(append(c.first, fine)...), func(t *testing.T, s *sim) {
			began := time.Now()
			ids, err := s.everyUser()
			if err != nil || len(ids) != 1 {
				t.Errorf("%s: Users() = %v, %v, want the one user", name, ids, err)
			}
			asked := s.requests()
			if len(asked) != len(c.first)+1 {
				t.Errorf("%s: %d requests, want %d", name, len(asked), len(c.first)+1)
			}
			if waited := asked[len(asked)-1].at.Sub(began); waited < max(c.least, 200*time.Millisecond) || waited > c.least+time.Minute {
				t.Errorf("%s: it was asked again after %s, want %s and some more", name, waited, c.least)
			}
		})
	}
}

func TestWhatDoesNotPassEndsWithAnErrorThatSaysWhatToDo(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		target error
		tries  int
		says   string
	}{
		"a limit":                {says(429, `"Ratelimited"`), provider.ErrThrottled, 5, `it answers 429, "Ratelimited", 5 times`},
		"a limit for an hour":    {says(429, `"Ratelimited"`, "Retry-After: 3600"), provider.ErrThrottled, 1, "asks to wait 1h0m0s"},
		"the server's trouble":   {says(500, `{"message":"oops"}`), nil, 5, `it answers 500, "oops"`},
		"a long trouble":         {says(503, ``, "Retry-After: 3600"), nil, 1, "it answers 503"},
		"no key":                 {says(401, `{"message":"Unauthorized"}`), provider.ErrUnauthorized, 1, `it answers 401, "Unauthorized"`},
		"not this key":           {says(403, `{"error":"unauthorized"}`), provider.ErrUnauthorized, 1, `it answers 403, "unauthorized"`},
		"the key, told back":     {says(403, `{"message":"no access with `+apiKey+`"}`), provider.ErrUnauthorized, 1, `no access with [redacted]`},
		"a connection that ends": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, nil, 5, "no answer: EOF"},
		"not JSON":               {says(200, "<html>please log in</html>"), provider.ErrAnswer, 5, "it is not JSON at byte 1 of 26"},
		"not UTF-8":              {says(200, "{\"data\":[{\"id\":\"\xff\"}]}"), provider.ErrAnswer, 1, "it is not UTF-8"},
		"no list":                {says(200, `{"data":{},"list_metadata":{"after":null}}`), provider.ErrAnswer, 1, "its shape is not the documented one"},
		"no list at all":         {says(200, `{"list_metadata":{"after":null}}`), provider.ErrAnswer, 1, "it has no list"},
		"a list alone":           {says(200, `[]`), provider.ErrAnswer, 1, "its shape is not the documented one"},
		"null":                   {says(200, `null`), provider.ErrAnswer, 1, "it has no list"},
		"a redirect":             {says(302, "", "Location: https://evil.example/"), provider.ErrAnswer, 1, "a redirect, which the key does not follow"},
		"a huge answer":          {huge, provider.ErrAnswer, 1, "it is larger than 16 MiB"},
		"unknown":                {says(404, `{"message":"Not Found"}`), provider.ErrNotListed, 1, `it answers 404, "Not Found"`},
		"a request it refuses":   {says(422, `{"message":"Validation failed","errors":[{"field":"directory","code":"x"}]}`), nil, 1, `it answers 422, "Validation failed"`},
		"headers never coming":   {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, nil, 5, "no answer within 30s"},
		"a body that is slow":    {slow, nil, 5, "no answer within 30s"},
		"a long word of theirs":  {says(400, `{"message":"`+strings.Repeat("x", 5000)+`"}`), nil, 1, "xxx…"},
	} {
		simulate(t, c.answer, func(t *testing.T, s *sim) {
			ids, err := s.everyUser()
			if err == nil || len(ids) > 0 || c.target != nil && !errors.Is(err, c.target) || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("%s: Users() = %v, %v, want no user, and that %q", name, ids, err, c.says)
			}
			for _, other := range []error{provider.ErrThrottled, provider.ErrUnauthorized, provider.ErrAnswer, provider.ErrNotListed, provider.ErrCutShort, context.DeadlineExceeded} {
				if errors.Is(err, other) && !errors.Is(c.target, other) {
					t.Errorf("%s: %v is also %v", name, err, other)
				}
			}
			if n := len(s.requests()); n != c.tries {
				t.Errorf("%s: %d requests, want %d", name, n, c.tries)
			}
			if strings.Contains(err.Error(), apiKey) || len(err.Error()) > 800 || strings.Contains(err.Error(), "127.0.0.1:1/") {
				t.Errorf("%s: the error is %q, which holds the key, the address or too much", name, err)
			}
			if want := errors.Is(err, provider.ErrUnauthorized); (s.refused > 0) != want {
				t.Errorf("%s: Refused was called %d times", name, s.refused)
			}
			known := errors.Is(err, provider.ErrNotListed) || c.target == nil && strings.Contains(err.Error(), "answers 4")
			if !known && !strings.Contains(err.Error(), "\nhint: ") {
				t.Errorf("%s: %q has no hint", name, err)
			}
		})
	}
}

func huge(w http.ResponseWriter, _ *http.Request) {
	_, _ = io.WriteString(w, `{"data":[`)
	for chunk := []byte(strings.Repeat(" ", 1<<20)); ; {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}

// slow sends a byte every second, for ever.
func slow(w http.ResponseWriter, r *http.Request) {
	for {
		if _, err := io.WriteString(w, " "); err != nil {
			return
		}
		w.(http.Flusher).Flush()
		select {
		case <-time.After(time.Second):
		case <-r.Context().Done():
			return
		}
	}
}

func TestA404OfSomebodyInBetweenIsNotTheProviders(t *testing.T) {
	t.Parallel()
	simulate(t, says(404, "<html>no such page</html>"), func(t *testing.T, s *sim) {
		if _, err := s.User(t.Context(), "user_1"); err == nil || errors.Is(err, provider.ErrNotListed) {
			t.Errorf("User() = %v, want an error that is not ErrNotListed", err)
		}
	})
}

func TestTheKeyNeverFollowsARedirect(t *testing.T) {
	t.Parallel()
	var elsewhere atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	t.Cleanup(other.Close)
	first := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	t.Cleanup(first.Close)
	for name, h := range map[string]*http.Client{"its own client": nil, "one that would follow": {}} {
		c := newClient(t, provider.APIConfig{URL: first.URL, Key: func() (string, error) { return apiKey, nil }, HTTP: h})
		if _, err := c.User(t.Context(), "user_1"); !errors.Is(err, provider.ErrAnswer) || elsewhere.Load() != 0 {
			t.Errorf("%s: User() = %v, and %d requests elsewhere", name, err, elsewhere.Load())
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestTheKeyIsAskedForEachTime(t *testing.T) {
	t.Parallel()
	simulate(t, inTurn(says(500, ""), says(200, list("null"))), func(t *testing.T, s *sim) {
		keys := []string{"sk_old", "sk_new", "sk_newest"}
		c := newClient(t, provider.APIConfig{URL: "http://localhost", HTTP: s.http, Key: func() (string, error) {
			key := keys[0]
			keys = keys[1:]
			return key, nil
		}})
		for range 2 {
			if err := c.Groups(t.Context(), directoryID, func(context.Context, provider.ListedPage) error { return nil }); err != nil {
				t.Fatal(err)
			}
		}
		var sent []string
		for _, r := range s.requests() {
			sent = append(sent, r.Header.Get("Authorization"))
		}
		if want := []string{"Bearer sk_old", "Bearer sk_new", "Bearer sk_newest"}; !slices.Equal(sent, want) {
			t.Errorf("sent %q, want %q", sent, want)
		}
	})
}

func TestAKeyThatCannotBeOneIsNotSent(t *testing.T) {
	t.Parallel()
	simulate(t, says(200, list("null")), func(t *testing.T, s *sim) {
		sealed := errors.New("the vault is sealed")
		for name, key := range map[string]func() (string, error){
			"empty":        func() (string, error) { return "", nil },
			"a line break": func() (string, error) { return "sk_secret\nX: y", nil },
			"a space":      func() (string, error) { return "sk_secret ", nil },
			"not ASCII":    func() (string, error) { return "sk_secreté", nil },
			"not there":    func() (string, error) { return "sk_secret", sealed },
		} {
			c := newClient(t, provider.APIConfig{URL: "http://localhost", HTTP: s.http, Key: key})
			_, err := c.Page(t.Context(), provider.LogQuery{})
			if err == nil || strings.Contains(err.Error(), "sk_secret") || (name == "not there") != errors.Is(err, sealed) {
				t.Errorf("%s: Page() = %v", name, err)
			}
		}
		if n := len(s.requests()); n > 0 {
			t.Errorf("%d requests were sent", n)
		}
	})
}

func TestTheAddressMustBeOneThatTheKeyMayBeSentTo(t *testing.T) {
	t.Parallel()
	key := func() (string, error) { return apiKey, nil }
	for url, fine := range map[string]bool{
		"": true, "https://api.workos.com": true, "https://api.workos.com/": true, "https://proxy.internal:8443/workos": true,
		"http://127.0.0.1:8080": true, "http://[::1]:8080": true, "http://localhost:1": true,
		"http://api.workos.com": false, "http://localhost.evil.example": false, "http://127.0.0.1.evil.example": false, "ftp://127.0.0.1": false,
		"https://user:hidden@api.workos.com": false, "https://hidden@api.workos.com": false, "https://api.workos.com?key=hidden": false, "https://api.workos.com#hidden": false,
		"api.workos.com": false, "https:///x": false, "https:hidden": false, "://hidden": false, "https://api.workos.com\n": false,
	} {
		_, err := workos.NewClient(provider.APIConfig{URL: url, Key: key})
		if (err == nil) != fine {
			t.Errorf("NewClient(%q) = %v, want it taken: %t", url, err, fine)
		}
		if err != nil && strings.Contains(err.Error(), "hidden") {
			t.Errorf("%q shows what is in it", err)
		}
	}
	if api, err := workos.Provider().API(provider.APIConfig{URL: "http://example.com", Key: key}); err == nil || api != nil {
		t.Errorf("API() = %v, %v, want nothing and an error", api, err)
	}
	if api, err := workos.Provider().API(provider.APIConfig{}); err == nil || api != nil {
		t.Errorf("without a key: API() = %v, %v, want nothing and an error", api, err)
	}
}

// ratelimited answers at once, and remembers when it was asked.
type ratelimited struct {
	mu   sync.Mutex // guards at
	at   map[string][]time.Time
	body string
}

func (r *ratelimited) RoundTrip(q *http.Request) (*http.Response, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	name := q.URL.Query().Get("directory")
	r.at[name] = append(r.at[name], time.Now())
	return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(r.body)), Request: q}, nil
}

// most returns the greatest number of requests within a window.
func most(at []time.Time, window time.Duration) (n int) {
	for i, begin := range at {
		j := i
		for j < len(at) && at[j].Sub(begin) < window {
			j++
		}
		n = max(n, j-i)
	}
	return n
}

func TestTheLimitsAreKeptByAllWhoAskTogether(t *testing.T) {
	t.Parallel()
	noPage := func(context.Context, provider.ListedPage) error { return nil }
	synctest.Test(t, func(t *testing.T) {
		r := &ratelimited{at: map[string][]time.Time{}, body: list("null")}
		c := newClient(t, provider.APIConfig{Key: func() (string, error) { return apiKey, nil }, HTTP: &http.Client{Transport: r}})
		var all sync.WaitGroup
		ask := func(n int, do func() error) {
			for range n {
				all.Go(func() {
					if err := do(); err != nil {
						t.Error(err)
					}
				})
			}
		}
		ask(40, func() error { return c.Users(t.Context(), "d1", noPage) })
		ask(40, func() error { return c.Users(t.Context(), "d2", noPage) })
		ask(20, func() error { return c.Members(t.Context(), "g1", noPage) })
		ask(20, func() error { return c.Members(t.Context(), "g2", noPage) })
		began := time.Now()
		all.Wait()
		for _, name := range []string{"d1", "d2", ""} {
			if at := r.at[name]; len(at) != 40 || most(at, time.Second) > 4 {
				t.Errorf("%q: %d requests, up to %d within a second, want 40 and at most 4", name, len(at), most(at, time.Second))
			}
		}
		if took := time.Since(began); took > 11*time.Second {
			t.Errorf("two directories took %s together, want the 10 s that each takes", took)
		}

		r.at = map[string][]time.Time{}
		ask(4000, func() error { return c.Groups(t.Context(), "d1", noPage) })
		for i := range 4000 {
			ask(1, func() error { return c.Users(t.Context(), fmt.Sprint("one of many ", i), noPage) })
		}
		began = time.Now()
		all.Wait()
		at := slices.SortedFunc(slices.Values(slices.Concat(slices.Collect(maps.Values(r.at))...)), time.Time.Compare)
		if n := most(at, time.Minute); n > 6000 || n < 5900 {
			t.Errorf("up to %d requests within a minute, want 6,000 or a few less", n)
		}
		if took := time.Since(began); took > 90*time.Second {
			t.Errorf("8,000 requests took %s", took)
		}
	})
}

func TestALimitThatStandsHoldsTheOthersBack(t *testing.T) {
	t.Parallel()
	fine := says(200, list("null", ofDirectory("u1")))
	simulate(t, inTurn(says(429, `"Ratelimited"`, "Retry-After: 30"), fine), func(t *testing.T, s *sim) {
		var both sync.WaitGroup
		began := time.Now()
		both.Go(func() { _, _ = s.everyUser() })
		synctest.Wait() // it was refused, and waits
		both.Go(func() { _, _ = s.everyUser() })
		if err := s.Users(t.Context(), "another", func(context.Context, provider.ListedPage) error { return nil }); !errors.Is(err, provider.ErrAnswer) {
			t.Errorf("Users() = %v, want an answer, which is of another directory", err)
		}
		if time.Since(began) > time.Second {
			t.Errorf("another directory was held back for %s", time.Since(began))
		}
		both.Wait()
		asked := s.requests()
		if len(asked) != 4 {
			t.Fatalf("%d requests, want 4", len(asked))
		}
		for _, r := range asked[2:] {
			if r.at.Sub(began) < 30*time.Second {
				t.Errorf("%s was asked %s after the limit, want 30s", r.line, r.at.Sub(began))
			}
		}
	})
}

func TestTheEndOfTheContextEndsEveryWait(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]http.HandlerFunc{
		"at the last try": inTurn(says(500, ""), says(500, ""), says(500, ""), says(500, ""), func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }),
		"for a limit":     says(429, `"Ratelimited"`, "Retry-After: 50"),
		"for a server":    says(503, "", "Retry-After: 50"),
		"for an answer":   func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"for a body":      slow,
	} {
		simulate(t, answer, func(t *testing.T, s *sim) {
			ctx, cancel := context.WithCancel(t.Context())
			began := time.Now()
			time.AfterFunc(10*time.Second, cancel)
			_, err := s.Page(ctx, provider.LogQuery{After: "event_1"})
			if !errors.Is(err, context.Canceled) || time.Since(began) != 10*time.Second {
				t.Errorf("%s: Page() = %v after %s, want context.Canceled after 10s", name, err, time.Since(began))
			}
		})
	}
	simulate(t, says(200, list("null", ofDirectory("u1"))), func(t *testing.T, s *sim) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var err error
		for err == nil {
			err = s.Users(ctx, directoryID, func(context.Context, provider.ListedPage) error { return nil })
		}
		if !errors.Is(err, context.DeadlineExceeded) || len(s.requests()) < 4 {
			t.Errorf("Users() = %v after %d requests, want context.DeadlineExceeded after 4", err, len(s.requests()))
		}
	})
}

func TestItsOwnConnectionsServeAWholeListing(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		says(200, file(t, "users.json"), "Date: Fri, 31 Jul 2026 10:00:00 GMT")(w, r)
	}))
	t.Cleanup(server.Close)
	c := newClient(t, provider.APIConfig{URL: server.URL + "/", Key: func() (string, error) { return apiKey, nil }, Options: options})
	n := 0
	if err := c.Users(t.Context(), directoryID, func(_ context.Context, p provider.ListedPage) error {
		n += len(p.Items)
		if want := time.Date(2026, 7, 31, 10, 0, 0, 0, time.UTC); !p.Date.Equal(want) {
			t.Errorf("Date = %s, want %s", p.Date, want)
		}
		return nil
	}); err != nil || n != 3 {
		t.Errorf("Users() = %v with %d users, want 3", err, n)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}
