// Package queue keeps each delivery once and in order between the edge that received it and the worker that folds it.
//
// There are eight partitions; a delivery's is a hash of its source and directory, so that one directory's deliveries
// stay in order. A worker leases a partition, reads its head, and acknowledges exactly what it has committed. What is
// not acknowledged is read again, by whoever has the lease then. The queue's order and its memory of ids save work;
// correctness does not rest on them, because the database knows every event and its version.
//
// Two backends: Redis, or anything that speaks its protocol, and an embedded file for a single process. queuetest is
// the contract as tests.
package queue

import (
	"context"
	"errors"
	"hash/fnv"
	"time"
)

// Partitions is how many there are. It is a constant, not a setting: changing it would need the old ones drained.
const Partitions = 8

// Origin is the way that a delivery came.
type Origin string

// The origins.
const (
	Hook      Origin = "hook"
	Poll      Origin = "poll"
	Reconcile Origin = "reconcile"
	Replay    Origin = "replay"
	Operator  Origin = "operator"
)

// Delivery is one verified statement of a source, undecoded.
type Delivery struct {
	Source     string
	ID         string // the event's id, or "sha256:…" of a body that names none; unique within Source
	Directory  string // with Source it chooses the partition; may be empty
	Origin     Origin
	Received   time.Time // µs
	KeyVersion string    // of the key that verified it
	SignedAt   time.Time // ms; zero if nothing was signed
	Body       []byte    // the raw bytes
	Force      bool      // enqueue though the id has been seen
}

// Partition returns the number of the delivery's partition.
func (d Delivery) Partition() int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(d.Source + "\x00" + d.Directory))
	return int(h.Sum32() % Partitions)
}

// Result says what became of an enqueue.
type Result int

// The results.
const (
	Accepted  Result = iota // it is in the queue
	Duplicate               // its id was seen before; nothing was added
)

// Queue is what the backends implement. Its methods may be called by many goroutines at once.
type Queue interface {
	// Enqueue adds the delivery at the end of its partition, unless its id was seen within the queue's memory. When it
	// returns Accepted, the delivery is as durable as the queue's Durability says, and its id is marked as seen; it is
	// never marked without being there. ErrFull and ErrUnavailable mean that it may not be there and the sender must
	// try again: a second Enqueue of a delivery that was in fact added is a Duplicate.
	Enqueue(ctx context.Context, d Delivery) (Result, error)

	// Acquire takes the partition's lease, or returns ErrHeld at once when somebody has it. The lease ends by itself
	// some seconds after the last Renew or Ack.
	Acquire(ctx context.Context, partition int) (Lease, error)

	// Stats counts what waits.
	Stats(ctx context.Context) (Stats, error)

	// Forget forgets all ids seen, so that what is sent again is taken again: after the database was restored to a state
	// that lacks events which the queue remembers. What waits stays, and so do leases. It returns how many ids it forgot;
	// with ErrUnavailable it may have forgotten a part, and a second Forget forgets the rest.
	Forget(ctx context.Context) (int64, error)

	// Durability asks the backend what a 200 may promise.
	Durability(ctx context.Context) (Durability, error)

	Close() error
}

// Lease is one worker's hold on a partition. It is used by one goroutine, but for Renew.
type Lease interface {
	Partition() int

	// Read returns up to max entries from the head of the partition, oldest first, waiting up to wait (at most a second)
	// for one to come. It returns the same ones until they are acknowledged. A read is bounded in bytes, too: it ends with
	// the entry that brings the bodies past 8 MiB, though there are more; so one entry comes, however large.
	Read(ctx context.Context, max int, wait time.Duration) ([]Entry, error)

	// Ack removes exactly these entries and renews the lease. With ErrLeaseLost nothing was removed.
	Ack(ctx context.Context, refs ...Ref) error

	// Renew makes the lease last; ErrLeaseLost when somebody else has it, or may have.
	Renew(ctx context.Context) error

	// Release gives the lease back, so that another may have it at once.
	Release(ctx context.Context) error
}

// Ref is the place of an entry in its partition.
type Ref string

// Entry is a delivery in the queue.
type Entry struct {
	Ref Ref
	Delivery
}

// Stats is what waits in the queue.
type Stats struct {
	Partitions []PartitionStats // Partitions of them
}

// PartitionStats is what waits in a partition.
type PartitionStats struct {
	Depth  int64
	Oldest time.Time // when the head was received; zero when nothing waits
	Leased bool
}

// Depth is the number of entries in all partitions.
func (s Stats) Depth() (n int64) {
	for _, p := range s.Partitions {
		n += p.Depth
	}
	return n
}

// Oldest is when the oldest entry was received; zero when nothing waits.
func (s Stats) Oldest() (t time.Time) {
	for _, p := range s.Partitions {
		if !p.Oldest.IsZero() && (t.IsZero() || p.Oldest.Before(t)) {
			t = p.Oldest
		}
	}
	return t
}

// Class says what survives what.
type Class string

// The classes, strongest first. Of several servers the weakest counts.
const (
	Fsynced  Class = "fsynced"  // on disk before Enqueue returns
	Everysec Class = "everysec" // on disk within about a second
	Memory   Class = "memory"   // gone with the process
	Unknown  Class = "unknown"  // the server does not tell
)

// Durability is a class, and what an operator should know about it; Detail is empty when all is well.
type Durability struct {
	Class  Class
	Detail string
}

// The errors that callers tell apart.
var (
	ErrFull        = errors.New("the queue is full")
	ErrUnavailable = errors.New("the queue cannot be reached")
	ErrHeld        = errors.New("the partition is leased to another worker")
	ErrLeaseLost   = errors.New("the lease is lost")
)

const (
	defaultDepth    = 50_000
	defaultMemory   = 24 * time.Hour
	defaultLease    = 10 * time.Second
	longestReadWait = time.Second
	readBytes       = 8 << 20 // of bodies; a read ends when there are more
)
