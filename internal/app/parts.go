package app

import (
	"context"
	"errors"
	"fmt"

	"github.com/rs/zerolog"

	"github.com/rollcallhq/rollcall/handlers"
)

// part is something that runs until its context ends.
type part struct {
	name string
	run  func(ctx context.Context) error
}

// failure is how a part ended that should not have.
type failure struct {
	part string
	err  error
}

// runInOrder starts all parts and waits until the context ends or one of them does, which none should: a process of which
// a part is dead must not look alive. That is logged at once. Then it ends them one after the other, in the order given,
// each waited for before the next is told. Its error begins with that of the part that failed first, in which case the
// others' contexts have the cause handlers.ErrNoDrain.
func runInOrder(ctx context.Context, log zerolog.Logger, parts []part) error {
	base := context.WithoutCancel(ctx)
	stops := make([]context.CancelCauseFunc, len(parts))
	ended := make([]chan struct{}, len(parts))
	failed := make(chan failure, len(parts))
	for i, p := range parts {
		var partCtx context.Context
		partCtx, stops[i] = context.WithCancelCause(base)
		ended[i] = make(chan struct{})
		go func() {
			defer close(ended[i])
			if err := p.run(partCtx); err != nil {
				failed <- failure{p.name, err}
			} else if partCtx.Err() == nil {
				failed <- failure{p.name, errEnded}
			}
		}()
	}
	var all []error
	var cause error
	select {
	case <-ctx.Done():
	case first := <-failed:
		log.Error().Str("part", first.part).Err(first.err).Msg("a part failed; stopping")
		all, cause = append(all, first.wrapped()), handlers.ErrNoDrain
	}
	for i := range parts {
		stops[i](cause)
		<-ended[i]
	}
	close(failed)
	for f := range failed {
		all = append(all, f.wrapped())
	}
	return errors.Join(all...)
}

var errEnded = errors.New("ended by itself")

func (f failure) wrapped() error { return fmt.Errorf("%s: %w", f.part, f.err) }
