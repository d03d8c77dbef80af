package reconcile

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/provider/repair"
	"github.com/rollcallhq/rollcall/internal/store"
)

// A plan is a file of JSON lines: what was compared, each finding with the event that repairs it, and at the end how many they are
// and the SHA-256 of all lines before. So it is written and read without being held in memory.

// planVersion is that of the file's form: a reader refuses one that it does not know.
const planVersion = 1

// PlanMaxAge is how long a plan may be applied.
const PlanMaxAge = 24 * time.Hour

// Errors of a plan that callers tell apart.
var (
	ErrPlan      = errors.New("this is no plan that can be applied")
	ErrPlanMoved = errors.New("the directory has moved on since the plan was made")
)

// Plan is what a file says, but for its findings.
type Plan struct {
	directory.Scope
	Run    string
	Made   time.Time
	Fence  time.Time // that its repairs are dated
	Active int64     // accounts of the directory
	Held   string    // why a guard stopped something; else empty
	Totals
}

// Totals are how many findings a plan has.
type Totals struct {
	Items     int64                              `json:"items"`
	Kinds     map[store.DriftKind]map[Action]int `json:"kinds"`
	Leavers   int64                              `json:"leavers"`   // people who would lose their account
	Returners int64                              `json:"returners"` // people and groups that would come back though a removal is known
	Digest    string                             `json:"digest"`
}

type planHead struct {
	Plan      int       `json:"rollcall_plan"`
	Source    string    `json:"source"`
	Directory string    `json:"directory"`
	Run       string    `json:"run"`
	Made      time.Time `json:"made"`
	Fence     time.Time `json:"fence"`
	Active    int64     `json:"active_accounts"`
	Held      string    `json:"held,omitempty"`
}

type planItem struct {
	Kind    store.DriftKind   `json:"kind"`
	Action  Action            `json:"action"`
	Who     string            `json:"who"`
	Why     string            `json:"why"`
	Group   string            `json:"group,omitempty"`
	User    string            `json:"user,omitempty"`
	Seen    directory.Version `json:"seen,omitempty"`
	Leaves  bool              `json:"leaves,omitempty"`
	Returns bool              `json:"returns,omitempty"`
	Event   json.RawMessage   `json:"event"`
}

// Plan compares a directory and does nothing about it. It writes the plan to out, and calls each for every finding; both may
// be nil.
func (r *Reconciler) Plan(ctx context.Context, id string, out io.Writer, each func(Item) error) (run store.Run, plan Plan, err error) {
	run, err = r.run(ctx, id, store.TriggerPlan, func(f *findings) error {
		f.planned = true
		if err := f.confirm(ctx, "", lookUps); err != nil {
			return err
		}
		plan, err = f.plan(ctx, out, each)
		return err
	})
	return run, plan, err
}

func (f *findings) plan(ctx context.Context, out io.Writer, each func(Item) error) (Plan, error) {
	if out == nil {
		out = io.Discard
	}
	w := &planWriter{out: out, sum: sha256.New()}
	plan := Plan{Scope: f.run.Scope, Run: f.run.ID, Made: f.run.Begun, Fence: f.run.Fence, Active: f.compared.Active, Held: f.holds()}
	w.line(planHead{
		Plan: planVersion, Source: plan.Source, Directory: plan.Directory, Run: plan.Run, Made: plan.Made, Fence: plan.Fence, Active: plan.Active, Held: plan.Held,
	})
	err := f.each(ctx, func(it Item) error {
		f.count(it)
		plan.add(it.Kind, it.Action, it.leaves, it.returns)
		body, err := it.Event.Body()
		if err != nil {
			return fmt.Errorf("repair %s: %w", it.Who, err)
		}
		w.line(planItem{
			Kind: it.Kind, Action: it.Action, Who: it.Who, Why: it.Why, Group: it.Register.Group, User: it.Register.User, Seen: it.Seen, Leaves: it.leaves, Returns: it.returns, Event: body,
		})
		if each != nil && w.err == nil {
			return each(it)
		}
		return w.err
	})
	if err != nil {
		return plan, err
	}
	plan.Digest = hex.EncodeToString(w.sum.Sum(nil))
	f.run.Digest = plan.Digest
	w.line(plan.Totals)
	return plan, w.err
}

// holds says what a guard stops, whether there is any of it or not.
func (f *findings) holds() string {
	if f.holdLeavers != "" {
		return f.holdLeavers
	}
	return f.holdLosers
}

