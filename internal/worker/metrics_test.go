package worker_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/worker"
	"github.com/rollcallhq/rollcall/queue"
)

// Dashboards and alerts name these: a change here is a change of an interface.
const pinned = `
# HELP rollcall_changes_total Changes of accounts, grants, groups and directories.
# TYPE rollcall_changes_total counter
rollcall_changes_total{kind="account.activated"} 2
rollcall_changes_total{kind="account.deactivated"} 1
rollcall_changes_total{kind="grant.added"} 2
rollcall_changes_total{kind="grant.revoked"} 2
rollcall_changes_total{kind="group.ended"} 1
# HELP rollcall_event_lag_seconds Time from the provider's event to the commit of what it changed.
# TYPE rollcall_event_lag_seconds histogram
rollcall_event_lag_seconds_bucket{source="workos",le="0.1"} 0
rollcall_event_lag_seconds_bucket{source="workos",le="0.25"} 0
rollcall_event_lag_seconds_bucket{source="workos",le="0.5"} 0
rollcall_event_lag_seconds_bucket{source="workos",le="1"} 0
rollcall_event_lag_seconds_bucket{source="workos",le="2.5"} 0
rollcall_event_lag_seconds_bucket{source="workos",le="5"} 0
rollcall_event_lag_seconds_bucket{source="workos",le="10"} 0
rollcall_event_lag_seconds_bucket{source="workos",le="30"} 0
rollcall_event_lag_seconds_bucket{source="workos",le="60"} 0
rollcall_event_lag_seconds_bucket{source="workos",le="300"} 0
rollcall_event_lag_seconds_bucket{source="workos",le="900"} 0
rollcall_event_lag_seconds_bucket{source="workos",le="3600"} 7
rollcall_event_lag_seconds_bucket{source="workos",le="86400"} 7
rollcall_event_lag_seconds_bucket{source="workos",le="+Inf"} 7
rollcall_event_lag_seconds_sum{source="workos"} 23820
rollcall_event_lag_seconds_count{source="workos"} 7
# HELP rollcall_events_total Events that entered the ledger, by what came of them.
# TYPE rollcall_events_total counter
rollcall_events_total{outcome="applied",source="workos"} 6
rollcall_events_total{outcome="ignored",source="workos"} 1
rollcall_events_total{outcome="parked",source="workos"} 1
rollcall_events_total{outcome="superseded",source="workos"} 1
# HELP rollcall_expanded_members_total Members evaluated again because their group or directory ended or came back.
# TYPE rollcall_expanded_members_total counter
rollcall_expanded_members_total 2
# HELP rollcall_worker_batch_failures_total Batches that could not be saved and were tried again.
# TYPE rollcall_worker_batch_failures_total counter
rollcall_worker_batch_failures_total 1
# HELP rollcall_worker_partitions Partitions of the queue that this worker holds.
# TYPE rollcall_worker_partitions gauge
rollcall_worker_partitions 8
`

func TestMetricsKeepTheirNamesLabelsAndMeaning(t *testing.T) {
	t.Parallel()
	r := onSQLite(t, settings{})
	registry := prometheus.NewRegistry()
	var failed atomic.Bool
	r.start(func(c *worker.Config) {
		c.Registerer = registry
		c.Store = &steps{Store: r.store, saved: func(context.Context, store.Batch) error {
			if failed.CompareAndSwap(false, true) {
				return errBroken
			}
			return nil
		}}
	})
	for _, e := range []directory.Event{
		joins("e1", 1, "ada"), added("e2", 2, "eng", "ada"), joins("e3", 1, "bob"), added("e4", 2, "eng", "bob"), leaves("e5", 9, "ada"), // revokes hers
		joins("e6", 0, "ada"), // superseded
		groupEnds("e7", 8, "eng"),
		joins("e8", 0, "old", func(e *directory.Event) { e.Occurred = r.clock().Add(-100 * 24 * time.Hour) }),
	} {
		r.send(e) // one a batch
		r.settle()
	}
	r.deliver(queue.Delivery{ID: "e9", Body: []byte("garbage")})
	r.settle()
	r.until("all partitions held", func() bool {
		s, err := r.queue.Stats(t.Context())
		n := 0
		for _, p := range s.Partitions {
			if p.Leased {
				n++
			}
		}
		return err == nil && n == queue.Partitions
	})
	if err := testutil.GatherAndCompare(registry, strings.NewReader(pinned), "rollcall_changes_total", "rollcall_event_lag_seconds", "rollcall_events_total",
		"rollcall_expanded_members_total", "rollcall_worker_batch_failures_total", "rollcall_worker_partitions"); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("GatherAndLint() = %v, %v, want nothing", problems, err)
	}
	want := []string{
		"rollcall_fold_batch_events: Events new to the ledger in a transaction.: 9 observations, sum 9",
		"rollcall_fold_duration_seconds: Time from a decoded batch to its commit.: 9 observations",
	}
	if diff := cmp.Diff(want, histograms(t, registry, "rollcall_fold_")); diff != "" {
		t.Errorf("histograms of what takes time: want (-), got (+):\n%s", diff)
	}
}

// histograms renders name, help and count of each, and the sum where it is no time.
func histograms(t *testing.T, g prometheus.Gatherer, prefix string) (out []string) {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), prefix) {
			continue
		}
		h := f.GetMetric()[0].GetHistogram()
		line := fmt.Sprintf("%s: %s: %d observations", f.GetName(), f.GetHelp(), h.GetSampleCount())
		if !strings.HasSuffix(f.GetName(), "_seconds") {
			line += fmt.Sprintf(", sum %g", h.GetSampleSum())
		}
		out = append(out, line)
	}
	return out
}
