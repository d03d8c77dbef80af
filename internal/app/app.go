// Package app builds a Rollcall process from its configuration, runs it, and stops it in order. It alone opens outside
// services: the listeners, the queue, the database, the Vault.
package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/rs/zerolog"

	"github.com/rollcallhq/rollcall/handlers"
	"github.com/rollcallhq/rollcall/handlers/admin"
	"github.com/rollcallhq/rollcall/internal/binder"
	"github.com/rollcallhq/rollcall/internal/config"
	"github.com/rollcallhq/rollcall/internal/poller"
	"github.com/rollcallhq/rollcall/internal/provider"
	"github.com/rollcallhq/rollcall/internal/reconcile"
	"github.com/rollcallhq/rollcall/queue"
	"github.com/rollcallhq/rollcall/secrets"
)

// Options is what an App is made of.
type Options struct {
	Config  config.Config
	Version string // of this binary, for the ledger and the metrics
	Log     zerolog.Logger
}

// App is a process that has not begun. Make it with New, run it once.
type App struct {
	config  config.Config
	version string
	log     zerolog.Logger

	registry  *prometheus.Registry
	ring      *secrets.Keyring
	queue     queue.Queue
	password  *latest // of the queue; nil when it has none
	sources   []*source
	apis      map[string]provider.API // by source, of a worker
	gate      *gate
	store     *storeHandle
	binder    atomic.Pointer[binder.Binder]             // once it was made
	pollers   atomic.Pointer[map[string]*poller.Poller] // once they were made, by source
	ops       *handlers.Ops
	servers   *handlers.Servers
	schedules atomic.Pointer[map[string]*reconcile.Schedule] // by source, once they were made
}

// A process whose Vault is down starts unready, and says so after a while.
const (
	firstKeys      = 5 * time.Second
	firstKeysEvery = 100 * time.Millisecond
)

// New builds everything and opens what is local: files and listeners. Redis, PostgreSQL and Vault may be down; the
// process then starts and says so. A database that answers and is not one to work on is refused before anything listens.
// Its errors say what to do.
func New(ctx context.Context, o Options) (*App, error) {
	a := &App{config: o.Config, version: o.Version, log: o.Log, registry: prometheus.NewRegistry()}
	a.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), buildInfo(o.Version))
	if err := a.build(ctx); err != nil {
		return nil, errors.Join(err, a.close())
	}
	return a, nil
}

func (a *App) build(ctx context.Context) (err error) {
	if err := CheckSources(a.config); err != nil {
		return err
	}
	if err := CheckApplication(a.config); err != nil {
		return err
	}
	if a.sources, err = newSources(a.config); err != nil {
		return err
	}
	if a.ring, err = newKeyring(a.config, a.log, a.registry); err != nil {
		return err
	}
	if a.apis, err = a.newAPIs(); err != nil {
		return err
	}
	if err := a.openQueue(ctx); err != nil {
		return err
	}
	a.registry.MustRegister(newQueueCollector(a.queue))
	a.gate = newGate(a.queue, a.config, a.log, a.registry)
	a.store = newStoreHandle()
	if a.config.Has(config.Worker) {
		if err := a.lookAtStore(ctx); err != nil {
			return err
		}
	}
	return a.listen(ctx)
}

// listen builds the listeners and opens them, so that a port that is taken is known before anything runs.
func (a *App) listen(ctx context.Context) error {
	c := a.config.Public
	a.ops = handlers.NewOps(a.checks(), a.registry)
	a.ops.Environment, a.ops.Config = a.config.Environment, a.config.Digest()
	servers := handlers.ServersConfig{
		OpsAddress: a.config.Ops.Address, Ops: a.ops, AdminAddress: a.config.Admin.Address, Admin: admin.New(),
		DrainDelay: c.DrainDelay, Shutdown: c.Shutdown, Log: a.log,
		Timeouts: handlers.Timeouts{ReadHeader: c.ReadHeader, Read: c.Read, Write: c.Write, Idle: c.Idle},
	}
	if a.config.Has(config.Receiver) {
		receiver, err := a.receiver()
		if err != nil {
			return err
		}
		servers.Public, servers.Receiver, servers.PlainHTTP = c.Address, receiver, c.PlainHTTP
		if servers.Certificate, err = certificate(c.TLS, a.log); err != nil {
			return err
		}
	}
	var err error
	if a.servers, err = handlers.NewServers(servers); err != nil {
		return err
	}
	return a.servers.Listen(ctx)
}

