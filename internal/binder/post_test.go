package binder_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/internal/binder"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/verify"
)

// receiver takes posts as an application does: it checks the signature, and answers what the test says.
type receiver struct {
	*httptest.Server
	key      *verify.Key
	verifier *verify.Verifier

	mu     sync.Mutex // guards what follows
	answer func(p binder.Posted, times int) int
	after  map[string]string // Retry-After of refusals, by account
	taken  []binder.Posted
	ids    []string
	times  map[int64]int
	wrong  []error
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	scheme, _ := verify.Preset("standard-webhooks")
	verifier, err := verify.New(scheme)
	if err != nil {
		t.Fatal(err)
	}
	key, err := verifier.NewKey("1", []byte("whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3"))
	if err != nil {
		t.Fatal(err)
	}
	rc := &receiver{key: key, verifier: verifier, times: map[int64]int{}}
	rc.Server = httptest.NewServer(rc)
	t.Cleanup(rc.Close)
	return rc
}

func (rc *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	proof, err := rc.verifier.Verify(r.Header, body, []*verify.Key{rc.key}, time.Now())
	var p binder.Posted
	if err == nil {
		err = json.Unmarshal(body, &p)
	}
	rc.mu.Lock()
	defer rc.mu.Unlock()
	if err != nil {
		rc.wrong = append(rc.wrong, err)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	rc.times[p.Seq]++
	rc.ids = append(rc.ids, proof.ID)
	status := http.StatusNoContent
	if rc.answer != nil {
		status = rc.answer(p, rc.times[p.Seq])
	}
	if status < 300 {
		rc.taken = append(rc.taken, p)
	}
	if after := rc.after[p.Account]; status >= 300 && after != "" {
		w.Header().Set("Retry-After", after)
	}
	w.WriteHeader(status)
}

// of returns the kinds of somebody's changes that were taken, in their order.
func (rc *receiver) of(account string) (kinds []string) {
	rc.mu.Lock()
	defer rc.mu.Unlock()
	for _, p := range rc.taken {
		if p.Account == account {
			kinds = append(kinds, string(p.Kind))
		}
	}
	return kinds
}

func (rc *receiver) binding(name string, on ...string) binder.Binding {
	b := binder.Binding{Name: name, On: kinds(on...), Post: &binder.Post{URL: rc.URL, Key: func() (*verify.Key, error) { return rc.key, nil }}}
	if len(on) == 0 {
		b.On = everyKind
	}
	return b
}

// posted waits until nothing waits to be posted, and returns what came of somebody's changes on that way.
func (r *rig) posted(account string) []string {
	r.Helper()
	r.until("posts", func() bool {
		return len(read(r, r.truth, `SELECT seq FROM `+r.schema+`changes WHERE posted_at IS NULL`)) == 0
	})
	return read(r, r.truth, `SELECT kind, posted_result FROM `+r.schema+`changes WHERE account_key = '`+account+`' ORDER BY seq`)
}

func TestChangesArePostedInOrderUntilTheyAreTaken(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		rc := newReceiver(t)
		rc.answer = func(p binder.Posted, times int) int {
			if p.Account == "ada" && times < 3 {
				return []int{0, http.StatusServiceUnavailable, http.StatusGone}[times]
			}
			return http.StatusOK
		}
		r.start(func(c *binder.Config) { c.Bindings = append(c.Bindings, rc.binding("hooks")) })
		r.fold(joins("ada"), added("group_admins", "ada"), joins("bob"))
		want := []string{"account.activated", "grant.added", "role.added"}
		if got := r.posted("ada"); !slices.Equal(got, []string{"account.activated bound", "grant.added bound", "role.added bound"}) {
			t.Errorf("what came of ada's changes = %q", got)
		}
		if got := rc.of("ada"); !slices.Equal(got, want) {
			t.Errorf("posted of ada = %q, want %q", got, want)
		}
		r.settle()
		r.fold(joins("bob", named("robert")))
		r.posted("bob")
		rc.mu.Lock()
		defer rc.mu.Unlock()
		if len(rc.wrong) > 0 {
			t.Errorf("a signature was wrong: %v", rc.wrong)
		}
		last := rc.taken[len(rc.taken)-1]
		if last.Environment != "test" || last.Kind != "account.updated" || last.After == nil || last.After.Name != "robert" || last.Before == nil || last.Before.Name != "bob" || last.AppID == "" || last.Event == "" || last.At.IsZero() {
			t.Errorf("the last post = %+v", last)
		}
	})
}

