package app

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/internal/config"
	"github.com/rollcallhq/rollcall/internal/provider"
	"github.com/rollcallhq/rollcall/internal/testenv"
	"github.com/rollcallhq/rollcall/secrets"
)

// api is a provider's API that has nothing to tell, and takes one key.
type api struct {
	*httptest.Server
	key   atomic.Value
	asked atomic.Int64
	clock time.Duration // ahead of ours
}

func newAPI(t testing.TB, key string) *api {
	t.Helper()
	a := &api{}
	a.key.Store(key)
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.asked.Add(1)
		w.Header().Set("Date", time.Now().Add(a.clock).UTC().Format(http.TimeFormat))
		if r.Header.Get("Authorization") != "Bearer "+a.key.Load().(string) {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = fmt.Fprint(w, `{"message":"Unauthorized"}`)
			return
		}
		_, _ = fmt.Fprint(w, `{"object":"list","data":[],"list_metadata":{"after":null}}`)
	}))
	t.Cleanup(a.Close)
	return a
}

// asks makes the one source ask the API with a key that is in a file, and returns the file.
func asks(t testing.TB, c *config.Config, a *api, key string) (path string) {
	t.Helper()
	ref := write(t, "api-key", key)
	amend(c, func(s *config.Source) { s.API = config.API{Key: ref, URL: a.URL} })
	return strings.TrimPrefix(string(ref), "file:")
}

// tries asks for events once.
func tries(t testing.TB, a provider.API) error {
	t.Helper()
	_, err := a.Page(t.Context(), provider.LogQuery{After: "event_1"})
	return err
}

func TestAKeyThatIsRotatedIsUsedAsSoonAsTheOldOneIsRefused(t *testing.T) {
	t.Parallel()
	a, c := newAPI(t, "sk_old"), testConfig(t)
	c.Secrets.Refresh, c.Secrets.MaxStale = time.Hour, 2*time.Hour // so that it is the refusal that has it read
	path := asks(t, &c, a, "sk_old\n")
	p := run(t, c).ready()
	asking := p.app.API("workos")
	if asking == nil || p.app.API("workos") != asking {
		t.Fatal("API() is not the same for everybody")
	}
	until(t, "the key is there", func() bool { return tries(t, asking) == nil })
	if err := os.WriteFile(path, []byte("sk_new"), 0o600); err != nil {
		t.Fatal(err)
	}
	a.key.Store("sk_new")
	if err := tries(t, asking); !errors.Is(err, provider.ErrUnauthorized) {
		t.Errorf("with the old key: %v, want ErrUnauthorized", err)
	}
	until(t, "the new key is used", func() bool { return tries(t, asking) == nil })
	if text := p.log.String(); strings.Contains(text, "sk_old") || strings.Contains(text, "sk_new") {
		t.Errorf("the log shows a key:\n%s", text)
	}
	if err := p.end(); err != nil {
		t.Error(err)
	}
}

func TestAReceiverAloneHoldsNoKeyOfAnAPI(t *testing.T) {
	t.Parallel()
	a, c := newAPI(t, "sk_key"), withRedis(t, testenv.Redis(t))
	c.Roles = []string{config.Receiver}
	amend(&c, func(s *config.Source) { s.API, s.AcceptLoss = config.API{Key: "file:/nowhere/key", URL: a.URL}, true })
	p := run(t, c).ready()
	if got := p.app.API("workos"); got != nil {
		t.Errorf("API() = %v, want nil", got)
	}
	if _, err := p.app.ring.Current(apiKey("workos")); !errors.Is(err, secrets.ErrUnknown) {
		t.Errorf("the keyring says %v, want that it knows no such secret", err)
	}
	if _, err := p.app.ring.Current("workos"); err != nil {
		t.Errorf("the signing secret: %v", err)
	}
}

func TestAWorkerAloneHoldsNoSigningSecret(t *testing.T) {
	t.Parallel()
	a, c := newAPI(t, "sk_key"), withRedis(t, testenv.Redis(t))
	c.Roles = []string{config.Worker}
	asks(t, &c, a, "sk_key")
	amend(&c, func(s *config.Source) { s.Secret = "file:/nowhere/secret" })
	p := run(t, c).ready()
	until(t, "the API is asked", func() bool { return tries(t, p.app.API("workos")) == nil })
	if _, err := p.app.ring.Current("workos"); !errors.Is(err, secrets.ErrUnknown) {
		t.Errorf("the keyring says %v, want that it knows no such secret", err)
	}
	amend(&c, func(s *config.Source) { s.API = config.API{} })
	p = run(t, c).ready()
	if p.app.ring != nil || p.app.API("workos") != nil {
		t.Error("without keys there is a keyring, or an API")
	}
}

