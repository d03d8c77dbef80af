// Package queuetest is the contract of package queue as tests, to run against every backend.
package queuetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/queue"
)

// Settings are what a test wants of a queue; zero values are the defaults.
type Settings struct {
	Depth  int64
	Memory time.Duration
	Lease  time.Duration
}

// Backend opens queues.
type Backend struct {
	// Open opens a fresh queue, which ends with the test.
	Open func(t *testing.T, s Settings) queue.Queue
	// Restart ends the queue and its server as hard as it can, and opens the same again.
	Restart func(t *testing.T, q queue.Queue) queue.Queue
}

// Run runs the suite.
func Run(t *testing.T, b Backend) {
	for name, test := range map[string]func(*testing.T, Backend){
		"a delivery comes out as it went in":                  testRoundTrip,
		"an id is accepted once":                              testDuplicate,
		"ids are remembered by source":                        testSources,
		"a forced delivery is accepted again":                 testForce,
		"a full partition refuses and marks nothing":          testFull,
		"a partition is read in order":                        testOrder,
		"what is not acknowledged is read again":              testReadAgain,
		"a read is bounded in bytes, too, and loses nothing":  testReadBytes,
		"what was forgotten is taken again, what waits stays": testForget,
		"only what is named is acknowledged":                  testAckExact,
		"more than one script can take is acknowledged":       testAckMany,
		"one holder at a time":                                testLease,
		"a lost lease acknowledges nothing":                   testLostLease,
		"a lease that is renewed lasts":                       testRenew,
		"many enqueue at once and each id is in once":         testConcurrent,
		"what was accepted survives a restart":                testRestart,
		"reading waits for the next delivery":                 testReadWaits,
		"reading ends with its context":                       testReadEnds,
		"an ended context enqueues an error":                  testCancelled,
		"stats count what waits":                              testStats,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, b)
		})
	}
}

var received = time.Date(2026, 7, 31, 10, 0, 0, 123456000, time.UTC)

func delivery(n int) queue.Delivery {
	return queue.Delivery{
		Source: "workos", ID: fmt.Sprintf("event_%04d", n), Directory: "directory_1", Origin: queue.Hook,
		Received: received, KeyVersion: "3", SignedAt: received.Truncate(time.Millisecond), Body: fmt.Appendf(nil, "body %d", n),
	}
}

func enqueue(t *testing.T, q queue.Queue, d queue.Delivery, want queue.Result) {
	t.Helper()
	if got, err := q.Enqueue(t.Context(), d); err != nil || got != want {
		t.Fatalf("Enqueue(%s) = %v, %v, want %v", d.ID, got, err, want)
	}
}

func acquire(t *testing.T, q queue.Queue) queue.Lease {
	t.Helper()
	l, err := q.Acquire(t.Context(), delivery(0).Partition())
	if err != nil {
		t.Fatalf("Acquire() = %v", err)
	}
	return l
}

func read(t *testing.T, l queue.Lease, max int) []queue.Entry {
	t.Helper()
	entries, err := l.Read(t.Context(), max, 0)
	if err != nil {
		t.Fatalf("Read() = %v", err)
	}
	return entries
}

func ids(entries []queue.Entry) (out []string) {
	for _, e := range entries {
		out = append(out, e.ID)
	}
	return out
}

func wantIDs(t *testing.T, entries []queue.Entry, numbers ...int) {
	t.Helper()
	var want []string
	for _, n := range numbers {
		want = append(want, delivery(n).ID)
	}
	if got := ids(entries); !slices.Equal(got, want) {
		t.Fatalf("Read() = %v, want %v", got, want)
	}
}

func ack(t *testing.T, l queue.Lease, entries ...queue.Entry) {
	t.Helper()
	if err := l.Ack(t.Context(), refs(entries)...); err != nil {
		t.Fatalf("Ack() = %v", err)
	}
}

func refs(entries []queue.Entry) (out []queue.Ref) {
	for _, e := range entries {
		out = append(out, e.Ref)
	}
	return out
}