func TestARemovalIsPostedPastWhatIsRefused(t *testing.T) {
	t.Parallel()
	r := onPostgres(t, true)
	rc := newReceiver(t)
	rc.answer = func(p binder.Posted, times int) int {
		if p.Kind == "account.updated" {
			return http.StatusInternalServerError
		}
		return http.StatusOK
	}
	r.start(func(c *binder.Config) {
		c.Bindings = append(c.Bindings, rc.binding("hooks"))
		c.RetryFirst = time.Hour
		c.RetryLongest = time.Hour
	})
	r.fold(joins("ada"), added("group_1", "ada"))
	r.posted("ada")
	r.fold(joins("ada", named("A")))
	r.until("a refusal", func() bool {
		return len(read(t, r.truth, `SELECT seq FROM rollcall.changes WHERE posted_error LIKE 'hooks: % answered 500%'`)) == 1
	})
	r.fold(leaves("ada"))
	got := r.posted("ada")
	want := []string{"account.activated bound", "grant.added bound", "account.updated skipped", "account.deactivated bound", "grant.revoked bound"}
	if !slices.Equal(got, want) {
		t.Errorf("what came of ada's changes = %q, want %q", got, want)
	}
}

func TestAChangeIsGivenUpAfterSoManyAttempts(t *testing.T) {
	t.Parallel()
	r := onPostgres(t, false)
	rc := newReceiver(t)
	rc.answer = func(p binder.Posted, times int) int {
		if p.Account == "ada" {
			return http.StatusBadRequest
		}
		return http.StatusOK
	}
	r.start(func(c *binder.Config) {
		b := rc.binding("hooks", "account.activated")
		b.Post.Attempts = 3
		c.Bindings = append(c.Bindings, b)
	})
	r.fold(joins("ada"), joins("bob"), added("group_1", "ada"))
	if got, want := r.posted("ada"), []string{"account.activated dead", "grant.added no binding"}; !slices.Equal(got, want) {
		t.Errorf("what came of ada's changes = %q, want %q", got, want)
	}
	rc.mu.Lock()
	defer rc.mu.Unlock()
	if rc.times[1] != 3 {
		t.Errorf("the change was posted %d times, want 3", rc.times[1])
	}
}

func TestAPostThatWasTakenAndNotNotedHasTheSameID(t *testing.T) {
	t.Parallel()
	r := onPostgres(t, true)
	rc := newReceiver(t)
	forgets := &forgetful{Store: r.store}
	forgets.calls.Store(4)
	r.start(func(c *binder.Config) {
		c.Bindings, c.Store, c.Link, c.Database = []binder.Binding{rc.binding("hooks")}, forgets, nil, nil
	})
	r.fold(joins("ada"))
	r.posted("ada")
	rc.mu.Lock()
	defer rc.mu.Unlock()
	if len(rc.ids) == 0 || len(slices.Compact(slices.Clone(rc.ids))) != 1 || !strings.HasPrefix(rc.ids[0], "1-") {
		t.Errorf("ids = %q, want the change's number and what it is each time", rc.ids)
	}
}

func TestAReceiverThatTookAChangeDoesNotGetItAgain(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		good, bad := newReceiver(t), newReceiver(t)
		bad.answer = func(_ binder.Posted, times int) int {
			if times < 4 {
				return http.StatusTooManyRequests
			}
			return http.StatusOK
		}
		r.start(func(c *binder.Config) {
			c.Bindings = append(c.Bindings, good.binding("good", "account.activated"), bad.binding("bad", "account.activated"))
		})
		r.fold(joins("ada"))
		r.posted("ada")
		good.mu.Lock()
		defer good.mu.Unlock()
		if good.times[1] != 1 {
			t.Errorf("the first receiver got the change %d times, want once", good.times[1])
		}
	})
}

func TestTwoBindersPostInOneOrder(t *testing.T) {
	t.Parallel()
	r := onPostgres(t, true)
	rc := newReceiver(t)
	for range 3 {
		r.start(func(c *binder.Config) {
			c.Bindings = []binder.Binding{rc.binding("hooks", "account.activated", "account.updated")}
		})
	}
	for i := range 20 {
		for _, name := range []string{"ada", "bob", "cyd", "dan"} {
			r.fold(joins(name, named(name+string(rune('a'+i)))))
		}
	}
	r.posted("ada")
	rc.mu.Lock()
	defer rc.mu.Unlock()
	last := map[string]int64{}
	for _, p := range rc.taken {
		if p.Seq <= last[p.Account] {
			t.Errorf("change %d of %s was posted after change %d", p.Seq, p.Account, last[p.Account])
		}
		last[p.Account] = p.Seq
	}
	if len(rc.taken) != 80 {
		t.Errorf("%d changes were posted, want each of 80 once", len(rc.taken))
	}
}

func TestWhatIsNotPostedIsSettled(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		r.start()
		r.fold(joins("ada"))
		r.settle()
		backlog, err := r.store.Backlog(t.Context())
		if err != nil || backlog.Waiting[store.Posted] != 0 {
			t.Errorf("Backlog() = %+v, %v, want nothing to be posted", backlog, err)
		}
	})
}

