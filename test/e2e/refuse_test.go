package e2e

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/test/rig"
)

// bodyCanary stands in every body of these tests, and must stand nowhere else.
const bodyCanary = "canary.d0e1@example.com"

func newcomer(id string) []byte {
	return fmt.Appendf(nil, `{"object":"event","id":%q,"event":"dsync.user.created","created_at":"2026-07-31T10:00:00.000Z","data":{
		"id":"directory_user_%s","directory_id":"directory_1","organization_id":"org_1","idp_id":"idp-%s","email":%q,"state":"active",
		"created_at":"2026-07-31T09:00:00.000Z","updated_at":"2026-07-31T09:00:00.000Z"}}`, id, id, id, bodyCanary)
}

func TestADeliveryThatComesTwiceIsAppliedOnce(t *testing.T) {
	t.Parallel()
	site := rig.New(t, rig.Options{})
	processes := []*rig.Process{site.Serve(t, "receiver,worker"), site.Serve(t, "receiver,worker")}
	body := newcomer("event_1")
	first := site.Request(t, processes[0].URL(), body)
	again := func(p *rig.Process) *http.Request {
		same := first.Clone(t.Context())
		same.Body = io.NopCloser(bytes.NewReader(body))
		same.URL.Host, same.Host = p.Address(), ""
		return same
	}
	rig.Until(t, "the delivery is taken", func() bool { return site.Do(t, again(processes[0])).Status == http.StatusOK })
	for _, p := range processes {
		if a := site.Do(t, again(p)); a.Status != http.StatusOK {
			t.Errorf("the same request again is answered %d %s, want 200", a.Status, a.Body)
		}
	}
	once(t, site)

	forget(t, site) // the queue's memory of ids is there to save work; nothing rests on it
	for _, p := range processes {
		if a := site.Do(t, again(p)); a.Status != http.StatusOK {
			t.Errorf("the same request, which the queue has forgotten, is answered %d %s, want 200", a.Status, a.Body)
		}
	}
	once(t, site)
}

func once(t *testing.T, site *rig.Site) {
	t.Helper()
	site.Settle(t)
	if n := site.Ledger(t); n != 1 {
		t.Errorf("the ledger holds %d events, want 1", n)
	}
	if got := changes(t, site); len(got) != 1 || got[0].Kind != "account.activated" {
		t.Errorf("there are %d changes, want one account.activated: %+v", len(got), got)
	}
}

// forget takes the ids that the queue remembers from the site's own Redis.
func forget(t *testing.T, site *rig.Site) {
	t.Helper()
	client := redisClient(t, site)
	keys, err := client.Keys(t.Context(), "rc:*:d:*").Result()
	if err != nil || len(keys) != 1 {
		t.Fatalf("Redis remembers %q, %v, want one id", keys, err)
	}
	if err := client.Del(t.Context(), keys...).Err(); err != nil {
		t.Fatal(err)
	}
}

func redisClient(t *testing.T, site *rig.Site) *redis.Client {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: site.Redis.Addr()})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// refusal is a request that must not get in, and what it is answered.
type refusal struct {
	status  int
	outcome string // the log's word
	request func(t *testing.T, site *rig.Site, p *rig.Process) *http.Request
}

// signed is a refusal of what would be a good delivery, but for a change.
func signed(status int, outcome string, change func(r *http.Request)) refusal {
	return refusal{status, outcome, func(t *testing.T, site *rig.Site, p *rig.Process) *http.Request {
		r := site.Request(t, p.URL(), newcomer("event_1"))
		change(r)
		return r
	}}
}

// signedAt is a refusal of a good delivery of another time.
func signedAt(outcome string, ago time.Duration) refusal {
	return refusal{http.StatusUnauthorized, outcome, func(t *testing.T, site *rig.Site, p *rig.Process) *http.Request {
		return site.RequestAt(t, p.URL(), newcomer("event_1"), site.Key, time.Now().Add(-ago))
	}}
}

