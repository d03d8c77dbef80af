package simulator

import (
	"cmp"
	"container/heap"
	"context"
	"sync"
	"time"
)

// Webhooks tells a receiver of what happens in a World while it happens. The world's clock has to run.
type Webhooks struct {
	World  *World
	Sender *Sender // its Repeat, Window and Delay are best left alone
	Faults Faults

	mu   sync.Mutex // guards what follows
	down bool
	told WebhookStats
}

// WebhookStats are what became of a world's events so far.
type WebhookStats struct {
	Events   int // that happened
	Lost     int // that are never delivered
	Repeated int // that are delivered twice
	Waiting  int // deliveries that are yet to be given to the sender
}

// SetDown begins or ends an outage: what should arrive meanwhile never does.
func (h *Webhooks) SetDown(down bool) { h.note(func() { h.down = down }) }

// Stats returns what became of the events so far.
func (h *Webhooks) Stats() WebhookStats {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.told
}

func (h *Webhooks) note(what func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	what()
}

// Run delivers from the log's first event on. Once done is closed it delivers what there is and returns; it returns earlier when the context
// ends. The error is the sender's, of the first delivery that was given up, or the context's.
func (h *Webhooks) Run(ctx context.Context, done <-chan struct{}) (Stats, error) {
	queue := make(chan post)
	var courier sync.WaitGroup
	courier.Go(func() {
		defer close(queue)
		h.carry(ctx, done, queue)
	})
	stats, err := h.Sender.follow(ctx, queue)
	courier.Wait()
	return stats, err
}

// carry gives each delivery to the queue when its time has come.
func (h *Webhooks) carry(ctx context.Context, done <-chan struct{}, queue chan<- post) {
	var due arrivals
	for n := 0; ; {
		n = h.take(n, &due)
		if !h.give(ctx, queue, &due) {
			return
		}
		select {
		case <-done:
			if n == h.World.Events() && len(due) == 0 {
				return
			}
		default:
		}
		if !h.rest(ctx, n, done, due) {
			return
		}
	}
}

// take draws when the events from the n-th on arrive, and returns how many there are.
func (h *Webhooks) take(n int, due *arrivals) int {
	for end := h.World.Events(); n < end; n++ {
		e := h.World.event(n)
		times := h.Faults.arrivals(e.eventID(), e.id.time())
		for i, late := range times {
			heap.Push(due, arrival{at: e.id.time().Add(late), n: n, repeat: i > 0})
		}
		h.note(func() {
			h.told.Events++
			h.told.Waiting += len(times)
			switch len(times) {
			case 0:
				h.told.Lost++
			case 2:
				h.told.Repeated++
			}
		})
	}
	return n
}

// give hands over what is due; false when the context ended first.
func (h *Webhooks) give(ctx context.Context, queue chan<- post, due *arrivals) bool {
	for len(*due) > 0 && !(*due)[0].at.After(h.World.Now()) {
		a, _ := heap.Pop(due).(arrival)
		down := false
		h.note(func() {
			h.told.Waiting--
			if down = h.down; down && !a.repeat {
				h.told.Lost++
			}
		})
		if down {
			continue
		}
		e := h.World.event(a.n)
		select {
		case queue <- post{Delivery: e.delivery(), repeat: a.repeat}:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// rest waits until something is due, or happens, or nothing will any more; false when the context ended first.
func (h *Webhooks) rest(ctx context.Context, n int, done <-chan struct{}, due arrivals) bool {
	var next <-chan time.Time
	if len(due) > 0 {
		timer := time.NewTimer(due[0].at.Sub(h.World.Now()))
		defer timer.Stop()
		next = timer.C
	}
	more := h.World.more(n)
	select {
	case <-done:
		if next == nil {
			return true
		}
		done = nil // what is left is waited for
	default:
	}
	select {
	case <-next:
	case <-more:
	case <-done:
	case <-ctx.Done():
		return false
	}
	return true
}

// event returns an entry of the log.
func (w *World) event(n int) entry {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return *w.log.at(n)
}

// arrival is when an event arrives.
type arrival struct {
	at     time.Time
	n      int
	repeat bool
}

// arrivals is a heap of them, by time. It implements heap.Interface.
type arrivals []arrival

func (a arrivals) Len() int { return len(a) }
func (a arrivals) Less(i, j int) bool {
	return cmp.Or(a[i].at.Compare(a[j].at), cmp.Compare(a[i].n, a[j].n)) < 0
}
func (a arrivals) Swap(i, j int) { a[i], a[j] = a[j], a[i] }

// Push implements heap.Interface.
func (a *arrivals) Push(one any) {
	if one, ok := one.(arrival); ok {
		*a = append(*a, one)
	}
}

// Pop implements heap.Interface.
func (a *arrivals) Pop() any {
	last := len(*a) - 1
	one := (*a)[last]
	*a = (*a)[:last]
	return one
}
