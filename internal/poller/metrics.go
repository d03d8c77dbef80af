package poller

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcallhq/rollcall/internal/store"
)

// metrics are those of one source. How far the log is read is told by the process that polls, and by no other.
type metrics struct {
	missed   prometheus.Counter
	restarts prometheus.Counter
	pages    prometheus.Counter
	errors   *prometheus.CounterVec
	events   *prometheus.CounterVec

	active, up, lag, watermark *prometheus.Desc

	mu      sync.Mutex // guards what follows
	polls   bool
	well    bool
	behind  time.Time // when all that the log told was in the ledger last, by our monotonic clock
	through time.Time // the watermark
}

func newMetrics(source string, r prometheus.Registerer) *metrics {
	desc := func(name, help string) *prometheus.Desc { return prometheus.NewDesc(name, help, nil, nil) }
	m := &metrics{
		missed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rollcall_poll_webhooks_missed_total", Help: "Events whose webhook had not come when the provider's log told of them.",
		}),
		restarts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rollcall_poll_restarts_total", Help: "Cursors that the provider no longer knew, so that its log was read again from the oldest that it keeps.",
		}),
		pages: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rollcall_poll_pages_total", Help: "Pages of the provider's log that were read.",
		}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rollcall_poll_errors_total", Help: "Polls that did not go well, by why.",
		}, []string{"reason"}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rollcall_poll_events_total", Help: "Events of the log: known to the ledger, queued, seen by the queue before, or forced into it because the ledger lacks what the queue has seen.",
		}, []string{"what"}),
		active:    desc("rollcall_poll_active", "1 in the process that polls the source."),
		up:        desc("rollcall_poll_up", "1 when the last poll went well."),
		lag:       desc("rollcall_poll_lag_seconds", "Time since all that the provider's log told was in the ledger."),
		watermark: desc("rollcall_poll_watermark_timestamp_seconds", "The provider's time of the newest event that the ledger is known to hold with all before it."),
	}
	if r != nil {
		prometheus.WrapRegistererWith(prometheus.Labels{"source": source}, r).MustRegister(m.missed, m.restarts, m.pages, m.errors, m.events, m)
	}
	return m
}

// begin is called when this process polls from there on, end when it does no more.
func (m *metrics) begin(at store.Poll) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.polls, m.well, m.through = true, at.Error == "", at.Watermark
	if last := kept(at.CaughtUp, at.Started); !last.IsZero() {
		m.behind = time.Now().Add(min(0, last.Sub(at.Now)))
	} else {
		m.behind = time.Now()
	}
}

// kept is the time that was kept, or else the other.
func kept(t, other time.Time) time.Time {
	if t.IsZero() {
		return other
	}
	return t
}

func (m *metrics) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.polls = false
}

// moved is called with how far the log is read, and whether that went well.
func (m *metrics) moved(at store.Poll, well bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.through, m.well = at.Watermark, well
}

// caughtUp is called when all that the log told is in the ledger.
func (m *metrics) caughtUp() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.behind = time.Now()
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.active, m.up, m.lag, m.watermark} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(out chan<- prometheus.Metric) {
	m.mu.Lock()
	defer m.mu.Unlock()
	gauge := func(d *prometheus.Desc, value float64) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value)
	}
	gauge(m.active, number(m.polls))
	if !m.polls {
		return
	}
	gauge(m.up, number(m.well))
	gauge(m.lag, time.Since(m.behind).Seconds())
	if !m.through.IsZero() {
		gauge(m.watermark, float64(m.through.UnixMicro())/1e6)
	}
}

func number(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
