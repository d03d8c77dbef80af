package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/user"
	"time"

	"github.com/spf13/cobra"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/provider/operator"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/queue"
)

// deciding is what every command that decides something is told.
type deciding struct {
	reason string
	yes    bool
	wait   time.Duration
}

const (
	waitForWorker = 10 * time.Second
	lookAgain     = 100 * time.Millisecond
)

// waiting is why a decision is parked that no worker has taken yet.
const waiting = "it waits for a worker"

func (d *deciding) flags(cmd *cobra.Command) {
	d.reasonFlags(cmd)
	cmd.Flags().DurationVar(&d.wait, "wait", waitForWorker, "how long to wait until a worker has folded it")
}

func (d *deciding) reasonFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&d.reason, "reason", "", "why, for whoever reads the ledger: a `text`, required")
	d.yesFlag(cmd)
}

func (d *deciding) yesFlag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&d.yes, "yes", false, "do it, rather than say what it would do")
}

// check reports that no reason is given, before anything is looked up.
func (d *deciding) check() error {
	if d.reason == "" {
		return fmt.Errorf("%w: --reason is missing\nhint: say why in a few words; the ledger keeps it with your name", errUsage)
	}
	return nil
}

// consent is nil when the operator said yes, and else says that nothing is done.
func (d *deciding) consent() error {
	if d.yes {
		return nil
	}
	return fmt.Errorf("%w: nothing is done yet\nhint: the same with --yes does it", errUsage)
}

// operatorVariable is where an operator's name is looked for first.
const operatorVariable = "ROLLCALL_OPERATOR"

// operatorName is who decides: $ROLLCALL_OPERATOR, or whoever is logged in.
func operatorName() (string, error) {
	if name := os.Getenv(operatorVariable); name != "" {
		return name, nil
	}
	u, err := user.Current()
	if err != nil || u.Username == "" {
		return "", fmt.Errorf("nobody knows who decides: %w\nhint: set ROLLCALL_OPERATOR to your name", cmp.Or(err, errors.New("this user has no name")))
	}
	return u.Username, nil
}

// decide writes the decision down as an event that is due, for a worker to take into the queue, and waits until it is folded. So
// it works beside a running service whatever its queue is, and what is decided while no worker runs is not lost. The
// decision is later than all that it decides on, by whatever clock.
func (c *cli) decide(ctx context.Context, s store.Store, source string, e operator.Event, d deciding, after ...directory.Version) error {
	now, err := s.Clock(ctx)
	if err != nil {
		return err
	}
	e.Occurred = now.UTC().Truncate(time.Microsecond)
	for _, v := range after {
		if next := v.Time().Add(time.Microsecond); next.After(e.Occurred) {
			e.Occurred = next
		}
	}
	e.ID, e.Reason = operator.NewID(e.Occurred), d.reason
	if e.By, err = operatorName(); err != nil {
		return err
	}
	body, err := e.Body()
	if err != nil {
		return fmt.Errorf("%w: %w\nhint: --reason and $ROLLCALL_OPERATOR are short and plain", errUsage, err)
	}
	key := store.EventKey{Source: source, ID: e.ID}
	if err := writeDown(ctx, s, key, e, body, now); err != nil {
		return err
	}
	return c.awaitDecision(ctx, s, key, d.wait)
}

// writeDown parks the decision, due at once.
func writeDown(ctx context.Context, s store.Store, key store.EventKey, e operator.Event, body []byte, now time.Time) error {
	sum := sha256.Sum256(body)
	entry := store.Entry{
		EventKey: key, Type: e.Type, Subject: e.In(key.Source).SubjectID(), Directory: e.Directory, Organization: e.Organization, Occurred: e.Occurred,
		Received: now, Origin: string(queue.Operator), Outcome: store.Parked, Reason: waiting, BodySHA256: hex.EncodeToString(sum[:]), Binary: version,
	}
	dead := store.Dead{
		EventKey: key, Type: e.Type, Directory: e.Directory, Class: "operator", Error: waiting, Body: body, Origin: entry.Origin, Received: now, Due: now,
	}
	return s.Update(ctx, nil, func(ctx context.Context, tx store.Tx) error {
		return tx.Save(ctx, store.Batch{Ledger: []store.Entry{entry}, Dead: []store.Dead{dead}})
	})
}

// awaitDecision looks until the ledger says what came of the decision, and tells it.
func (c *cli) awaitDecision(ctx context.Context, s store.Store, key store.EventKey, wait time.Duration) error {
	var entry store.Entry
	done, err := poll(ctx, wait, func() (done bool, err error) {
		entry, err = s.Event(ctx, key.Source, key.ID)
		return entry.Outcome != store.Parked || entry.Reason != waiting, err
	})
	switch {
	case err != nil:
		return fmt.Errorf("the decision is written down as %s: %w", key.ID, err)
	case !done:
		c.say("%s is written down; it counts as soon as a worker runs", key.ID)
		return nil
	case entry.Outcome == store.Applied:
		c.say("%s is folded; `rollcall events show %s` shows what it changed", key.ID, key.ID)
		return nil
	case entry.Outcome == store.Superseded:
		return fmt.Errorf("%s changed nothing: something newer was said meanwhile\nhint: look again, and decide again if it is still needed", key.ID)
	default:
		return fmt.Errorf("%s was not folded: %s\nhint: `rollcall dead show %s` shows it whole", key.ID, entry.Reason, key.ID)
	}
}

// poll asks until it is so, or the time is over.
func poll(ctx context.Context, wait time.Duration, is func() (bool, error)) (bool, error) {
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	ticker := time.NewTicker(lookAgain)
	defer ticker.Stop()
	for {
		if done, err := is(); done || err != nil {
			return done, err
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-timeout.C:
			return false, nil
		case <-ticker.C:
		}
	}
}
