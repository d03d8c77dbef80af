package handlers

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// unknownSource is the label of all requests that are no source's: a path is never a label.
const unknownSource = "unknown"

type metrics struct {
	deliveries *prometheus.CounterVec
	failures   *prometheus.CounterVec
	keys       *prometheus.CounterVec
	duration   *prometheus.HistogramVec
	bytes      prometheus.Histogram
}

// sourceMetrics are a source's own, found once, and there from the start: an alert compares with zero, not with nothing.
type sourceMetrics struct {
	outcomes map[string]prometheus.Counter
	failures map[string]prometheus.Counter
	current  prometheus.Counter
	previous prometheus.Counter
	duration prometheus.Observer
}

func newMetrics(r prometheus.Registerer, inFlight func() float64) metrics {
	m := metrics{
		deliveries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rollcall_deliveries_total", Help: "Requests of senders, by what came of them.",
		}, []string{"source", "outcome"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rollcall_signature_failures_total", Help: "Deliveries refused for their signature; stale and future ones were validly signed.",
		}, []string{"source", "reason"}),
		keys: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rollcall_key_verifications_total", Help: "Deliveries verified, by whether the current key or a previous one signed them.",
		}, []string{"source", "version"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "rollcall_delivery_duration_seconds", Help: "Time from a delivery's headers to its answer.",
			Buckets: []float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10},
		}, []string{"source"}),
		bytes: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "rollcall_delivery_bytes", Help: "Size of the bodies that were read whole.",
			Buckets: prometheus.ExponentialBuckets(256, 4, 7),
		}),
	}
	if r != nil {
		r.MustRegister(m.deliveries, m.failures, m.keys, m.duration, m.bytes, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "rollcall_inflight_deliveries", Help: "Deliveries being taken now.",
		}, inFlight))
	}
	return m
}

// of returns the metrics of a configured source.
func (m metrics) of(name string) sourceMetrics {
	s := sourceMetrics{outcomes: map[string]prometheus.Counter{}, failures: map[string]prometheus.Counter{}}
	for _, outcome := range []string{"accepted", "duplicate"} {
		s.outcomes[outcome] = m.deliveries.WithLabelValues(name, outcome)
	}
	for _, r := range refusals {
		if !errors.Is(r.err, errUnknownSource) {
			s.outcomes[r.outcome] = m.deliveries.WithLabelValues(name, r.outcome)
		}
	}
	for _, reason := range []string{"missing", "malformed", "mismatch", "stale", "future"} {
		s.failures[reason] = m.failures.WithLabelValues(name, reason)
	}
	s.current, s.previous = m.keys.WithLabelValues(name, "current"), m.keys.WithLabelValues(name, "previous")
	s.duration = m.duration.WithLabelValues(name)
	return s
}

// ofUnknown returns the metrics of what is no source's.
func (m metrics) ofUnknown() sourceMetrics {
	s := sourceMetrics{outcomes: map[string]prometheus.Counter{}, duration: m.duration.WithLabelValues(unknownSource)}
	for _, outcome := range []string{"unknown_source", "method", "failed"} {
		s.outcomes[outcome] = m.deliveries.WithLabelValues(unknownSource, outcome)
	}
	return s
}

func (s sourceMetrics) count(d *delivery, took time.Duration) {
	s.outcomes[d.outcome.outcome].Inc()
	s.duration.Observe(took.Seconds())
	if failure, ok := s.failures[d.outcome.outcome]; ok {
		failure.Inc()
	}
	switch {
	case !d.verified:
	case d.proof.KeyIndex == 0:
		s.current.Inc()
	default:
		s.previous.Inc()
	}
}
