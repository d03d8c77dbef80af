package e2e

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/internal/testenv"
	"github.com/rollcallhq/rollcall/test/rig"
)

// A sender has to hear within a second that it should come again, whether Redis is gone or hangs, and the same process
// has to go on when it is back.
func TestWithoutRedisSendersAreToldWithinASecondToComeAgain(t *testing.T) {
	t.Parallel()
	outages := map[string]struct{ begin, end func(*testenv.RedisServer) }{
		"stopped": {(*testenv.RedisServer).Stop, (*testenv.RedisServer).Start},
		"killed":  {(*testenv.RedisServer).Kill, (*testenv.RedisServer).Start},
		"hanging": {(*testenv.RedisServer).Pause, (*testenv.RedisServer).Resume},
	}
	for name, outage := range outages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			site := rig.New(t, rig.Options{})
			d, deliveries := company(3, 8)
			p := site.Serve(t, "receiver,worker")
			awaitAccepted(t, site, p, deliveries[0])

			outage.begin(site.Redis)
			slowest := time.Duration(0)
			for i := range 20 {
				a := site.Post(t, p.URL(), deliveries[1+i%5].Body)
				if a.Status != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "" {
					t.Errorf("without Redis a delivery is answered %d, Retry-After %q, want 503 with one", a.Status, a.Header.Get("Retry-After"))
				}
				a.Problem(t)
				slowest = max(slowest, a.Took)
			}
			if t.Logf("the slowest of 20 answers took %s", slowest); slowest >= time.Second {
				t.Errorf("an answer took %s, want less than a second", slowest)
			}
			if status, text := p.Ops(t, "/readyz?verbose"); status != http.StatusOK || !strings.Contains(text, "queue (shared) failed") {
				t.Errorf("/readyz?verbose without Redis = %d %q, want ready, and a word on the queue", status, text)
			}

			outage.end(site.Redis)
			for _, delivery := range deliveries[1:] {
				awaitAccepted(t, site, p, delivery)
			}
			mustMatch(t, site, d, deliveries)
		})
	}
}

func TestWithoutTheDatabaseDeliveriesAreTakenAndFoldedWhenItIsBack(t *testing.T) {
	t.Parallel()
	server := testenv.Postgres(t)
	site := rig.New(t, rig.Options{DSN: server.Database(t)})
	d, deliveries := company(4, 30)
	third := len(deliveries) / 3

	p := site.Serve(t, "receiver,worker")
	awaitAccepted(t, site, p, deliveries[0])
	accepted(t, site, p, deliveries[1:third])
	site.Settle(t)
	server.Crash()
	accepted(t, site, p, deliveries[third:2*third])
	if status, text := p.Ops(t, "/readyz?verbose"); status != http.StatusOK || !strings.Contains(text, "database (shared) failed") {
		t.Errorf("/readyz?verbose without the database = %d %q, want ready, and a word on the database", status, text)
	}
	p.Kill()
	p = site.Serve(t, "receiver,worker") // while it is down
	awaitAccepted(t, site, p, deliveries[2*third])
	accepted(t, site, p, deliveries[2*third+1:])
	stats, err := site.Queue.Stats(t.Context())
	if want := int64(len(deliveries) - third); err != nil || stats.Depth() != want {
		t.Errorf("%d deliveries wait for the database, %v, want %d", stats.Depth(), err, want)
	}

	server.Start(t)
	mustMatch(t, site, d, deliveries)
	if n := site.Count(t, `SELECT count(*) FROM rollcall.dead_events`); n != 0 {
		t.Errorf("%d events were parked for the database's trouble, want none", n)
	}
}
