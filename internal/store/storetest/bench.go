package storetest

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/directory/directorytest"
)

// BenchmarkFold folds batches of 256: 60 % users, 10 % groups, 30 % memberships, of 20,000 people in 20 directories; most
// events win, and most winners change something. It does so for one partition, and for four of them side by side, as a
// worker does. It reports events a second.
func BenchmarkFold(b *testing.B, backend Backend) {
	for _, partitions := range []int{1, 4} {
		b.Run(fmt.Sprintf("partitions=%d", partitions), func(b *testing.B) { benchFold(b, backend, partitions) })
	}
}

const benchBatch = 256

func benchFold(b *testing.B, backend Backend, partitions int) {
	s := backend.open(b, config(directory.DecisionKeep))
	streams := make([]*benchStream, partitions)
	for i := range streams {
		streams[i] = &benchStream{random: rand.New(rand.NewPCG(1, uint64(i))), partition: i, people: 20_000 / partitions}
		for range 150 / partitions { // the people are there
			fold(b, s, streams[i].batch()...)
		}
	}
	work := make([][][]directory.Event, partitions)
	for n := range b.N {
		i := n % partitions
		work[i] = append(work[i], streams[i].batch())
	}
	b.ResetTimer()
	var running sync.WaitGroup
	for _, batches := range work {
		running.Go(func() {
			for _, events := range batches {
				if err := Fold(b.Context(), s, events); err != nil {
					b.Error(err)
				}
			}
		})
	}
	running.Wait()
	b.ReportMetric(float64(b.N*benchBatch)/b.Elapsed().Seconds(), "events/s")
}

// benchStream is what is told of some directories of its own.
type benchStream struct {
	random    *rand.Rand
	partition int
	people    int
	n         int
}

func (s *benchStream) batch() []directory.Event {
	events := make([]directory.Event, benchBatch)
	for i := range events {
		s.n++
		events[i] = s.event()
	}
	return events
}

func (s *benchStream) event() directory.Event {
	g, n := s.random, s.n
	person := g.IntN(s.people)
	e := directory.Event{
		Source: "workos", ID: fmt.Sprintf("event_01K1FZ5Q7Y%d%015d", s.partition, n), Type: "dsync.user.updated", Directory: fmt.Sprintf("directory_%d_%02d", s.partition, person%20),
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
