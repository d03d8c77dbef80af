package handlers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// probeWithin bounds each check of a readiness request.
const probeWithin = time.Second

// Check is one thing that readiness looks at.
type Check struct {
	Name string

	// Local says that this process alone is concerned. Only local checks make it unready: were a shared outage to do so,
	// the load balancer would have nobody left, and senders would get an error that nobody retries.
	Local bool

	// Probe returns what is wrong, or nil. It returns soon after its context ends, and may be called by many at once.
	Probe func(ctx context.Context) error
}

// What an answer to the operator's machinery says of whose process it is. The public listener says nothing of it.
const (
	EnvironmentHeader = "Rollcall-Environment"
	ConfigHeader      = "Rollcall-Config" // the configuration's digest
)

// Ops answers the operator's machinery: /livez, /readyz, /metrics. It is an http.Handler.
type Ops struct {
	Environment, Config string // said in every answer; set before the first, if at all

	echo     *echo.Echo
	checks   []Check
	draining atomic.Bool
}

// NewOps takes what readiness looks at, besides draining, and where the metrics are.
func NewOps(checks []Check, metrics prometheus.Gatherer) *Ops {
	o := &Ops{echo: newEcho()}
	o.checks = append([]Check{{Name: "not draining", Local: true, Probe: o.probeDraining}}, checks...)
	problemsOf(o.echo)
	o.echo.GET("/livez", func(c echo.Context) error { return c.String(http.StatusOK, "ok\n") })
	o.echo.GET("/readyz", o.readyz)
	o.echo.GET("/metrics", echo.WrapHandler(promhttp.HandlerFor(metrics, promhttp.HandlerOpts{
		MaxRequestsInFlight: 4, Timeout: 10 * time.Second,
	})))
	return o
}

// ServeHTTP implements http.Handler.
func (o *Ops) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	for header, value := range map[string]string{EnvironmentHeader: o.Environment, ConfigHeader: o.Config} {
		if value != "" {
			w.Header().Set(header, value)
		}
	}
	o.echo.ServeHTTP(w, req)
}

// Drain makes the process unready for good.
func (o *Ops) Drain() { o.draining.Store(true) }

func (o *Ops) probeDraining(context.Context) error {
	if o.draining.Load() {
		return errors.New("the process is stopping")
	}
	return nil
}

// Ready reports whether the local checks pass: the answer of /readyz, for whoever is in the process.
func (o *Ops) Ready(ctx context.Context) error {
	var failed []error
	checks := o.local()
	for i, err := range probe(ctx, checks) {
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", checks[i].Name, err))
		}
	}
	return errors.Join(failed...)
}

func (o *Ops) local() []Check {
	var local []Check
	for _, check := range o.checks {
		if check.Local {
			local = append(local, check)
		}
	}
	return local
}

// readyz answers 200 or 503 by the local checks. With ?verbose it runs the shared ones too, and prints a line for each.
func (o *Ops) readyz(c echo.Context) error {
	_, verbose := c.QueryParams()["verbose"]
	checks := o.checks
	if !verbose {
		checks = o.local()
	}
	status, head := http.StatusOK, "ready\n"
	var lines strings.Builder
	for i, err := range probe(c.Request().Context(), checks) {
		if err != nil && checks[i].Local {
			status, head = http.StatusServiceUnavailable, "not ready\n"
		}
		lines.WriteString(checks[i].line(err))
	}
	if verbose {
		head += lines.String()
	}
	c.Response().Header().Set("Cache-Control", "no-store")
	return c.String(status, head)
}

// line is "name ok" or "name failed: what is wrong".
func (c Check) line(err error) string {
	scope := ""
	if !c.Local {
		scope = " (shared)"
	}
	if err == nil {
		return fmt.Sprintf("%s%s ok\n", c.Name, scope)
	}
	return fmt.Sprintf("%s%s failed: %s\n", c.Name, scope, strings.ReplaceAll(err.Error(), "\n", "\n  "))
}

// probe runs the checks side by side and returns their results in order.
func probe(ctx context.Context, checks []Check) []error {
	ctx, cancel := context.WithTimeout(ctx, probeWithin)
	defer cancel()
	results := make([]error, len(checks))
	var running sync.WaitGroup
	for i, check := range checks {
		running.Go(func() { results[i] = check.Probe(ctx) })
	}
	running.Wait()
	return results
}
