package simulator_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/internal/provider"
	"github.com/rollcallhq/rollcall/internal/provider/workos"
	"github.com/rollcallhq/rollcall/internal/simulator"
)

// clientOf is the client of an API, without a network. A connection that ends in a page is an error.
func clientOf(t *testing.T, api *simulator.API) *workos.Client {
	t.Helper()
	client, err := workos.NewClient(provider.APIConfig{
		URL: "http://127.0.0.1:1", Key: func() (string, error) { return apiKey, nil }, Options: provider.Options{Source: "workos"},
		HTTP: &http.Client{Transport: transport(func(r *http.Request) (response *http.Response, err error) {
			defer func() {
				if recover() != nil {
					err = errors.New("the connection ended")
				}
			}()
			recorder := httptest.NewRecorder()
			api.ServeHTTP(recorder, r)
			return recorder.Result(), nil
		})},
	})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// troubled is a world of its own time after a first sync and some traffic, and an API of it with trouble.
func troubled(seed uint64) (*simulator.World, *simulator.API) {
	w := simulator.NewWorld(simulator.WorldConfig{Seed: seed, Now: time.Now, Leavers: simulator.StyleInactive, Double: 0.05})
	w.FirstSync(450, 6, 3)
	for traffic := simulator.NewTraffic(w, 30, 10, seed); traffic.Done() < traffic.Len(); traffic.Step() {
		time.Sleep(30 * 24 * time.Hour / 300)
	}
	return w, simulator.NewAPI(w, simulator.APIConfig{Key: apiKey, Lag: 4 * time.Second, Trouble: 0.05, Seed: seed})
}

func TestTheClientReadsTheWholeLogOfATroubledAPI(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, api := troubled(1)
		client := clientOf(t, api)
		query := provider.LogQuery{Since: time.Now().Add(-80 * 24 * time.Hour)}
		var told []string
		for len(told) < w.Events() {
			page, err := client.Page(t.Context(), query)
			if err != nil {
				t.Fatalf("Page(%+v) = %v", query, err)
			}
			for _, e := range page.Events {
				told = append(told, e.ID)
			}
			if query.After = page.After; !page.More {
				time.Sleep(time.Second)
			}
		}
		if diff := gocmp.Diff(logOf(w), told); diff != "" {
			t.Errorf("a poller (-log +told):\n%s", diff)
		}
		time.Sleep(91 * 24 * time.Hour)
		if _, err := client.Page(t.Context(), query); !errors.Is(err, provider.ErrCursorGone) {
			t.Errorf("Page() after the retention = %v, want %v", err, provider.ErrCursorGone)
		}
	})
}

func TestTheClientListsATroubledAPIWhole(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, api := troubled(2)
		api.Change(func(c *simulator.APIConfig) { c.Faults.Disconnect = 0.1 })
		client, d := clientOf(t, api), w.Directories()[0]
		list := func(what string, method func(context.Context, string, func(context.Context, provider.ListedPage) error) error, id string) (ids []string) {
			t.Helper()
			if err := method(t.Context(), id, func(_ context.Context, page provider.ListedPage) error {
				for _, one := range page.Items {
					if one.User != nil {
						ids = append(ids, one.User.ID)
					} else {
						ids = append(ids, one.Group.ID)
					}
				}
				return nil
			}); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			slices.Sort(ids)
			return ids
		}
		listed, err := client.Directory(t.Context(), d)
		users := list("users", client.Users, d)
		if err != nil || !listed.Counted || listed.Active != len(w.Active(d)) || listed.Active+listed.Inactive != len(users) {
			t.Errorf("Directory() = %+v, %v, want %d active of %d", listed, err, len(w.Active(d)), len(users))
		}
		if diff := gocmp.Diff(w.Groups(d), list("groups", client.Groups, d)); diff != "" {
			t.Errorf("groups (-world +listed):\n%s", diff)
		}
		for _, g := range w.Groups(d)[:3] {
			if diff := gocmp.Diff(w.MembersOf(g), list("members", client.Members, g)); diff != "" {
				t.Errorf("members (-world +listed):\n%s", diff)
			}
		}
		for _, u := range w.Active(d)[:10] {
			if diff := gocmp.Diff(w.GroupsOf(u), list("groups of a user", client.GroupsOf, u)); diff != "" {
				t.Errorf("groups of a user (-world +listed):\n%s", diff)
			}
		}
		if _, err := client.User(t.Context(), "directory_user_x"); !errors.Is(err, provider.ErrNotListed) {
			t.Errorf("User() of nobody = %v, want %v", err, provider.ErrNotListed)
		}
	})
}