func certificate(t config.TLS, log zerolog.Logger) (*handlers.Certificate, error) {
	switch {
	case len(t.SelfSigned) > 0:
		return handlers.SelfSignedCertificate(t.SelfSigned, log)
	case t.Cert != "":
		return handlers.LoadCertificate(t.Cert, t.Key, log)
	default:
		return nil, nil
	}
}

func (a *App) receiver() (*handlers.Receiver, error) {
	var proxies []netip.Prefix
	for _, text := range a.config.Public.TrustedProxies {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("public.trusted_proxies: %w", err)
		}
		proxies = append(proxies, p)
	}
	c := handlers.ReceiverConfig{
		Queue: a.gate, BodyLimit: int64(a.config.Public.BodyLimit), InFlight: a.config.Public.InFlight,
		TrustedProxies: proxies, OnStale: a.poke, Log: a.log, Registerer: a.registry,
	}
	for _, s := range a.sources {
		s.keys, s.suspect = handlers.Keys(a.ring, s.name, s.verifier, a.log), func() { a.ring.Suspect(s.name) }
	}
	c.Sources = received(a.sources)
	return handlers.NewReceiver(c)
}

// Addr returns where "public", "ops" or "admin" listens; nil when it does not.
func (a *App) Addr(listener string) net.Addr { return a.servers.Addr(listener) }

// Ready reports what keeps this process from being ready, or nil.
func (a *App) Ready(ctx context.Context) error { return a.ops.Ready(ctx) }

// Run runs the process until the context ends and returns nil after an orderly end: unready, drained, the batch in hand
// finished, leases given back, everything closed. When a part fails, all are stopped and its error is returned.
func (a *App) Run(ctx context.Context) error {
	parts := []part{{"listeners", a.servers.Run}}
	if a.config.Has(config.Receiver) {
		parts = append(parts, part{"queue's durability", a.gate.run})
	}
	if len(a.polled()) > 0 {
		parts = append(parts, part{"poller", a.poll})
	}
	if a.reconciles() {
		parts = append(parts, part{"reconciler", a.reconcile})
	}
	if a.config.Has(config.Worker) {
		parts = append(parts, part{"worker", a.work})
	}
	if a.config.Binds() {
		parts = append(parts, part{"bindings", a.tell})
	}
	if a.password != nil {
		parts = append(parts, part{"queue's password", func(ctx context.Context) error { return a.password.run(ctx, rereadAfter) }})
	}
	if a.ring != nil {
		parts = append(parts, part{"secrets", a.ring.Run}, part{"first secrets", a.firstKeys})
	}
	err := runInOrder(ctx, a.log, parts)
	return errors.Join(err, a.close())
}

// firstKeys refuses secrets that could not protect, as soon as they can be read, and then only waits for the end. What
// cannot be read yet keeps its source answering 503.
func (a *App) firstKeys(ctx context.Context) error {
	warned := time.NewTimer(firstKeys)
	defer warned.Stop()
	for ready := false; !ready && ctx.Err() == nil; {
		waiting, cancel := context.WithTimeout(ctx, firstKeysEvery)
		ready = a.ring.Wait(waiting) == nil
		cancel()
		if err := a.unusableSecrets(); err != nil {
			return err
		}
		select {
		case <-warned.C:
			a.log.Warn().Err(a.ring.Ready()).Msg("running without all secrets: until they can be read, sources without theirs answer 503, and APIs without theirs are not asked")
		default:
		}
	}
	<-ctx.Done()
	return nil
}

// unusableSecrets returns what is wrong with a secret that waiting does not mend.
func (a *App) unusableSecrets() error {
	for _, s := range a.sources {
		if a.config.Has(config.Receiver) && s.config.Webhooks() {
			if _, err := s.keys(); unusable(s.config.Secret, err) {
				return fmt.Errorf("source %q: %w\nhint: store the signing secret as the sender's console shows it at %s", s.name, err, s.config.Secret)
			}
		}
		if a.apis[s.name] != nil {
			if _, err := a.ring.Current(apiKey(s.name)); unusable(s.config.API.Key, err) {
				return fmt.Errorf("source %q: the API key: %w\nhint: store it as the provider's console shows it at %s", s.name, err, s.config.API.Key)
			}
		}
	}
	return nil
}

func (a *App) close() error {
	errs := []error{a.closeAPIs()}
	if a.queue != nil {
		errs = append(errs, a.queue.Close())
	}
	if a.store != nil {
		errs = append(errs, a.store.close())
	}
	return errors.Join(errs...)
}
