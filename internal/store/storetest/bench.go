package storetest

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/directory/directorytest"
)

// BenchmarkFold folds batches of 256 by one worker: 60 % users, 10 % groups, 30 % memberships, of 20,000 people in 20
// directories; most events win, and most winners change something. It reports events a second.
func BenchmarkFold(b *testing.B, backend Backend) {
	const batch = 256
	s := backend.open(b, config(directory.DecisionKeep))
	g := rand.New(rand.NewPCG(1, 2))
	n := 0
	next := func() []directory.Event {
		events := make([]directory.Event, batch)
		for i := range events {
			n++
			events[i] = benchEvent(g, n)
		}
		return events
	}
	for range 150 { // the people are there
		fold(b, s, next()...)
	}
	b.ResetTimer()
	for range b.N {
		b.StopTimer()
		events := next()
		b.StartTimer()
		fold(b, s, events...)
	}
	b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "events/s")
}

func benchEvent(g *rand.Rand, n int) directory.Event {
	person := g.IntN(20_000)
	e := directory.Event{
		Source: "workos", ID: fmt.Sprintf("event_01K1FZ5Q7Y%016d", n), Type: "dsync.user.updated", Directory: fmt.Sprintf("directory_%02d", person%20),
		Organization: "org_01K1FZ5Q7Y", Occurred: directorytest.Start.Add(time.Duration(n) * time.Millisecond), Subject: directory.SubjectUser,
	}
	user := fmt.Sprintf("directory_user_01K1FZ5Q7Y%012d", person)
	switch roll := g.IntN(10); {
	case roll < 6:
		e.User = &directory.Person{
			ID: user, IDPID: fmt.Sprint("idp-", person), State: "active", Created: directorytest.Start,
			Profile: directory.Profile{Email: fmt.Sprintf("person%d@example.com", person), FirstName: "Person", LastName: fmt.Sprint("Number ", n),
				Attributes: map[string]string{"role": "member"}},
		}
		if g.IntN(10) == 0 {
			e.User.State, e.Removes = "inactive", true
		}
	case roll < 7:
		e.Subject, e.Type, e.Group = directory.SubjectGroup, "dsync.group.updated", &directory.Team{ID: fmt.Sprint("group_", g.IntN(50)), Name: fmt.Sprint("Group ", n)}
	default:
		e.Subject, e.Type = directory.SubjectMembership, "dsync.group.user_added"
		e.Membership = &directory.Membership{Group: fmt.Sprint("group_", g.IntN(50)), User: user}
		e.Removes = g.IntN(4) == 0
	}
	if g.IntN(10) == 0 {
		e.Occurred = e.Occurred.Add(-time.Hour) // late: it loses
	}
	return e
}