func TestWhatAnotherAccountKeepsIsNotPostedUntilItKeepsItNoMore(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		rc := newReceiver(t)
		r.start(func(c *binder.Config) {
			c.Bindings = append(c.Bindings, rc.binding("hooks", "account.deactivated", "grant.revoked", "role.revoked"))
		})
		r.keptIn()
		r.posted("ada")
		if got, want := rc.of("ada"), []string{"grant.revoked"}; !slices.Equal(got, want) {
			t.Errorf("posted were %q, want %q", got, want)
		}
		kept := read(t, r.truth, `SELECT kind FROM `+r.schema+`changes WHERE posted_result = 'kept' ORDER BY kind`)
		if want := []string{"account.deactivated", "role.revoked"}; !slices.Equal(kept, want) {
			t.Errorf("kept were %q, want %q", kept, want)
		}
		r.becomes("directory_2", store.Observe)
		r.out()
		r.posted("ada")
		if got, want := rc.of("ada"), []string{"grant.revoked", "account.deactivated", "role.revoked"}; !slices.Equal(got, want) {
			t.Errorf("posted were %q, want %q", got, want)
		}
	})
}

func TestTheEndOfADirectoryIsNotPostedOfWhomIsProtected(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		rc := newReceiver(t)
		r.start(spared, func(c *binder.Config) { c.Bindings = append(c.Bindings, rc.binding("hooks", "account.deactivated")) })
		r.fold(joins("ada"), joins("boss"))
		r.settle()
		r.posted("boss")
		r.endDirectory()
		r.settle()
		if got, want := r.posted("boss"), []string{"account.activated no binding", "account.deactivated protected"}; !slices.Equal(got, want) {
			t.Errorf("what came of boss's changes = %q, want %q", got, want)
		}
		if got, want := rc.of("ada"), []string{"account.deactivated"}; !slices.Equal(got, want) {
			t.Errorf("posted of ada were %q, want %q", got, want)
		}
		r.decided("boss")
		r.until("that boss's end is posted", func() bool { return slices.Equal(rc.of("boss"), []string{"account.deactivated"}) })
	})
}

func TestAReceiverSaysWhenToComeAgain(t *testing.T) {
	t.Parallel()
	r := onPostgres(t, true)
	rc := newReceiver(t)
	now := time.Now().Truncate(time.Second)
	const least, most = time.Second, time.Hour
	status := map[string]int{}
	want := map[string]time.Duration{}
	rc.after = map[string]string{}
	for name, c := range map[string]struct {
		status int
		after  string
		want   time.Duration
	}{
		"seconds":      {http.StatusTooManyRequests, "120", 2 * time.Minute},
		"date":         {http.StatusServiceUnavailable, now.Add(10 * time.Minute).UTC().Format(http.TimeFormat), 10 * time.Minute},
		"too long":     {http.StatusTooManyRequests, "86400", most},
		"soon":         {http.StatusServiceUnavailable, "0", least},
		"past":         {http.StatusServiceUnavailable, now.Add(-time.Hour).UTC().Format(http.TimeFormat), least},
		"nonsense":     {http.StatusServiceUnavailable, "-120", least},
		"nothing":      {http.StatusServiceUnavailable, "", least},
		"other status": {http.StatusInternalServerError, "120", least},
	} {
		status[name], rc.after[name], want[name] = c.status, c.after, c.want
	}
	rc.answer = func(p binder.Posted, _ int) int { return status[p.Account] }
	r.start(func(c *binder.Config) {
		c.Bindings = append(c.Bindings, rc.binding("hooks", "account.activated"))
		c.Now, c.RetryFirst, c.RetryLongest = func() time.Time { return now }, least, most
	})
	for name := range want {
		r.fold(joins(name))
	}
	r.until("refusals", func() bool {
		return len(read(t, r.truth, `SELECT seq FROM rollcall.changes WHERE posted_attempts = 1`)) == len(want)
	})
	for name, wait := range want {
		waiting, err := r.store.Waiting(t.Context(), nil, store.Posted, []store.Lane{{Scope: one, Account: name}})
		if err != nil || len(waiting) != 1 {
			t.Fatalf("Waiting(%s) = %+v, %v, want one", name, waiting, err)
		}
		if got := waiting[0].Next.Sub(now); got != wait {
			t.Errorf("%s: it is tried again after %s, want %s", name, got, wait)
		}
	}
}

// A database that was restored from a backup numbers changes anew: a receiver that remembers the ids of what it did must not take
// another change, as the end of somebody, for done.
func TestTheIDOfAPostIsOfOneChangeThoughNumbersAreGivenAgain(t *testing.T) {
	t.Parallel()
	rc := newReceiver(t)
	for _, name := range []string{"ada", "bob"} { // each in a database of its own, as before the backup and after
		r := onSQLite(t, true)
		r.start(func(c *binder.Config) { c.Bindings = append(c.Bindings, rc.binding("hook")) })
		r.fold(joins(name))
		if got, want := r.posted(name), []string{"account.activated bound"}; !slices.Equal(got, want) {
			t.Fatalf("what came of %s's changes is %q, want %q", name, got, want)
		}
	}
	rc.mu.Lock()
	defer rc.mu.Unlock()
	if len(rc.taken) != 2 || rc.taken[0].Seq != rc.taken[1].Seq {
		t.Fatalf("%d posts were taken, want two of one number", len(rc.taken))
	}
	if rc.ids[0] == rc.ids[1] {
		t.Errorf("two changes have the id %s", rc.ids[0])
	}
}
