package e2e

import (
	"net/http"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/simulator"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/test/rig"
)

func dump(t *testing.T, site *rig.Site) directory.Delta {
	t.Helper()
	d, err := site.Store.Dump(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// changes returns all of them in the order in which they happened.
func changes(t *testing.T, site *rig.Site) []directory.Change {
	t.Helper()
	rows, err := site.Store.Changes(t.Context(), store.ChangeFilter{Limit: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	out := make([]directory.Change, len(rows))
	for i, r := range rows {
		out[i] = r.Change
	}
	return out
}

func firstOf(lines []string, n int) []string { return lines[:min(n, len(lines))] }

// company is a small directory that is told of in a few deliveries, all of the past.
func company(seed uint64, people int) (*simulator.Directory, []simulator.Delivery) {
	return simulator.New(simulator.Config{Seed: seed, People: people, Groups: 3, Start: time.Now().Add(-time.Hour)})
}

// mustMatch checks that the database holds what the directory means, from these deliveries and no others.
func mustMatch(t *testing.T, site *rig.Site, d *simulator.Directory, deliveries []simulator.Delivery) {
	t.Helper()
	mustHold(t, site, d.Expected(), deliveries)
}

// mustHold checks that the database holds what is true, from these deliveries and no others.
func mustHold(t *testing.T, site *rig.Site, truth simulator.Expectation, deliveries []simulator.Delivery) {
	t.Helper()
	site.Settle(t)
	for _, line := range firstOf(truth.Diff(dump(t, site)), 20) {
		t.Error(line)
	}
	eachEventIsInTheLedgerOnce(t, site, deliveries)
	noChangeIsTwice(t, site)
}

// accepted posts the deliveries one after another, each of which must be taken.
func accepted(t *testing.T, site *rig.Site, p *rig.Process, deliveries []simulator.Delivery) {
	t.Helper()
	for _, d := range deliveries {
		if a := site.Post(t, p.URL(), d.Body); a.Status != http.StatusOK {
			t.Fatalf("%s is answered %d %s, want 200", d.ID, a.Status, a.Body)
		}
	}
}

// awaitAccepted posts the delivery again and again until it is taken.
func awaitAccepted(t *testing.T, site *rig.Site, p *rig.Process, d simulator.Delivery) {
	t.Helper()
	rig.Until(t, "a delivery is taken", func() bool { return site.Post(t, p.URL(), d.Body).Status == http.StatusOK })
}
