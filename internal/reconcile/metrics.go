package reconcile

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcallhq/rollcall/internal/store"
)

// Metrics are what comparing directories counts. A nil one counts nothing.
type Metrics struct {
	runs     *prometheus.CounterVec
	drift    *prometheus.CounterVec
	open     *prometheus.GaugeVec
	complete *prometheus.GaugeVec
}

// NewMetrics makes them, for all sources of a process. A nil registerer registers nothing.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rollcall_reconcile_runs_total", Help: "Comparisons of a directory with its own listing, by whether the listing was complete.",
		}, []string{"source", "complete"}),
		drift: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rollcall_reconcile_drift_total", Help: "Differences that comparisons found, by kind and by what came of them: repaired, asked, held.",
		}, []string{"source", "kind", "result"}),
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "rollcall_reconcile_open", Help: "Differences that wait for somebody's approval, as each directory's last complete comparison found them.",
		}, []string{"source"}),
		complete: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "rollcall_reconcile_oldest_complete_timestamp_seconds", Help: "When the directory that was longest not compared wholly was so last; 0 when one never was.",
		}, []string{"source"}),
	}
	if r != nil {
		r.MustRegister(m.runs, m.drift, m.open, m.complete)
	}
	return m
}

// ran counts a run.
func (m *Metrics) ran(r store.Run) {
	if m == nil {
		return
	}
	complete := "no"
	if r.Complete {
		complete = "yes"
	}
	m.runs.WithLabelValues(r.Source, complete).Inc()
	for kind, c := range r.Kinds {
		for result, n := range map[string]int64{"repaired": c.Repaired, "asked": c.Asked, "held": c.Held} {
			m.drift.WithLabelValues(r.Source, string(kind), result).Add(float64(n))
		}
	}
}

// stands says how a source stands, by its directories' last runs.
func (m *Metrics) stands(source string, open int64, oldest float64) {
	if m == nil {
		return
	}
	m.open.WithLabelValues(source).Set(float64(open))
	m.complete.WithLabelValues(source).Set(oldest)
}
