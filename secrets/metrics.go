package secrets

import (
	"errors"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// outcome is what came of a refresh, as a metric's label. The values are few and fixed.
type outcome string

var outcomes = []struct {
	err  error
	name outcome
}{
	{ErrNoCurrent, "no_current"}, {ErrDeleted, "deleted"}, {ErrEmpty, "empty"}, {ErrMissing, "missing"}, {ErrDenied, "denied"},
	{ErrSealed, "sealed"}, {ErrThrottled, "throttled"}, {ErrUnreachable, "unreachable"},
}

func outcomeOf(err error) outcome {
	if err == nil {
		return "ok"
	}
	for _, o := range outcomes {
		if errors.Is(err, o.err) {
			return o.name
		}
	}
	return "failed"
}

type metrics struct {
	refreshes *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer, k *Keyring) metrics {
	m := metrics{refreshes: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "rollcall_secret_refreshes_total", Help: "Reads of secrets, by what came of them.",
	}, []string{"source", "result"})}
	collectors := []prometheus.Collector{m.refreshes}
	for _, name := range k.names {
		m.refreshes.WithLabelValues(name, "ok")
		for _, o := range outcomes {
			m.refreshes.WithLabelValues(name, string(o.name))
		}
		m.refreshes.WithLabelValues(name, "failed")
		collectors = append(collectors, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "rollcall_keyring_age_seconds", Help: "Time since the secret was read, or waited for when it never was.",
			ConstLabels: prometheus.Labels{"source": name},
		}, func() float64 { return k.Age(name).Seconds() }), prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "rollcall_secret_created_timestamp_seconds", Help: "When the newest version of the secret was written; 0 when it is not known.",
			ConstLabels: prometheus.Labels{"source": name},
		}, func() float64 { return k.created(name) }))
	}
	if k.session != nil {
		collectors = slices.Concat(collectors, k.session.collectors())
	}
	if r != nil {
		r.MustRegister(collectors...)
	}
	return m
}

func (m metrics) refreshed(name string, o outcome) {
	m.refreshes.WithLabelValues(name, string(o)).Inc()
}
