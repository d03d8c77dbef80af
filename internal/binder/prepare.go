package binder

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

// Problem is a statement that the application's database does not take.
type Problem struct {
	Binding   string // or "link.sql", "link.by_email", "tenant.sql", "protected", "probe" and its name
	Statement int    // from 1; 0: the message says which
	Message   string // the database's
}

func (p Problem) Error() string {
	if p.Statement == 0 {
		return p.Message
	}
	return fmt.Sprintf("%s, statement %d: %s", p.Binding, p.Statement, p.Message)
}

// The states of bindings.
const (
	StateOK      = "ok"
	StateBroken  = "broken"  // the database does not take it: none of its changes takes effect by it
	StateFailing = "failing" // it failed since it worked last
)

// BindingStatus is how a binding fares in this process.
type BindingStatus struct {
	Name     string
	On       []directory.ChangeKind
	Posts    bool
	State    string
	Error    string // of the last failure
	Failures int    // since it worked last
	Since    time.Time
}

// health keeps how the statements fare. mu guards states.
type health struct {
	now    func() time.Time
	mu     sync.Mutex
	states map[string]*state
}

type state struct {
	problem  error // why it cannot be prepared
	failures int
	last     string
	since    time.Time
}

// errBroken reports a binding that is not run, because the database does not take it.
var errBroken = errors.New("the binding is broken")

// broken returns why a binding is not to be run, or nil.
func (h *health) broken(name string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.states[name]; s != nil && s.problem != nil {
		return fmt.Errorf("%w: %w", errBroken, s.problem)
	}
	return nil
}

func (h *health) worked(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.states[name]; s != nil {
		s.failures, s.last, s.since = 0, "", time.Time{}
	}
}

// failed counts a failure, and logs the first one since the binding worked.
func (h *health) failed(name string, err error, log zerolog.Logger) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.of(name)
	if s.failures++; s.failures == 1 {
		s.since = h.now()
		log.Error().Str("binding", name).Err(err).Msg("a change failed; it is tried again, and only its account waits")
	}
	s.last = err.Error()
}

// prepared notes whether the database takes a statement.
func (h *health) prepared(name string, problem error, log zerolog.Logger) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.of(name)
	switch {
	case problem != nil && s.problem == nil:
		s.since = h.now()
		log.Error().Err(problem).Str("binding", name).Msg("the database does not take this statement: no change takes effect by it until it does")
	case problem == nil && s.problem != nil:
		s.failures, s.last, s.since = 0, "", time.Time{}
		log.Info().Str("binding", name).Msg("the database takes this statement again")
	}
	s.problem = problem
}

func (h *health) of(name string) *state {
	if h.states == nil {
		h.states = map[string]*state{}
	}
	if h.states[name] == nil {
		h.states[name] = &state{}
	}
	return h.states[name]
}

func (h *health) status(name string) BindingStatus {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := BindingStatus{Name: name, State: StateOK}
	s := h.states[name]
	switch {
	case s == nil:
	case s.problem != nil:
		out.State, out.Error, out.Failures, out.Since = StateBroken, s.problem.Error(), s.failures, s.since
	case s.failures > 0:
		out.State, out.Error, out.Failures, out.Since = StateFailing, s.last, s.failures, s.since
	}
	return out
}

// Status returns how every binding fares, in the order of the configuration, and then the lookups, probes and the rest of the
// statements.
func (b *Binder) Status() []BindingStatus {
	var out []BindingStatus
	for _, c := range b.Bindings {
		s := b.health.status(c.Name)
		s.On, s.Posts = c.On, c.Post != nil
		out = append(out, s)
	}
	for _, other := range b.others() {
		out = append(out, b.health.status(other.Name))
	}
	return out
}

// all returns everything that is to be prepared.
func (b *Binder) all() []*binding { return append(slices.Clone(b.bindings), b.others()...) }

// others are the statements that belong to no binding, as if each were one.
func (b *Binder) others() (out []*binding) {
	for _, o := range []struct {
		name string
		*statement
	}{{"tenant.sql", b.tenant}, {"link.sql", b.link}, {"link.by_email", b.byEmail}, {"protected", b.protected}} {
		if o.statement != nil {
			out = append(out, &binding{Binding: Binding{Name: o.name}, statements: []statement{*o.statement}})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(b.probes)) {
		out = append(out, &binding{Binding: Binding{Name: "probe " + name}, statements: []statement{b.probes[name]}})
	}
	return out
}

// Prepare asks the application's database whether it takes every statement, and returns those that it does not.
func (b *Binder) Prepare(ctx context.Context) (problems []Problem) {
	if b.Database == nil {
		return nil
	}
	for _, binding := range b.all() {
		var p Problem
		if err := b.prepareOne(ctx, binding); errors.As(err, &p) {
			problems = append(problems, p)
		} else if err != nil {
			return append(problems, Problem{binding.Name, 1, err.Error()})
		}
	}
	return problems
}

// prepare notes which of the bindings the database takes. Its error is trouble, which says nothing of a binding.
func (b *Binder) prepare(ctx context.Context, list []*binding) error {
	for _, binding := range list {
		err := b.prepareOne(ctx, binding)
		if err != nil && !errors.As(err, new(Problem)) {
			return err
		}
		b.health.prepared(binding.Name, err, b.Log)
	}
	return nil
}

// prepareOne returns a Problem, or trouble.
func (b *Binder) prepareOne(ctx context.Context, binding *binding) error {
	ctx, cancel := context.WithTimeout(ctx, b.StatementTimeout+overtime)
	defer cancel()
	for i, st := range binding.statements {
		err := b.Database.take(ctx, st)
		if err != nil && (trouble(err) || ctx.Err() != nil) {
			return fmt.Errorf("prepare %s: %w", binding.Name, err)
		}
		if err != nil {
			return Problem{binding.Name, i + 1, err.Error()}
		}
	}
	return nil
}

// take reports why the database does not take a statement.
func (d *Database) take(ctx context.Context, st statement) error {
	prepared, err := d.SQL.PrepareContext(ctx, st.sql)
	if err != nil {
		return err
	}
	defer func() { _ = prepared.Close() }()
	return nil
}

// prepareEvery is the time between two looks whether what is broken was mended.
const prepareEvery = time.Minute

// prepareBroken prepares again what is broken.
func (b *Binder) prepareBroken(ctx context.Context) error {
	if b.Database == nil {
		return nil
	}
	broken := slices.DeleteFunc(b.all(), func(x *binding) bool { return b.health.broken(x.Name) == nil })
	return b.prepare(ctx, broken)
}

// admit gives new directories their mode, and lets what is only observed be.
func (b *Binder) admit(ctx context.Context) error {
	admitted, err := b.Store.Admit(ctx, b.Mode)
	if err != nil {
		return err
	}
	for _, d := range admitted {
		b.Log.Info().Str("source", d.Source).Str("directory", d.Directory).Str("mode", string(b.Mode)).Msg("a new directory")
	}
	if len(admitted) > 0 && b.Mode == store.Enforce {
		poke(b.woken[0])
		poke(b.woken[1])
	}
	for {
		n, err := b.Store.Observed(ctx, observedAtOnce)
		if err != nil || n < observedAtOnce {
			return err
		}
	}
}

const observedAtOnce = 1000
