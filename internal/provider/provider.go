// Package provider knows how each identity provider speaks: which signature scheme it signs with, what it takes for an
// answer, how to tell its deliveries apart, and what its events mean in the terms of package directory.
//
// One small package below this one for each provider; each has a value of [Provider].
package provider

import (
	"github.com/rollcallhq/rollcall/internal/directory"
)

// Provider is a preset and a decoder. It holds no state and may be used by many goroutines at once.
type Provider struct {
	Name    string // as a source's `provider` setting names it
	Scheme  string // the preset of package verify that it signs with
	Success Answer // what it takes for "received"

	// Identify reads what the receive path needs, and no more. It returns an error for a body that names no event;
	// such a delivery is queued under its SHA-256 and parked by the worker. It never panics.
	Identify func(body []byte) (Identity, error)

	// Decode reads one delivery into what it says. An error wraps directory.ErrInvalid: the body can never be
	// decoded, by its own fault. It never panics, and the same body always gives the same answer.
	Decode func(body []byte, options Options) ([]Statement, error)

	// API makes what asks the provider, without asking it; nil: there is nothing to ask. What it makes may be used by many
	// goroutines at once, which share its rate limits.
	API func(APIConfig) (API, error)
}

// Answer is an HTTP answer's status and body.
type Answer struct {
	Status      int
	ContentType string
	Body        string
}

// Identity is what tells one delivery from another and where it queues.
type Identity struct {
	ID        string // the event id; with the source it is the key of marks, ledger and registers
	Type      string
	Directory string // the partition key; empty when the event is of no directory
}

// Options are what the configuration says of decoding.
type Options struct {
	Source     string
	Attributes []string // names of further attributes to keep: "role", "roles", "custom_attributes.department"
}

// Statement is one event of a delivery: either Event is set, or Ignored says why there is none.
type Statement struct {
	Identity
	Event   *directory.Event // valid by Event.Validate, or the decoder returned an error
	Ignored string           // "type not known: kitten.created"; the ledger keeps it
}
