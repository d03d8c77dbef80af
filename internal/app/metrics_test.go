package app

import (
	"cmp"
	"flag"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"github.com/rollcallhq/rollcall/internal/provider/workos"
)

var update = flag.Bool("update", false, "write testdata/metrics.txt anew")

// The names, types, help and labels are what dashboards and alerts are made of.
func TestTheMetricsAreWhatTheyWere(t *testing.T) {
	t.Parallel()
	const path = "testdata/metrics.txt"
	p := run(t, testConfig(t)).ready()
	workload(t, p)
	got := describe(t, p.app.registry)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s is not what a process has; if that is meant, `go test ./internal/app -run Metrics -update` (-want +got):\n%s", path, diff)
	}
	problems, err := testutil.GatherAndLint(p.app.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Errorf("lint: %s: %s", problem.Metric, problem.Text)
	}
}

// workload brings one of each: accepted, duplicate, badly signed, stale, parked, with and without changes.
func workload(t *testing.T, p *process) {
	t.Helper()
	body, id, err := workos.Sample("dsync.user.created", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	want := func(status int, res *http.Response) {
		t.Helper()
		if res.StatusCode != status {
			t.Errorf("answered %d, want %d", res.StatusCode, status)
		}
	}
	want(http.StatusOK, p.post(body, time.Now()))
	want(http.StatusOK, p.post(body, time.Now()))
	want(http.StatusUnauthorized, p.post(body, time.Now().Add(-time.Hour)))
	want(http.StatusUnauthorized, p.post(body, time.Now(), func(h http.Header) { h.Del("WorkOS-Signature") }))
	want(http.StatusOK, p.post([]byte("this is no JSON"), time.Now()))
	p.folded(id)
	p.folded(p.accept("dsync.group.created"))
	p.folded(p.accept("dsync.group.user_added"))
	p.folded(p.accept("dsync.deleted"))
	until(t, "what could not be decoded is parked", func() bool {
		s, err := p.app.store.get().Summary(t.Context())
		return err == nil && s.Dead == 1
	})
}

// describe writes the metrics of this project without their values: name, type, labels and help, a line each.
func describe(t *testing.T, g prometheus.Gatherer) string {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "rollcall_") {
			continue
		}
		lines = append(lines, fmt.Sprintf("%s{%s} %s: %s\n", f.GetName(), strings.Join(labels(f), ","), strings.ToLower(f.GetType().String()), f.GetHelp()))
	}
	slices.SortFunc(lines, cmp.Compare)
	return strings.Join(lines, "")
}

func labels(f *dto.MetricFamily) (names []string) {
	for _, m := range f.GetMetric() {
		for _, l := range m.GetLabel() {
			names = append(names, l.GetName())
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func TestAQueueThatDoesNotAnswerHasNoNumbers(t *testing.T) {
	t.Parallel()
	c := testConfig(t)
	c.Queue.Backend, c.Queue.Redis.Addrs = "redis", []string{"127.0.0.1:1"}
	q, err := OpenQueue(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = q.Close() }()
	want := "# HELP rollcall_queue_up 1 when the queue answered.\n# TYPE rollcall_queue_up gauge\nrollcall_queue_up 0\n"
	if err := testutil.CollectAndCompare(newQueueCollector(q), strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}
