package simulator

import (
	"cmp"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"time"
)

// Faults are what befalls webhooks between a provider and whoever receives them. The zero value is none. What befalls one depends on Seed and
// its id alone. (That a provider emits something twice is its own doing: see [WorldConfig].)
type Faults struct {
	Seed     uint64
	Lost     float64       // share that never arrives
	Repeated float64       // share of the others that arrives twice
	Delay    time.Duration // that all have
	Reorder  time.Duration // that each has more, up to this much: they overtake each other within it
	Outages  []Outage      // in which what happens is never delivered
}

// Outage is from a time up to, but not including, another.
type Outage struct{ From, To time.Time }

// Check returns why there can be no such faults.
func (f Faults) Check() error {
	for name, share := range map[string]float64{"lost": f.Lost, "repeated": f.Repeated} {
		if !(share >= 0 && share <= 1) {
			return fmt.Errorf("the share that is %s is %g, not 0 to 1", name, share)
		}
	}
	if f.Delay < 0 || f.Reorder < 0 {
		return fmt.Errorf("a delay of %s to %s: nothing arrives before it happened", f.Delay, f.Delay+f.Reorder)
	}
	return nil
}

// arrivals are how long after it happened an event arrives, none or one time or two, in order.
func (f Faults) arrivals(id string, occurred time.Time) []time.Duration {
	r := rand.New(rand.NewPCG(f.Seed, uint64(chance(f.Seed, "arrivals", id)*(1<<53))))
	lost, repeated, first, second := r.Float64() < f.Lost, r.Float64() < f.Repeated, f.late(r), f.late(r)
	switch {
	case lost || slices.ContainsFunc(f.Outages, func(o Outage) bool { return !occurred.Before(o.From) && occurred.Before(o.To) }):
		return nil
	case repeated:
		return []time.Duration{min(first, second), max(first, second)}
	}
	return []time.Duration{first}
}

func (f Faults) late(r *rand.Rand) time.Duration {
	return f.Delay + time.Duration(r.Float64()*float64(f.Reorder))
}

// Arrivals are the deliveries as they arrive, at once: without what is lost, with what is repeated, in the order of their arrival.
func (f Faults) Arrivals(deliveries iter.Seq[Delivery]) []Delivery {
	type arrival struct {
		Delivery
		at time.Time
	}
	var all []arrival
	for d := range deliveries {
		for _, late := range f.arrivals(d.ID, d.Occurred) {
			all = append(all, arrival{d, d.Occurred.Add(late)})
		}
	}
	slices.SortStableFunc(all, func(a, b arrival) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.ID, b.ID)) })
	out := make([]Delivery, len(all))
	for i, a := range all {
		out[i] = a.Delivery
	}
	return out
}