func body(r *http.Request, b []byte) {
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(b)), int64(len(b))
}

var refusals = map[string]refusal{
	"stale":         signedAt("stale", 181*time.Second),
	"of the future": signedAt("future", -200*time.Second),
	"a byte of the body": signed(401, "mismatch", func(r *http.Request) {
		body(r, bytes.Replace(newcomer("event_1"), []byte("active"), []byte("actjve"), 1))
	}),
	"a byte more":           signed(401, "mismatch", func(r *http.Request) { body(r, append(newcomer("event_1"), '\n')) }),
	"not signed":            signed(401, "missing", func(r *http.Request) { r.Header.Del("WorkOS-Signature") }),
	"signed in other words": signed(401, "malformed", func(r *http.Request) { r.Header.Set("WorkOS-Signature", "sha256="+rig.Signature(r)) }),
	"signed with another's secret": {http.StatusUnauthorized, "mismatch", func(t *testing.T, site *rig.Site, p *rig.Process) *http.Request {
		return site.RequestAt(t, p.URL(), newcomer("event_1"), site.NewKey(t, "whsec_of_somebody_else_1234"), time.Now())
	}},
	"to nobody":           signed(404, "unknown_source", func(r *http.Request) { r.URL.Path = "/webhooks/nobody" }),
	"read":                signed(405, "method", func(r *http.Request) { r.Method = http.MethodGet; r.Body, r.ContentLength = http.NoBody, 0 }),
	"too large":           signed(413, "too_large", func(r *http.Request) { body(r, bytes.Repeat([]byte(bodyCanary), 1000)) }),
	"too large, unsaid":   signed(413, "too_large", func(r *http.Request) { body(r, bytes.Repeat([]byte(bodyCanary), 1000)); r.ContentLength = -1 }),
	"of another type":     signed(415, "media_type", func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }),
	"in another encoding": signed(415, "media_type", func(r *http.Request) { r.Header.Set("Content-Encoding", "gzip") }),
}

// What is not proven meets receivers alone, so that whatever reaches Redis comes from it. There are two of them, because
// each writes only so many lines a second on what nobody has proven, and every one is looked for.
func TestWhatIsNotProvenIsRefusedAndReachesNothing(t *testing.T) {
	t.Parallel()
	site := rig.New(t, rig.Options{Set: []string{"public.body_limit=4KiB"}})
	receivers := []*rig.Process{site.Serve(t, "receiver"), site.Serve(t, "receiver")}
	for _, p := range receivers {
		rig.Until(t, "the receiver knows its queue", func() bool { return p.Log().Find("message", "queue") != nil })
	}
	client := redisClient(t, site)
	if err := client.ConfigResetStat(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}

	signatures := map[string]string{}
	for i, name := range slices.Sorted(maps.Keys(refusals)) {
		c, p := refusals[name], receivers[i%2]
		request := c.request(t, site, p)
		signatures[name] = rig.Signature(request)
		a := site.Do(t, request)
		if a.Status != c.status {
			t.Errorf("%s: answered %d %s, want %d", name, a.Status, a.Body, c.status)
			continue
		}
		problem := a.Problem(t)
		line := awaitLine(t, p, problem.ID)
		if problem.Status != c.status || line["outcome"] != c.outcome || line["status"] != float64(c.status) {
			t.Errorf("%s: the problem is %+v and the log says %v, want %d %s", name, problem, line, c.status, c.outcome)
		}
		if allow := a.Header.Get("Allow"); c.status == 405 && allow != http.MethodPost {
			t.Errorf("%s: Allow is %q, want POST", name, allow)
		}
		for word, text := range map[string]string{"the body": bodyCanary, "the secret": site.Secret, "the signature": signatures[name]} {
			if text != "" && strings.Contains(a.Body, text) {
				t.Errorf("%s: the answer holds %s: %s", name, word, a.Body)
			}
		}
	}
	touchedNothing(t, site, client)
	for name, signature := range signatures {
		if signature != "" && strings.Contains(site.Logs(), signature) {
			t.Errorf("%s: the log holds the signature", name)
		}
	}
	keepsSecrets(t, site)
}

