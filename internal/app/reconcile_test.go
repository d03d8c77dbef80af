package app

import (
	"bytes"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/internal/config"
	"github.com/rollcallhq/rollcall/internal/reconcile"
	"github.com/rollcallhq/rollcall/internal/simulator"
	"github.com/rollcallhq/rollcall/internal/store"
)

func TestAProcessWithAKeyComparesItsDirectoriesByItself(t *testing.T) {
	t.Parallel()
	world := simulator.NewWorld(simulator.WorldConfig{Seed: 1, Now: time.Now})
	one, two := world.FirstSync(30, 4, 2), world.FirstSync(3, 1, 1)
	provider := httptest.NewServer(simulator.NewAPI(world, simulator.APIConfig{Key: "sk_key", Unlimited: true}))
	t.Cleanup(provider.Close)
	c := testConfig(t)
	amend(&c, func(s *config.Source) {
		s.API = config.API{Key: write(t, "key", "sk_key"), URL: provider.URL}
		s.Poll.Enabled = "false" // the listing alone
		s.Reconcile = config.Reconcile{Enabled: true, Every: time.Hour, Guard: config.Guard{Accounts: 50, Percent: 10, Floor: 5}}
	})
	p := run(t, c).ready()
	s := p.app.store.wait(t.Context())
	truly := func() bool {
		dump, err := s.Dump(t.Context())
		return err == nil && len(world.Truth().Diff(dump)) == 0
	}
	until(t, "both directories are compared", func() bool {
		runs, err := s.Runs(t.Context(), store.RunFilter{Complete: true})
		return err == nil && len(runs) == 2
	})
	until(t, "everybody is there, though nothing was ever sent", truly)

	world.Leave(world.Active(one)[0])
	world.Hire(two, world.Groups(two)[0])
	world.Rename(world.Active(one)[1], "Somebody-Else")
	api, done, err := OpenAPI(t.Context(), c, "workos")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = done() })
	for _, id := range []string{one, two} {
		var file bytes.Buffer
		var kinds []store.DriftKind
		_, plan, err := NewReconciler(c, "workos", api, s).Plan(t.Context(), id, &file, func(it reconcile.Item) error {
			kinds = append(kinds, it.Kind)
			return nil
		})
		want := map[string][]store.DriftKind{one: {store.ShouldBeInactive, store.Attributes}, two: {store.MissingAccount, store.MissingMembership}}[id]
		if err != nil || !slices.Equal(kinds, want) {
			t.Fatalf("Plan() = %q, %v, want %q", kinds, err, want)
		}
		if _, err := reconcile.Apply(t.Context(), s, plan, &file, reconcile.Approval{By: "olga", Reason: "looked at it"}, time.Now()); err != nil {
			t.Fatalf("Apply() = %v", err)
		}
	}
	until(t, "what was approved is folded", truly)
	if err := p.end(); err != nil {
		t.Error(err)
	}
}

func TestAProcessThatIsToldNotToComparesNothing(t *testing.T) {
	t.Parallel()
	c := testConfig(t)
	amend(&c, func(s *config.Source) { s.API = config.API{Key: write(t, "key", "sk_key"), URL: "http://127.0.0.1:1"} })
	p := run(t, c).ready()
	if p.app.reconciles() {
		t.Error("it compares directories")
	}
	c = testConfig(t)
	amend(&c, func(s *config.Source) {
		s.API, s.Reconcile = config.API{Key: write(t, "key", "sk_key"), URL: "http://127.0.0.1:1"}, config.Reconcile{Enabled: true, Every: time.Hour}
	})
	if p := run(t, c).ready(); !p.app.reconciles() {
		t.Error("it compares no directories though it is told to")
	}
}
