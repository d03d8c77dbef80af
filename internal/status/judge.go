package status

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Color is how things are.
type Color string

// The colors, the best first.
const (
	Green  Color = "green"  // the application follows
	Yellow Color = "yellow" // it follows, and something wants to be looked at
	Red    Color = "red"    // somebody may have access who should not, or nothing is done any more
)

var colors = []Color{Red, Yellow, Green}

// Verdict is what a look means.
type Verdict struct {
	Color   Color
	Reasons []Reason // the worst first; none of them is green
}

// Reason is why it is not green, and what to do.
type Reason struct {
	Color    Color
	What, Do string
}

// What is too long, or too old.
const (
	queueStands    = time.Minute      // that a delivery waits in the queue
	leaverWaits    = time.Minute      // that a leaver's change waits for the application
	leaverSlow     = 5 * time.Minute  // from a leaver's event to its effect
	bindingStands  = 5 * time.Minute  // that a change waits for the application
	providerLate   = 5 * time.Minute  // from an event's time to its coming, as a rule
	foldingLate    = 10 * time.Second // from its coming to its being folded, as a rule
	pollBehind     = 5 * time.Minute  // that the log was not read to its end
	pollIdle       = time.Minute      // that nobody was to read it
	pollTurns      = 4                // how many times it was to be read, when they are longer than that
	pollLost       = 2 * time.Hour
	lately         = 24 * time.Hour
	reconcileLate  = 26 * time.Hour // since a directory was compared with its listing, where reconcile.every is a day or less
	reconcileTakes = 2 * time.Hour  // more than reconcile.every
	secretOld      = 365 * 24 * time.Hour
	queueNearFull  = 80 // percent
)

// rules are all that is judged.
var rules = []func(Look) reasons{
	unready, queue, durability, leavers, slowLeavers, ended, follows, broken, failing, backlog, links, probes, unpolled, polls, reconciled, neverCompared, drift, dead, lags, secrets,
	inventory,
}

// Judge says what a look means. What was not seen is not judged: see Look.Unseen.
func Judge(l Look) Verdict { return judge(l, rules) }

func judge(l Look, rules []func(Look) reasons) Verdict {
	v := Verdict{Color: Green}
	for _, rule := range rules {
		v.Reasons = append(v.Reasons, rule(l)...)
	}
	slices.SortStableFunc(v.Reasons, func(a, b Reason) int {
		return cmp.Compare(slices.Index(colors, a.Color), slices.Index(colors, b.Color))
	})
	if len(v.Reasons) > 0 {
		v.Color = v.Reasons[0].Color
	}
	return v
}

// reasons gathers what a rule has to say.
type reasons []Reason

func (r *reasons) add(c Color, do, what string, args ...any) {
	*r = append(*r, Reason{Color: c, What: fmt.Sprintf(what, args...), Do: do})
}

// age is how old something is; 0 when its time is not known.
func (l Look) age(t time.Time) time.Duration {
	if t.IsZero() {
		return 0
	}
	return max(l.At.Sub(t), 0)
}

// Short writes a duration as people say it.
func Short(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	case d < 48*time.Hour:
		text := d.Round(time.Second).String()
		if whole, is := strings.CutSuffix(text, "m0s"); is {
			text = whole + "m"
		}
		if whole, is := strings.CutSuffix(text, "h0m"); is {
			text = whole + "h"
		}
		return text
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}
