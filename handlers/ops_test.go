package handlers

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

func get(h http.Handler, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w
}

func failing(text string) func(context.Context) error {
	return func(context.Context) error { return errors.New(text) }
}

func passing(context.Context) error { return nil }

func TestReadinessIsLocal(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		checks  []Check
		drain   bool
		status  int
		verbose string
	}{
		"all well": {
			[]Check{{"keys", true, passing}, {"queue", false, passing}}, false, 200,
			"ready\nnot draining ok\nkeys ok\nqueue (shared) ok\n",
		},
		"a shared outage": {
			[]Check{{"keys", true, passing}, {"queue", false, failing("refused\nhint: start it")}}, false, 200,
			"ready\nnot draining ok\nkeys ok\nqueue (shared) failed: refused\n  hint: start it\n",
		},
		"our own": {
			[]Check{{"keys", true, failing("too old")}, {"queue", false, passing}}, false, 503,
			"not ready\nnot draining ok\nkeys failed: too old\nqueue (shared) ok\n",
		},
		"draining": {nil, true, 503, "not ready\nnot draining failed: the process is stopping\n"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ops := NewOps(c.checks, prometheus.NewRegistry())
			if c.drain {
				ops.Drain()
			}
			w := get(ops, "/readyz?verbose")
			if diff := cmp.Diff(c.verbose, w.Body.String()); diff != "" || w.Code != c.status {
				t.Errorf("/readyz?verbose: status %d, want %d (-want +got):\n%s", w.Code, c.status, diff)
			}
			head, _, _ := strings.Cut(c.verbose, "\n")
			if w := get(ops, "/readyz"); w.Code != c.status || w.Body.String() != head+"\n" {
				t.Errorf("/readyz: %d %s", w.Code, w.Body)
			}
			if err := ops.Ready(t.Context()); (err == nil) != (c.status == 200) {
				t.Errorf("Ready: %v, with status %d", err, c.status)
			}
			if w := get(ops, "/livez"); w.Code != 200 {
				t.Errorf("/livez: %d", w.Code)
			}
		})
	}
}

func TestReadinessAsksNothingShared(t *testing.T) {
	t.Parallel()
	asked := false
	ops := NewOps([]Check{{"queue", false, func(context.Context) error { asked = true; return nil }}}, prometheus.NewRegistry())
	if get(ops, "/readyz"); asked {
		t.Error("a load balancer's question went to the queue")
	}
}

func TestChecksRunSideBySideAndEndInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		ops := NewOps([]Check{{"one", false, hang}, {"two", false, hang}, {"three", true, passing}}, prometheus.NewRegistry())
		want := "ready\nnot draining ok\none (shared) failed: context deadline exceeded\ntwo (shared) failed: context deadline exceeded\nthree ok\n"
		if w := get(ops, "/readyz?verbose"); w.Body.String() != want {
			t.Errorf("got %s", w.Body)
		}
	})
}

func TestOpsServesTheMetricsItIsGiven(t *testing.T) {
	t.Parallel()
	rig := newRig(t)
	w := get(NewOps(nil, rig.registry), "/metrics")
	if w.Code != 200 || !strings.Contains(w.Body.String(), "rollcall_inflight_deliveries 0") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestOpsAnswersNothingElse(t *testing.T) {
	t.Parallel()
	w := get(NewOps(nil, prometheus.NewRegistry()), "/webhooks/workos")
	if w.Code != 404 || w.Header().Get("Content-Type") != "application/problem+json" {
		t.Errorf("%d %s", w.Code, w.Header())
	}
}
