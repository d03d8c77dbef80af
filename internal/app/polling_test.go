package app

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/internal/config"
	"github.com/rollcallhq/rollcall/internal/provider/workos"
	"github.com/rollcallhq/rollcall/internal/simulator"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/testenv"
)

// played is a provider of a few people whose API can be asked, and nobody's webhooks come.
func played(t testing.TB, c *config.Config) (*simulator.World, *simulator.API) {
	t.Helper()
	world := simulator.NewWorld(simulator.WorldConfig{Seed: 7, Now: time.Now})
	api := simulator.NewAPI(world, simulator.APIConfig{Key: "sk_played", Unlimited: true})
	server := httptest.NewServer(api)
	t.Cleanup(server.Close)
	amend(c, func(s *config.Source) {
		s.API = config.API{Key: write(t, "api-key", "sk_played"), URL: server.URL}
		s.Poll.Every = time.Second
	})
	return world, api
}

// follows waits until the process knows of the people what the world does.
func (p *process) follows(world *simulator.World) {
	p.t.Helper()
	var diff []string
	p.t.Cleanup(func() {
		if p.t.Failed() {
			p.t.Logf("of the provider's people differ: %q", diff)
		}
	})
	until(p.t, "the accounts are those of the provider", func() bool {
		s := p.app.store.get()
		if s == nil {
			return false
		}
		dump, err := s.Dump(p.t.Context())
		diff = world.Truth().Diff(dump)
		return err == nil && len(diff) == 0
	})
}

func TestPollingAloneFollowsAProvider(t *testing.T) {
	t.Parallel()
	for name, roles := range map[string][]string{"worker and receiver": {config.Receiver, config.Worker}, "a worker alone": {config.Worker}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := testConfig(t)
			c.Roles = roles
			world, _ := played(t, &c)
			amend(&c, func(s *config.Source) { s.Secret = "" })
			of := world.FirstSync(30, 4, 60)
			p := run(t, c).ready()
			p.follows(world)
			gone := world.Hire(of)
			p.follows(world)
			world.Leave(gone)
			p.follows(world)

			until(t, "all is well", func() bool { return p.app.pollFares(t.Context(), "workos") == nil })
			if _, text := p.get("/readyz?verbose"); !strings.Contains(text, "log of workos") {
				t.Errorf("readiness does not tell of the log:\n%s", text)
			}
			_, text := p.get("/metrics")
			wants(t, "the metrics", text, `rollcall_poll_active{source="workos"} 1`, `rollcall_poll_up{source="workos"} 1`, `rollcall_poll_lag_seconds{source="workos"} `,
				`rollcall_poll_watermark_timestamp_seconds{source="workos"} `, `rollcall_poll_webhooks_missed_total{source="workos"} 0`)
			if roles[0] == config.Receiver {
				res, err := http.Post("http://"+p.app.Addr("public").String()+"/webhooks/workos", "application/json", strings.NewReader("{}"))
				if err != nil || res.Body.Close() != nil || res.StatusCode != http.StatusNotFound {
					t.Errorf("a webhook of a source that has none: %v, %v, want 404", res, err)
				}
			}
			i := slices.IndexFunc(Doctor(t.Context(), c, "v0"), func(f Finding) bool { return f.Name == "log of workos" && f.Err == nil && f.Detail != "" })
			if i < 0 {
				t.Error("the doctor says nothing good of the log")
			}
			if err := p.end(); err != nil {
				t.Errorf("Run() = %v", err)
			}
		})
	}
}

func TestARefusedKeyShowsAndKeepsNobodyUnready(t *testing.T) {
	t.Parallel()
	c := testConfig(t)
	world, api := played(t, &c)
	world.FirstSync(3, 1, 3)
	api.Change(func(a *simulator.APIConfig) { a.Key = "sk_other" })
	p := run(t, c).ready()
	until(t, "it shows", func() bool { _, text := p.get("/readyz?verbose"); return strings.Contains(text, "refuses the API key") })
	if status, _ := p.get("/readyz"); status != http.StatusOK {
		t.Errorf("/readyz is %d, want 200: webhooks are still taken", status)
	}
	_, text := p.get("/metrics")
	wants(t, "the metrics", text, `rollcall_poll_up{source="workos"} 0`, `rollcall_poll_errors_total{reason="unauthorized",source="workos"} `)
	findings := Doctor(t.Context(), c, "v0")
	if !slices.ContainsFunc(findings, func(f Finding) bool {
		return f.Name == "log of workos" && f.Err != nil && strings.Contains(f.Err.Error(), "\nhint: ")
	}) {
		t.Errorf("the doctor finds nothing of the log: %v", findings)
	}
}

func TestAStaleDeliveryHasTheLogReadAtOnce(t *testing.T) {
	t.Parallel()
	c := testConfig(t)
	world, api := played(t, &c)
	amend(&c, func(s *config.Source) { s.Poll.Every = time.Hour })
	of := world.FirstSync(3, 1, 3)
	p := run(t, c).ready()
	p.follows(world)
	until(t, "it waits for an hour", func() bool { return p.app.pollFares(t.Context(), "workos") == nil && api.Stats().Events > 0 })
	world.Hire(of)
	body, _, err := workos.Sample("dsync.user.created", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the accounts are those of the provider", func() bool {
		if status := p.post(body, time.Now().Add(-time.Hour)).StatusCode; status != http.StatusUnauthorized {
			t.Fatalf("a stale delivery is answered %d, want 401", status)
		}
		dump, err := p.app.store.get().Dump(context.WithoutCancel(t.Context()))
		return err == nil && len(world.Truth().Diff(dump)) == 0
	})
}

func TestASourceThatIsPolledMayQueueLessDurably(t *testing.T) {
	t.Parallel()
	c := withRedis(t, testenv.Redis(t, "appendonly no"))
	world, _ := played(t, &c)
	world.FirstSync(3, 1, 3)
	p := run(t, c).ready()
	p.follows(world)
	p.accept("dsync.user.created")

	off := c
	amend(&off, func(s *config.Source) { s.Poll.Enabled = config.No })
	wants(t, "not polled", refusal(t, off), "deliveries of workos that were answered 200 could be lost")
}

func TestACursorThatTheProviderForgotStartsAgainAndShows(t *testing.T) {
	t.Parallel()
	c := testConfig(t)
	world, _ := played(t, &c)
	of := world.FirstSync(3, 1, 3)
	p := run(t, c).ready()
	p.follows(world)
	if err := p.app.store.get().RewindPoll(t.Context(), "workos", store.PollCursor{After: "event_forgotten"}, "ops"); err != nil {
		t.Fatal(err)
	}
	world.Hire(of)
	p.follows(world)
	if found, err := pollOf(t.Context(), p.app.store.get(), "workos"); err != nil || found.Restarts != 1 || found.RestartedFrom.After != "event_forgotten" {
		t.Errorf("the poll is %+v, %v, want one restart from event_forgotten", found, err)
	}
	_, text := p.get("/metrics")
	wants(t, "the metrics", text, `rollcall_poll_restarts_total{source="workos"} 1`)
	wants(t, "the log", p.log.String(), "the provider no longer knows the cursor; its log is read again")
}
