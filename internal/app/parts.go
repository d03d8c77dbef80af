package app

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// part is something that runs until its context ends.
type part struct {
	name string
	run  func(ctx context.Context) error
}

// runInOrder starts all parts and waits until the context ends or one of them does, which none should: a process of which
// a part is dead must not look alive. Then it ends them one after the other, in the order given, each waited for before
// the next is told. Its error begins with that of the part that failed first.
func runInOrder(ctx context.Context, parts []part) error {
	base := context.WithoutCancel(ctx)
	stops := make([]context.CancelFunc, len(parts))
	ended := make([]chan struct{}, len(parts))
	failed := make(chan error, len(parts))
	first := make(chan struct{})
	var once sync.Once
	for i, p := range parts {
		var partCtx context.Context
		partCtx, stops[i] = context.WithCancel(base)
		ended[i] = make(chan struct{})
		go func() {
			defer close(ended[i])
			if err := p.run(partCtx); err != nil {
				failed <- fmt.Errorf("%s: %w", p.name, err)
			} else if partCtx.Err() == nil {
				failed <- fmt.Errorf("%s: ended by itself", p.name)
			}
			once.Do(func() { close(first) })
		}()
	}
	select {
	case <-ctx.Done():
	case <-first:
	}
	for i := range parts {
		stops[i]()
		<-ended[i]
	}
	close(failed)
	var all []error
	for err := range failed {
		all = append(all, err)
	}
	return errors.Join(all...)
}
