package worker

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcallhq/rollcall/internal/directory"
)

type metrics struct {
	partitions prometheus.Gauge
	failures   prometheus.Counter
	duration   prometheus.Histogram
	batch      prometheus.Histogram
	events     *prometheus.CounterVec
	changes    *prometheus.CounterVec
	lag        *prometheus.HistogramVec
	expanded   prometheus.Counter
	held       *prometheus.GaugeVec
}

func newMetrics(r prometheus.Registerer) metrics {
	m := metrics{
		partitions: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "rollcall_worker_partitions", Help: "Partitions of the queue that this worker holds.",
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rollcall_worker_batch_failures_total", Help: "Batches that could not be saved and were tried again.",
		}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "rollcall_fold_duration_seconds", Help: "Time from a decoded batch to its commit.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14),
		}),
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "rollcall_fold_batch_events", Help: "Events new to the ledger in a transaction.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 10),
		}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rollcall_events_total", Help: "Events that entered the ledger, by what came of them.",
		}, []string{"source", "outcome"}),
		changes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rollcall_changes_total", Help: "Changes of accounts, grants, groups and directories.",
		}, []string{"kind"}),
		lag: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "rollcall_event_lag_seconds", Help: "Time from the provider's event to the commit of what it changed.",
			Buckets: []float64{0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 86400},
		}, []string{"source"}),
		expanded: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rollcall_expanded_members_total", Help: "Members evaluated again because their group or directory ended or came back.",
		}),
		held: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "rollcall_directories_held", Help: "Directories that the provider deleted and whose accounts still count, because nobody decided; their leavers are not announced.",
		}, []string{"source"}),
	}
	if r != nil {
		r.MustRegister(m.partitions, m.failures, m.duration, m.batch, m.events, m.changes, m.lag, m.expanded, m.held)
	}
	return m
}

// folded counts what a committed transaction brought into the ledger.
func (m metrics) folded(done saved, took time.Duration, now time.Time) {
	m.duration.Observe(took.Seconds())
	m.batch.Observe(float64(len(done.items)))
	m.changed(done.delta.Changes)
	for _, it := range done.items {
		m.events.WithLabelValues(it.entry.Source, string(it.entry.Outcome)).Inc()
		if it.event != nil {
			m.lag.WithLabelValues(it.entry.Source).Observe(max(now.Sub(it.event.Occurred).Seconds(), 0))
		}
	}
}

func (m metrics) changed(changes []directory.Change) {
	for _, c := range changes {
		m.changes.WithLabelValues(string(c.Kind)).Inc()
	}
}
