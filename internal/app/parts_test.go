package app

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/rs/zerolog"

	"github.com/rollcallhq/rollcall/handlers"
)

// story is what parts did, in order. mu guards it.
type story struct {
	mu    sync.Mutex
	lines []string
}

func (s *story) add(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, line)
}

// waits is a part that runs until it is told to end, and then takes a moment.
func (s *story) waits(name string) part {
	return part{name, func(ctx context.Context) error {
		<-ctx.Done()
		s.add(name + " told")
		s.add(name + " ended")
		return nil
	}}
}

func TestPartsEndOneAfterTheOtherInTheirOrder(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	var s story
	begun := make(chan struct{})
	last := part{"last", func(ctx context.Context) error {
		close(begun)
		<-ctx.Done()
		s.add("last")
		return nil
	}}
	ended := make(chan error, 1)
	go func() {
		ended <- runInOrder(ctx, zerolog.Nop(), []part{s.waits("a"), s.waits("b"), s.waits("c"), last})
	}()
	<-begun
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("runInOrder = %v, want nil after an orderly end", err)
	}
	want := []string{"a told", "a ended", "b told", "b ended", "c told", "c ended", "last"}
	if !slices.Equal(s.lines, want) {
		t.Errorf("parts did %v, want %v", s.lines, want)
	}
}

func TestThePartThatFailsFirstEndsAllAndItsErrorLeads(t *testing.T) {
	t.Parallel()
	first, second := errors.New("first"), errors.New("second")
	var s story
	var log logged
	parts := []part{
		{"ends badly", func(ctx context.Context) error {
			<-ctx.Done()
			s.add(log.String() + context.Cause(ctx).Error())
			return second
		}},
		{"fails", func(context.Context) error { return first }},
		s.waits("other"),
	}
	err := runInOrder(t.Context(), zerolog.New(&log), parts)
	if !errors.Is(err, first) || !errors.Is(err, second) || !strings.HasPrefix(err.Error(), "fails: first\n") {
		t.Errorf("runInOrder = %v, want it to begin with that of the part that failed first", err)
	}
	line := `{"level":"error","part":"fails","error":"first","message":"a part failed; stopping"}` + "\n"
	if want := []string{line + handlers.ErrNoDrain.Error(), "other told", "other ended"}; !slices.Equal(s.lines, want) {
		t.Errorf("the other parts saw and did %q, want the failure logged before they are told: %q", s.lines, want)
	}
}

func TestAPartThatEndsByItselfIsAnError(t *testing.T) {
	t.Parallel()
	var s story
	err := runInOrder(t.Context(), zerolog.Nop(), []part{s.waits("other"), {"worker", func(context.Context) error { return nil }}})
	if err == nil || err.Error() != "worker: ended by itself" || len(s.lines) != 2 {
		t.Errorf("runInOrder = %v after %v, want an error that says who ended, and the other ended", err, s.lines)
	}
}