func TestAnAPIWithoutItsKeyIsNotAskedAndLeavesTheProcessReady(t *testing.T) {
	t.Parallel()
	a, c := newAPI(t, "sk_key"), testConfig(t)
	path := asks(t, &c, a, "sk_key")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	p := run(t, c).ready()
	err := tries(t, p.app.API("workos"))
	if err == nil || a.asked.Load() != 0 {
		t.Errorf("without its key: %v after %d requests, want an error and none", err, a.asked.Load())
	}
	if _, text := p.get("/readyz?verbose"); !strings.Contains(text, "API key of workos") {
		t.Errorf("/readyz?verbose says nothing of the key:\n%s", text)
	}
	if err := os.WriteFile(path, []byte("sk_key"), 0o600); err != nil {
		t.Fatal(err)
	}
	until(t, "the API is asked", func() bool { return tries(t, p.app.API("workos")) == nil })
}

func TestAnAPIKeyThatNoWaitingMendsRefusesToStart(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		key  secrets.Ref
		want string
	}{
		"a variable that is not set": {"env:ROLLCALL_TEST_NO_SUCH_KEY", "environment variable ROLLCALL_TEST_NO_SUCH_KEY: not there"},
		"an empty file":              {write(t, "key", "\n"), "the secret is empty"},
	} {
		conf := testConfig(t)
		amend(&conf, func(s *config.Source) { s.API.Key = c.key })
		wants(t, name, refusal(t, conf), `source "workos": the API key: `, c.want, "\nhint: ")
	}
}

func TestACommandAsksWithTheKeyAsItIs(t *testing.T) {
	t.Parallel()
	a, c := newAPI(t, "sk_key"), testConfig(t)
	asks(t, &c, a, "sk_key\n")
	asking, done, err := OpenAPI(t.Context(), c, "workos")
	if err != nil {
		t.Fatal(err)
	}
	if err := tries(t, asking); err != nil {
		t.Error(err)
	}
	if err := done(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(c *config.Config) string{
		"another source": func(*config.Config) string { return "okta" },
		"no key":         func(c *config.Config) string { amend(c, func(s *config.Source) { s.API.Key = "" }); return "workos" },
		"a receiver":     func(c *config.Config) string { c.Roles = []string{config.Receiver}; return "workos" },
	} {
		conf := c
		source := change(&conf)
		if _, _, err := OpenAPI(t.Context(), conf, source); !errors.Is(err, ErrNoAPI) || !strings.Contains(err.Error(), "\nhint: ") {
			t.Errorf("%s: OpenAPI() = %v, want ErrNoAPI and a hint", name, err)
		}
	}
	amend(&c, func(s *config.Source) { s.API.Key = "file:/nowhere/key" })
	if _, _, err := OpenAPI(t.Context(), c, "workos"); !errors.Is(err, secrets.ErrMissing) || !strings.Contains(err.Error(), "sources.workos.api.key") {
		t.Errorf("a key that is not there: OpenAPI() = %v, want ErrMissing, and where it is set", err)
	}
	amend(&c, func(s *config.Source) {
		s.API = config.API{Key: write(t, "key", "sk_key"), URL: "http://api.example.com"}
	})
	if _, _, err := OpenAPI(t.Context(), c, "workos"); err == nil {
		t.Error("OpenAPI() takes an address that is not https")
	}
}

func TestTheDoctorTriesTheKeyOfAnAPI(t *testing.T) {
	t.Parallel()
	a, c := newAPI(t, "sk_key"), migrated(t, testConfig(t))
	if text, ok := finding(t, c, "API of workos"); ok || text != "" {
		t.Errorf("without a key the doctor says %q", text)
	}
	path := asks(t, &c, a, "sk_key")
	if text, ok := finding(t, c, "API of workos"); !ok || !strings.HasPrefix(text, "takes the key, its clock is ") {
		t.Errorf("of a key that is taken the doctor says %q", text)
	}
	if text, ok := finding(t, c, "secret sources.workos.api"); !ok || text != "readable" {
		t.Errorf("of the key's file the doctor says %q", text)
	}
	if n := a.asked.Load(); n != 2 {
		t.Errorf("%d requests for two examinations", n)
	}
	a.clock = -time.Minute
	if text, ok := finding(t, c, "API of workos"); ok || !strings.Contains(text, "its clock is 1m") {
		t.Errorf("of a clock that is a minute behind the doctor says %q", text)
	}
	a.key.Store("sk_other")
	if text, ok := finding(t, c, "API of workos"); ok || !strings.Contains(text, "the provider refuses the API key") || strings.Contains(text, "sk_key") {
		t.Errorf("of a key that is refused the doctor says %q", text)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	for _, f := range Doctor(t.Context(), c, "v0") {
		if f.Name == "API of workos" && f.Needs != "its key" || f.Name == "secret sources.workos.api" && f.Err == nil {
			t.Errorf("without the file: %+v", f)
		}
	}
	c.Roles = []string{config.Receiver}
	if text, _ := finding(t, c, "API of workos"); text != "" {
		t.Errorf("of a receiver's the doctor says %q", text)
	}
}
