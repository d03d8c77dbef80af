package binder

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcallhq/rollcall/internal/store"
)

type metrics struct {
	done     *prometheus.CounterVec
	failed   *prometheus.CounterVec
	waiting  *prometheus.GaugeVec
	oldest   *prometheus.GaugeVec
	broken   prometheus.Gauge
	failing  *prometheus.GaugeVec
	held     prometheus.Gauge
	spared   prometheus.Gauge
	findings *prometheus.GaugeVec
	lag      *prometheus.HistogramVec
}

func newMetrics(r prometheus.Registerer) metrics {
	m := metrics{
		done: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rollcall_changes_bound_total", Help: "Changes that are done, by the way to the application and what came of them.",
		}, []string{"track", "result"}),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rollcall_changes_failed_total", Help: "Attempts at a change that failed and are made again.",
		}, []string{"track"}),
		waiting: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "rollcall_changes_waiting", Help: "Changes of directories that enforce which the application was not told of yet.",
		}, []string{"track"}),
		oldest: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "rollcall_changes_oldest_seconds", Help: "Age of the oldest change that waits.",
		}, []string{"track"}),
		broken: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "rollcall_bindings_broken", Help: "Bindings that the application's database does not take: no change takes effect by them.",
		}),
		failing: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "rollcall_binding_failures", Help: "Failures of each binding in this process since it worked last.",
		}, []string{"binding"}),
		held: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "rollcall_links_held", Help: "Accounts whose changes wait because it is not known which of the application's users they are.",
		}),
		spared: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "rollcall_accounts_spared", Help: "Accounts whose directory ended and that keep their access, because the application protects them.",
		}),
		findings: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "rollcall_probe_findings", Help: "Accounts that left, by whether a probe found something left, or could not look.",
		}, []string{"verdict"}),
		lag: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "rollcall_bind_lag_seconds", Help: "Time from the commit of a change to its taking effect in the application.",
			Buckets: []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600},
		}, []string{"track"}),
	}
	if r != nil {
		r.MustRegister(m.done, m.failed, m.waiting, m.oldest, m.broken, m.failing, m.held, m.spared, m.findings, m.lag)
	}
	return m
}

// bound counts a change that is done.
func (m metrics) bound(track store.Track, d settled, now time.Time) {
	m.done.WithLabelValues(string(track), d.Result).Inc()
	if d.Result == store.ResultBound {
		m.lag.WithLabelValues(string(track)).Observe(max(now.Sub(d.change.At).Seconds(), 0))
	}
}

const gaugesEvery = 15 * time.Second

// measure counts what waits, what is held and what was found.
func (b *Binder) measure(ctx context.Context) error {
	broken := 0
	for _, s := range b.Status() {
		b.metrics.failing.WithLabelValues(s.Name).Set(float64(s.Failures))
		if s.State == StateBroken {
			broken++
		}
	}
	b.metrics.broken.Set(float64(broken))
	backlog, err := b.Store.Backlog(ctx)
	if err != nil {
		return err
	}
	for _, track := range []store.Track{store.Bound, store.Posted} {
		age := 0.0
		if oldest := backlog.Oldest[track]; !oldest.IsZero() {
			age = max(b.Now().Sub(oldest).Seconds(), 0)
		}
		b.metrics.waiting.WithLabelValues(string(track)).Set(float64(backlog.Waiting[track]))
		b.metrics.oldest.WithLabelValues(string(track)).Set(age)
	}
	b.metrics.held.Set(float64(backlog.Held))
	return b.measureFindings(ctx)
}

// measureFindings counts accounts by the worst that a probe says of them.
func (b *Binder) measureFindings(ctx context.Context) error {
	count, err := b.Store.Findings(ctx, b.probeNames())
	if err != nil {
		return err
	}
	b.metrics.findings.WithLabelValues(Dirty).Set(float64(count[Dirty]))
	b.metrics.findings.WithLabelValues(Unknown).Set(float64(count[Unknown]))
	return nil
}