func testRoundTrip(t *testing.T, b Backend) {
	q := b.Open(t, Settings{})
	for n, body := range [][]byte{
		[]byte(`{"a": 1}` + "\r\n"), {}, {0, 1, 2, 0xff, 0xfe}, []byte("\xef\xbb\xbf{}"), bytes.Repeat([]byte("Zoë"), 400_000),
	} {
		d := delivery(n)
		d.Body, d.Source, d.KeyVersion = body, "wörkos:"+fmt.Sprint(n), "previous"
		if n == 1 {
			d.SignedAt, d.Directory = time.Time{}, ""
		}
		enqueue(t, q, d, queue.Accepted)
		l, err := q.Acquire(t.Context(), d.Partition())
		if err != nil {
			t.Fatal(err)
		}
		got := read(t, l, 1)[0].Delivery
		if !bytes.Equal(got.Body, body) {
			t.Fatalf("body %d: %d bytes came out, want the %d that went in", n, len(got.Body), len(body))
		}
		got.Body, d.Body = nil, nil
		if fmt.Sprint(got) != fmt.Sprint(d) {
			t.Errorf("Read() = %+v, want %+v", got, d)
		}
		ack(t, l, read(t, l, 1)...)
		if err := l.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func testDuplicate(t *testing.T, b Backend) {
	q := b.Open(t, Settings{})
	enqueue(t, q, delivery(1), queue.Accepted)
	enqueue(t, q, delivery(1), queue.Duplicate)
	l := acquire(t, q)
	ack(t, l, read(t, l, 10)...)
	enqueue(t, q, delivery(1), queue.Duplicate) // done long ago, still remembered
	wantIDs(t, read(t, l, 10))
}

func testSources(t *testing.T, b Backend) {
	q := b.Open(t, Settings{})
	other := delivery(1)
	other.Source = "another"
	enqueue(t, q, delivery(1), queue.Accepted)
	enqueue(t, q, other, queue.Accepted)
}

func testForce(t *testing.T, b Backend) {
	q := b.Open(t, Settings{})
	forced := delivery(1)
	forced.Force = true
	enqueue(t, q, delivery(1), queue.Accepted)
	enqueue(t, q, forced, queue.Accepted)
	l := acquire(t, q)
	entries := read(t, l, 10)
	wantIDs(t, entries, 1, 1)
	if entries[0].Force || !entries[1].Force {
		t.Errorf("Force = %t, %t, want it to come out as it went in", entries[0].Force, entries[1].Force)
	}
}

func testFull(t *testing.T, b Backend) {
	q := b.Open(t, Settings{Depth: 2})
	enqueue(t, q, delivery(1), queue.Accepted)
	enqueue(t, q, delivery(2), queue.Accepted)
	if _, err := q.Enqueue(t.Context(), delivery(3)); !errors.Is(err, queue.ErrFull) {
		t.Fatalf("Enqueue() into a full partition = %v, want ErrFull", err)
	}
	enqueue(t, q, delivery(1), queue.Duplicate) // a duplicate needs no room
	l := acquire(t, q)
	ack(t, l, read(t, l, 1)...)
	enqueue(t, q, delivery(3), queue.Accepted) // it was not marked when it was refused
	wantIDs(t, read(t, l, 10), 2, 3)
}

func testOrder(t *testing.T, b Backend) {
	q := b.Open(t, Settings{})
	var want []int
	for n := range 30 {
		enqueue(t, q, delivery(n), queue.Accepted)
		want = append(want, n)
	}
	wantIDs(t, read(t, acquire(t, q), 100), want...)
}

func testReadAgain(t *testing.T, b Backend) {
	q := b.Open(t, Settings{})
	enqueue(t, q, delivery(1), queue.Accepted)
	enqueue(t, q, delivery(2), queue.Accepted)
	l := acquire(t, q)
	wantIDs(t, read(t, l, 1), 1)
	wantIDs(t, read(t, l, 1), 1)
	wantIDs(t, read(t, l, 2), 1, 2)
}

func testReadBytes(t *testing.T, b Backend) {
	const bound, mib = 8 << 20, 1 << 20
	q := b.Open(t, Settings{})
	var sizes []int
	for n := range 60 { // small ones, many of a mebibyte, one above the bound, small ones
		sizes = append(sizes, 10)
		if n >= 15 && n < 45 {
			sizes[n] = mib
		}
	}
	sizes[45] = bound + mib
	var want, got []string
	for n, size := range sizes {
		d := delivery(n)
		d.Body = bytes.Repeat([]byte("x"), size)
		enqueue(t, q, d, queue.Accepted)
		want = append(want, d.ID)
	}
	l := acquire(t, q)
	reads := 0
	for entries := read(t, l, 100); len(entries) > 0; entries = read(t, l, 100) {
		before := 0
		for _, e := range entries[:len(entries)-1] {
			before += len(e.Body)
		}
		if before > bound {
			t.Fatalf("Read() = %d entries, %d bytes before the last, want an end at %d", len(entries), before, bound)
		}
		got = append(got, ids(entries)...)
		reads++
		ack(t, l, entries...)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%d reads returned %v, want each once and in order", reads, got)
	}
	if reads > 6 { // 30 of a mebibyte at nine a read, the large one with its last, the rest
		t.Errorf("%d reads, want them no smaller than the bound asks for", reads)
	}
}

func testForget(t *testing.T, b Backend) {
	q := b.Open(t, Settings{})
	for n := range 3 {
		enqueue(t, q, delivery(n), queue.Accepted)
	}
	l := acquire(t, q)
	ack(t, l, read(t, l, 1)...)
	for want := range slices.Values([]int64{3, 0}) {
		if n, err := q.Forget(t.Context()); err != nil || n != want {
			t.Fatalf("Forget() = %d, %v, want %d", n, err, want)
		}
	}
	wantIDs(t, read(t, l, 10), 1, 2)
	enqueue(t, q, delivery(0), queue.Accepted)
	enqueue(t, q, delivery(1), queue.Accepted)
	enqueue(t, q, delivery(1), queue.Duplicate) // it remembers anew
	entries := read(t, l, 10)
	wantIDs(t, entries, 1, 2, 0, 1)
	ack(t, l, entries...) // the lease is still held
}

func testAckExact(t *testing.T, b Backend) {
	q := b.Open(t, Settings{})
	for n := range 4 {
		enqueue(t, q, delivery(n), queue.Accepted)
	}
	l := acquire(t, q)
	entries := read(t, l, 10)
	ack(t, l, entries[1], entries[3])
	wantIDs(t, read(t, l, 10), 0, 2)
	ack(t, l, entries...) // some of them are gone: no error
	wantIDs(t, read(t, l, 10))
	ack(t, l) // nothing at all
}

func testAckMany(t *testing.T, b Backend) {
	q := b.Open(t, Settings{})
	for n := range 1200 {
		enqueue(t, q, delivery(n), queue.Accepted)
	}
	l := acquire(t, q)
	ack(t, l, read(t, l, 2000)...)
	wantIDs(t, read(t, l, 10))
}

func testLease(t *testing.T, b Backend) {
	q := b.Open(t, Settings{})
	first := acquire(t, q)
	if _, err := q.Acquire(t.Context(), first.Partition()); !errors.Is(err, queue.ErrHeld) {
		t.Fatalf("a second Acquire() = %v, want ErrHeld", err)
	}
	if _, err := q.Acquire(t.Context(), (first.Partition()+1)%queue.Partitions); err != nil {
		t.Fatalf("Acquire() of another partition = %v, want nil", err)
	}
	if err := first.Release(t.Context()); err != nil {
		t.Fatalf("Release() = %v", err)
	}
	acquire(t, q)
	if err := first.Release(t.Context()); !errors.Is(err, queue.ErrLeaseLost) {
		t.Errorf("Release() of what another holds = %v, want ErrLeaseLost", err)
	}
}

// steal waits until the partition's lease has run out, and takes it.
func steal(t *testing.T, q queue.Queue, partition int) queue.Lease {
	t.Helper()
	for {
		l, err := q.Acquire(t.Context(), partition)
		if err == nil {
			return l
		}
		if !errors.Is(err, queue.ErrHeld) {
			t.Fatalf("Acquire() = %v", err)
		}
	}
}

func testLostLease(t *testing.T, b Backend) {
	q := b.Open(t, Settings{Lease: 60 * time.Millisecond})
	enqueue(t, q, delivery(1), queue.Accepted)
	slow := acquire(t, q)
	entries := read(t, slow, 1)
	quick := steal(t, q, slow.Partition())
	for what, err := range map[string]error{
		"Ack":   slow.Ack(t.Context(), refs(entries)...),
		"Renew": slow.Renew(t.Context()),
	} {
		if !errors.Is(err, queue.ErrLeaseLost) {
			t.Errorf("%s() after the lease was lost = %v, want ErrLeaseLost", what, err)
		}
	}
	wantIDs(t, read(t, quick, 10), 1)
}

func testRenew(t *testing.T, b Backend) {
	q := b.Open(t, Settings{Lease: 300 * time.Millisecond})
	l := acquire(t, q)
	for until := time.Now().Add(time.Second); time.Now().Before(until); {
		if err := l.Renew(t.Context()); err != nil {
			t.Fatalf("Renew() = %v", err)
		}
		if _, err := q.Acquire(t.Context(), l.Partition()); !errors.Is(err, queue.ErrHeld) {
			t.Fatalf("Acquire() of a renewed lease = %v, want ErrHeld", err)
		}
	}
}

func testConcurrent(t *testing.T, b Backend) {
	q := b.Open(t, Settings{})
	const senders, each = 8, 50
	var mu sync.Mutex
	accepted := 0
	var wg sync.WaitGroup
	for range senders {
		wg.Go(func() {
			for n := range each {
				result, err := q.Enqueue(t.Context(), delivery(n))
				if err != nil {
					t.Errorf("Enqueue() = %v", err)
					return
				}
				if result == queue.Accepted {
					mu.Lock()
					accepted++
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	entries := read(t, acquire(t, q), 1000)
	got := ids(entries)
	slices.Sort(got)
	if accepted != each || len(slices.Compact(got)) != each || len(entries) != each {
		t.Errorf("%d accepted, %d in the queue, want %d each once", accepted, len(entries), each)
	}
}

func testRestart(t *testing.T, b Backend) {
	q := b.Open(t, Settings{Lease: 500 * time.Millisecond})
	for n := range 20 {
		enqueue(t, q, delivery(n), queue.Accepted)
	}
	l := acquire(t, q)
	ack(t, l, read(t, l, 5)...)
	q = b.Restart(t, q)
	enqueue(t, q, delivery(1), queue.Duplicate)
	enqueue(t, q, delivery(19), queue.Duplicate)
	again := steal(t, q, l.Partition())
	wantIDs(t, read(t, again, 100), 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19)
}

func testReadWaits(t *testing.T, b Backend) {
	q := b.Open(t, Settings{})
	l := acquire(t, q)
	reading := make(chan []queue.Entry)
	go func() {
		entries, err := l.Read(t.Context(), 10, time.Second)
		if err != nil {
			t.Errorf("Read() = %v", err)
		}
		reading <- entries
	}()
	enqueue(t, q, delivery(1), queue.Accepted)
	wantIDs(t, <-reading, 1)
}

func testReadEnds(t *testing.T, b Backend) {
	l := acquire(t, b.Open(t, Settings{}))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Read(ctx, 10, time.Second); err == nil {
		t.Error("Read() under an ended context = nil, want an error")
	}
}

func testCancelled(t *testing.T, b Backend) {
	q := b.Open(t, Settings{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := q.Enqueue(ctx, delivery(1)); !errors.Is(err, queue.ErrUnavailable) {
		t.Errorf("Enqueue() under an ended context = %v, want ErrUnavailable", err)
	}
}

func testStats(t *testing.T, b Backend) {
	q := b.Open(t, Settings{})
	enqueue(t, q, delivery(1), queue.Accepted)
	late := delivery(2)
	late.Received = received.Add(time.Hour)
	enqueue(t, q, late, queue.Accepted)
	l := acquire(t, q)
	s, err := q.Stats(t.Context())
	if err != nil || len(s.Partitions) != queue.Partitions {
		t.Fatalf("Stats() = %+v, %v", s, err)
	}
	if p := s.Partitions[l.Partition()]; p.Depth != 2 || !p.Oldest.Equal(received) || !p.Leased {
		t.Errorf("Stats() of the partition = %+v, want 2 entries since %s, leased", p, received)
	}
	if s.Depth() != 2 || !s.Oldest().Equal(received) {
		t.Errorf("Depth() = %d, Oldest() = %s, want 2 and %s", s.Depth(), s.Oldest(), received)
	}
}
