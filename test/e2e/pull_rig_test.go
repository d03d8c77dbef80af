package e2e

import (
	"fmt"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/internal/simulator"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/test/rig"
)

// pulled is a site whose workers read what a simulated provider tells, once a second. They compare no directory unless a test lets them,
// because that would make up for what the log did not bring.
type pulled struct {
	*rig.Site
	world *simulator.World
	api   *simulator.API
}

const (
	providersKey = "sk_of_the_provider_9d31c7"
	withoutHooks = "sources.workos.secret="                   // nothing comes but what is read
	comparing    = "sources.workos.reconcile.enabled=true"    // for a process that compares directories
	notComparing = "sources.workos.reconcile.enabled=false"   // for all others
	workerAlone  = "worker"                                   // the role of a process without an endpoint
	pollEvery    = "sources.workos.poll.every=1s"             // the least
	keyReference = "sources.workos.api.key=env:PROVIDERS_KEY" // where processes find the key
)

func newPulled(t *testing.T, world *simulator.World, o rig.Options) *pulled {
	t.Helper()
	p := &pulled{world: world, api: simulator.NewAPI(world, simulator.APIConfig{Key: providersKey})}
	server := httptest.NewServer(p.api)
	t.Cleanup(server.Close)
	o.Set = slices.Concat([]string{keyReference, "sources.workos.api.url=" + server.URL, pollEvery, notComparing}, o.Set)
	o.Env = append(o.Env, "PROVIDERS_KEY="+providersKey)
	p.Site = rig.New(t, o)
	return p
}

// told is the log so far.
func (p *pulled) told() []simulator.Delivery { return slices.Collect(p.world.Deliveries(0)) }

// converges waits until the ledger holds the whole log, and checks that it does each event once, and that the database is what the
// provider is. It waits as long as the ledger grows.
func (p *pulled) converges(t *testing.T) {
	t.Helper()
	for at := p.Ledger(t); at < p.world.Events(); at = p.Ledger(t) {
		rig.Until(t, fmt.Sprintf("more than %d of %d events in the ledger", at, p.world.Events()), func() bool { return p.Ledger(t) > at })
	}
	mustHold(t, p.Site, p.world.Truth(), p.told())
}

// reads waits until the source's log was read to its end after this call.
func (p *pulled) reads(t *testing.T) {
	t.Helper()
	before := p.poll(t).CaughtUp
	rig.Until(t, "the log is read to its end", func() bool { return p.poll(t).CaughtUp.After(before) })
}

// poll is how far the log is read; all of it is zero while it never was.
func (p *pulled) poll(t *testing.T) store.Poll {
	t.Helper()
	polls, err := p.Store.Polls(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(polls) == 0 {
		return store.Poll{}
	}
	return polls[0]
}

// plays lets what happens in so many days happen within a time, and then calls done, unless the test ends before.
func plays(t *testing.T, traffic *simulator.Traffic, days int, within time.Duration, done func()) {
	t.Helper()
	ended := make(chan struct{})
	begun, pace := time.Now(), time.Duration(days)*24*time.Hour/within
	go func() {
		defer close(ended)
		defer done()
		for at, more := traffic.Next(); more; at, more = traffic.Next() {
			timer := time.NewTimer(time.Until(begun.Add(at / pace)))
			select {
			case <-timer.C:
				traffic.Step()
			case <-t.Context().Done():
				timer.Stop()
				return
			}
		}
	}()
	t.Cleanup(func() { <-ended })
}