// awaitLine returns the log's line of a delivery.
func awaitLine(t *testing.T, p *rig.Process, delivery string) (line map[string]any) {
	t.Helper()
	rig.Until(t, "a line on the delivery "+delivery, func() bool {
		line = p.Log().Find("delivery", delivery)
		return line != nil
	})
	return line
}

func touchedNothing(t *testing.T, site *rig.Site, client *redis.Client) {
	t.Helper()
	if n, err := client.DBSize(t.Context()).Result(); n != 0 || err != nil {
		t.Errorf("Redis holds %d keys, %v, want none", n, err)
	}
	stats, err := client.Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"cmdstat_eval", "cmdstat_set", "cmdstat_xadd"} {
		if strings.Contains(stats, command) {
			t.Errorf("Redis was asked to do something:\n%s", stats)
		}
	}
	if n := site.Ledger(t); n != 0 {
		t.Errorf("the ledger holds %d events, want none", n)
	}
}

func keepsSecrets(t *testing.T, site *rig.Site) {
	t.Helper()
	for word, text := range map[string]string{"a body": bodyCanary, "the secret": site.Secret} {
		if log := site.Logs(); strings.Contains(log, text) {
			at := strings.Index(log, text)
			t.Errorf("the log holds %s: …%s", word, log[max(0, at-200):at+len(text)])
		}
	}
}

// What is proven is answered 200 whatever it says, and kept: to be ignored, or to be looked at.
func TestWhatIsProvenIsKeptWhateverItSaysAndNotLogged(t *testing.T) {
	t.Parallel()
	site := rig.New(t, rig.Options{})
	p := site.Serve(t, "receiver,worker")
	cases := []struct {
		body    string
		outcome store.Outcome
		class   string // of the dead event
	}{
		{string(newcomer("event_1")), store.Applied, ""},
		{`{"id":"event_2","event":"kitten.created","data":{"name":"` + bodyCanary + `"}}`, store.Ignored, ""},
		{`{"id":"event_3","event":"dsync.user.created","data":{"email":"` + bodyCanary + `"}}`, store.Parked, "invalid"},
		{`no JSON, but ` + bodyCanary, store.Parked, "invalid"},
		{`{"id":"event_5","event":"dsync.user.created","created_at":"2026-07-31T10:00:00Z","data":{"id":"u","directory_id":"d","state":"active","email":"` + bodyCanary + `\u0000"}}`, store.Applied, ""},
	}
	rig.Until(t, "a delivery is taken", func() bool { return site.Post(t, p.URL(), []byte(cases[0].body)).Status == http.StatusOK })
	for _, c := range cases {
		if a := site.Post(t, p.URL(), []byte(c.body)); a.Status != http.StatusOK {
			t.Errorf("%s is answered %d %s, want 200", c.body, a.Status, a.Body)
		}
	}
	site.Settle(t)
	outcomes, classes := map[store.Outcome]int{}, map[string]int{}
	for _, c := range cases {
		outcomes[c.outcome]++
		if c.class != "" {
			classes[c.class]++
		}
	}
	for outcome, want := range outcomes {
		if n := site.Count(t, `SELECT count(*) FROM rollcall.events WHERE outcome = $1`, string(outcome)); n != want {
			t.Errorf("%d events were %s, want %d", n, outcome, want)
		}
	}
	for class, want := range classes {
		if n := site.Count(t, `SELECT count(*) FROM rollcall.dead_events WHERE class = $1`, class); n != want {
			t.Errorf("%d events are dead as %s, want %d", n, class, want)
		}
	}
	keepsSecrets(t, site)
}
