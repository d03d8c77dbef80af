package postgres_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/store/postgres"
	"github.com/rollcallhq/rollcall/internal/store/storetest"
	"github.com/rollcallhq/rollcall/internal/testenv"
)

// network stands between a store and its server. It counts round trips, each of which the server ends with one
// ReadyForQuery, and can swallow what the server answers.
type network struct {
	trips   atomic.Int64
	swallow atomic.Bool
}

// between returns a DSN that leads through the network to the server of this one.
func (n *network) between(t *testing.T, dsn string) string {
	t.Helper()
	address, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	server := address.Host
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { n.join(client, server) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	address.Host = l.Addr().String()
	return address.String()
}

func (n *network) join(client net.Conn, address string) {
	server, err := net.Dial("tcp", address)
	if err != nil {
		_ = client.Close()
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = io.Copy(server, client)
		_ = server.Close()
	})
	wg.Go(func() {
		n.answers(client, server)
		_ = client.Close()
	})
	wg.Wait()
}

// answers passes the server's messages on: a type, four bytes of length that count themselves, and the rest.
func (n *network) answers(client io.Writer, server io.Reader) {
	head := make([]byte, 5)
	for {
		if _, err := io.ReadFull(server, head); err != nil {
			return
		}
		rest := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(server, rest); err != nil {
			return
		}
		if head[0] == 'Z' {
			n.trips.Add(1)
		}
		if n.swallow.Load() {
			continue
		}
		if _, err := client.Write(append(head[:5:5], rest...)); err != nil {
			return
		}
	}
}

func (n *network) open(t *testing.T, c store.Config) *postgres.Store {
	t.Helper()
	c.DSN, c.Environment = n.between(t, testenv.Database(t)), "test"
	s, err := postgres.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if _, err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// people are user and membership events of so many people in two directories.
func people(round, count int) (events []directory.Event) {
	for n := range count {
		e := directory.Event{
			Source: "workos", ID: fmt.Sprintf("u%d_%d", round, n), Directory: fmt.Sprintf("directory_%d", n%2), Occurred: time.Unix(int64(1_780_000_000+round), 0),
			Subject: directory.SubjectUser, User: &directory.Person{ID: fmt.Sprint("user_", n), IDPID: fmt.Sprint("idp-", n), State: "active"},
		}
		edge := e
		edge.ID, edge.Subject, edge.User = fmt.Sprintf("m%d_%d", round, n), directory.SubjectMembership, nil
		edge.Membership = &directory.Membership{Group: "eng", User: e.User.ID}
		events = append(events, e, edge)
	}
	return events
}

func TestABatchTakesFourRoundTripsHoweverLargeItIs(t *testing.T) {
	t.Parallel()
	var n network
	s := n.open(t, store.Config{MaxConns: 1})
	for round, count := range []int{128, 128, 1, 200} {
		before := n.trips.Load()
		if err := storetest.Fold(t.Context(), s, people(round, count)); err != nil {
			t.Fatal(err)
		}
		if got := n.trips.Load() - before; round > 1 && got != 4 { // the first ones prepare their statements too
			t.Errorf("%d events took %d round trips, want 4: lock, load, load, save and commit", 2*count, got)
		}
	}
}

func TestServerThatDoesNotAnswerIsGivenUpOn(t *testing.T) {
	t.Parallel()
	var n network
	s := n.open(t, store.Config{MaxConns: 1, Timeout: 100 * time.Millisecond})
	if err := storetest.Fold(t.Context(), s, people(0, 1)); err != nil {
		t.Fatal(err)
	}
	n.swallow.Store(true)
	began := time.Now()
	err := storetest.Fold(t.Context(), s, people(1, 1))
	if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, store.ErrData) || errors.Is(err, store.ErrConflict) {
		t.Errorf("Fold() = %v, want a deadline exceeded, as trouble of the database", err)
	}
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("it was given up on after %s, want about 2 s", took)
	}
	n.swallow.Store(false)
	if err := storetest.Fold(t.Context(), s, people(1, 1)); err != nil {
		t.Errorf("Fold() once it answers again = %v, want nil", err)
	}
}