func (t *Totals) add(kind store.DriftKind, action Action, leaves, returns bool) {
	if t.Kinds == nil {
		t.Kinds = map[store.DriftKind]map[Action]int{}
	}
	if t.Kinds[kind] == nil {
		t.Kinds[kind] = map[Action]int{}
	}
	t.Kinds[kind][action]++
	t.Items++
	if leaves {
		t.Leavers++
	}
	if returns {
		t.Returners++
	}
}

// planWriter writes lines, and sums them. err is the first that went wrong.
type planWriter struct {
	out io.Writer
	sum hash.Hash
	err error
}

func (w *planWriter) line(v any) {
	if w.err != nil {
		return
	}
	text, err := json.Marshal(v)
	if err != nil {
		w.err = err
		return
	}
	text = append(text, '\n')
	_, _ = w.sum.Write(text) // never fails
	if _, err := w.out.Write(text); err != nil {
		w.err = fmt.Errorf("write the plan: %w", err)
	}
}

// longestLine is more than an event of the greatest permitted fields takes.
const longestLine = 4 << 20

// ReadPlan reads a whole plan, checks that it is one and that nobody edited it, and calls each for every finding, with the plan's
// beginning. The error wraps ErrPlan, or is of each or of the reader.
func ReadPlan(in io.Reader, each func(Plan, Item) error) (plan Plan, err error) {
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 64<<10), longestLine)
	next := func() ([]byte, error) {
		if !lines.Scan() {
			return nil, fmt.Errorf("%w: it ends too early\nhint: make it anew with `rollcall reconcile plan`", or(ErrPlan, lines.Err()))
		}
		return lines.Bytes(), nil
	}
	sum := sha256.New()
	first, err := next()
	if err != nil {
		return plan, err
	}
	var head planHead
	switch err := json.Unmarshal(first, &head); {
	case err != nil || head.Plan == 0:
		return plan, fmt.Errorf("%w: it does not begin as one", ErrPlan)
	case head.Plan > planVersion:
		return plan, fmt.Errorf("%w: its form is version %d; this binary knows %d and older ones", ErrPlan, head.Plan, planVersion)
	}
	plan = Plan{
		Scope: directory.Scope{Source: head.Source, Directory: head.Directory}, Run: head.Run, Made: head.Made, Fence: head.Fence, Active: head.Active, Held: head.Held,
	}
	sumLine(sum, first)
	for {
		line, err := next()
		if err != nil {
			return plan, err
		}
		if !bytes.HasPrefix(line, []byte(`{"kind":`)) {
			return plan, plan.close(line, hex.EncodeToString(sum.Sum(nil)))
		}
		it, err := plan.item(line)
		if err != nil {
			return plan, err
		}
		sumLine(sum, line)
		plan.add(it.Kind, it.Action, it.leaves, it.returns)
		if each == nil {
			continue
		}
		if err := each(plan, it); err != nil {
			return plan, err
		}
	}
}

func or(is, cause error) error {
	if cause != nil {
		return fmt.Errorf("%w: %w", is, cause)
	}
	return is
}

func sumLine(sum hash.Hash, line []byte) {
	_, _ = sum.Write(line) // never fails
	_, _ = sum.Write([]byte{'\n'})
}

// item reads a finding. Its event is of the plan's directory and of its time, or the plan is not one.
func (p Plan) item(line []byte) (Item, error) {
	var i planItem
	if err := json.Unmarshal(line, &i); err != nil {
		return Item{}, fmt.Errorf("%w: a line of it cannot be read", ErrPlan)
	}
	e, err := repair.Decode(i.Event)
	if err != nil {
		return Item{}, fmt.Errorf("%w: %w", ErrPlan, err)
	}
	if e.Directory != p.Directory || !e.Occurred.Equal(p.Fence) {
		return Item{}, fmt.Errorf("%w: a repair in it is of another directory or time", ErrPlan)
	}
	return Item{
		Kind: i.Kind, Action: i.Action, Who: i.Who, Why: i.Why, Register: store.RegisterKey{Group: i.Group, User: i.User}, Seen: i.Seen, Event: e, leaves: i.Leaves, returns: i.Returns,
	}, nil
}

// close compares the plan's last line with what was read.
func (p *Plan) close(line []byte, digest string) error {
	var t Totals
	if err := json.Unmarshal(line, &t); err != nil || t.Digest != digest || t.Items != p.Items {
		return fmt.Errorf("%w: it is not as it was written\nhint: make it anew with `rollcall reconcile plan`; a plan is applied whole, or by --only", ErrPlan)
	}
	p.Digest = digest
	return nil
}
