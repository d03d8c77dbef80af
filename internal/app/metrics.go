package app

import (
	"context"
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcallhq/rollcall/queue"
)

func buildInfo(version string) prometheus.Collector {
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "rollcall_build_info", Help: "1, with what was built.",
		ConstLabels: prometheus.Labels{"version": version, "go": runtime.Version()},
	})
	g.Set(1)
	return g
}

// queueCollector asks the queue at every scrape. A queue that does not answer gives rollcall_queue_up 0 and no numbers.
type queueCollector struct {
	queue  queue.Queue
	up     *prometheus.Desc
	depth  *prometheus.Desc
	leased *prometheus.Desc
	oldest *prometheus.Desc
}

const scrapeWithin = time.Second

func newQueueCollector(q queue.Queue) queueCollector {
	return queueCollector{
		queue:  q,
		up:     prometheus.NewDesc("rollcall_queue_up", "1 when the queue answered.", nil, nil),
		depth:  prometheus.NewDesc("rollcall_queue_depth", "Deliveries that wait in a partition.", []string{"partition"}, nil),
		leased: prometheus.NewDesc("rollcall_queue_leased", "1 when a worker has the partition.", []string{"partition"}, nil),
		oldest: prometheus.NewDesc("rollcall_queue_oldest_age_seconds", "Age of the oldest delivery that waits; 0 when none does.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (c queueCollector) Describe(out chan<- *prometheus.Desc) {
	out <- c.up
	out <- c.depth
	out <- c.leased
	out <- c.oldest
}

// Collect implements prometheus.Collector.
func (c queueCollector) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	ctx, cancel := context.WithTimeout(context.Background(), scrapeWithin)
	defer cancel()
	stats, err := c.queue.Stats(ctx)
	if err != nil {
		gauge(c.up, 0)
		return
	}
	gauge(c.up, 1)
	for n, p := range stats.Partitions {
		gauge(c.depth, float64(p.Depth), strconv.Itoa(n))
		leased := 0.0
		if p.Leased {
			leased = 1
		}
		gauge(c.leased, leased, strconv.Itoa(n))
	}
	age := 0.0
	if oldest := stats.Oldest(); !oldest.IsZero() {
		age = max(time.Since(oldest).Seconds(), 0)
	}
	gauge(c.oldest, age)
}
