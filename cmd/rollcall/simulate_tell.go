package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mattn/go-isatty"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/simulator"
)

// simulatedJSON is what a simulation did, and how much there is after it.
type simulatedJSON struct {
	Seed        uint64 `json:"seed"`
	Finished    bool   `json:"finished"` // all days were played, and each webhook accepted or lost
	People      int    `json:"people"`   // records that are not deleted
	Active      int    `json:"active"`
	Groups      int    `json:"groups"`
	Memberships int    `json:"memberships"` // of those who are active
	Events      int    `json:"events"`
	Accepted    int    `json:"accepted"` // webhooks
	Lost        int    `json:"lost"`
	Repeated    int    `json:"repeated"`
	GivenUp     int    `json:"given_up"`
	Requests    int    `json:"api_requests"`
}

// truthJSON is what must be true after a simulation.
type truthJSON struct {
	Source   string            `json:"source"`
	Accounts []trueAccountJSON `json:"accounts"` // everybody ever
	Groups   []trueGroupJSON   `json:"groups"`   // all there ever were
}

type trueAccountJSON struct {
	Directory string   `json:"directory"`
	Account   string   `json:"account"` // the account's key
	Name      string   `json:"name"`
	Email     string   `json:"email"`
	Active    bool     `json:"active"`
	Groups    []string `json:"groups"` // ids; of who is not active, none
}

type trueGroupJSON struct {
	Directory string `json:"directory"`
	ID        string `json:"id"`
	Name      string `json:"name"`
	Live      bool   `json:"live"`
}

// tell prints what was done, and writes what is true.
func (s *simulation) tell(stats simulator.Stats, finished bool) error {
	truth, counts, told := s.world.Truth(), s.world.Counts(), s.hooks.Stats()
	out := simulatedJSON{
		Seed: s.seed, Finished: finished, People: counts.Users, Active: counts.Active, Groups: counts.Groups, Events: told.Events,
		Accepted: stats.Accepted, Lost: told.Lost, Repeated: stats.Repeated, GivenUp: stats.Failed, Requests: s.api.Stats().Requests,
	}
	for _, a := range truth.Accounts {
		out.Memberships += len(a.Groups)
	}
	if s.truth != "" {
		if err := writeTruth(s.truth, truth); err != nil {
			return fmt.Errorf("--truth: %w\nhint: it is a file that can be written", err)
		}
	}
	if !finished && stats.Failed == 0 {
		s.say("stopped before the end")
	}
	t := table{head: []string{"PEOPLE", "ACTIVE", "GROUPS", "MEMBERSHIPS", "EVENTS", "ACCEPTED", "LOST", "REPEATED", "GIVEN UP", "API REQUESTS"}}
	var row []string
	for _, n := range []int{out.People, out.Active, out.Groups, out.Memberships, out.Events, out.Accepted, out.Lost, out.Repeated, out.GivenUp, out.Requests} {
		row = append(row, fmt.Sprint(n))
	}
	t.add(row...)
	return s.print(out, t)
}

// writeTruth writes the file whole, or not at all.
func writeTruth(name string, truth simulator.Expectation) error {
	draft, err := os.CreateTemp(filepath.Dir(name), ".truth-")
	if err != nil {
		return err
	}
	err = printJSON(draft, truthOf(truth))
	if closed := draft.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(draft.Name(), name)
	}
	if err != nil {
		_ = os.Remove(draft.Name())
	}
	return err
}

func truthOf(truth simulator.Expectation) truthJSON {
	out := truthJSON{Source: truth.Source, Accounts: []trueAccountJSON{}, Groups: []trueGroupJSON{}}
	for _, id := range slices.SortedFunc(maps.Keys(truth.Accounts), byID) {
		a := truth.Accounts[id]
		groups := slices.AppendSeq([]string{}, maps.Keys(a.Groups))
		slices.Sort(groups)
		out.Accounts = append(out.Accounts, trueAccountJSON{id.Directory, id.ID, a.Name, a.Email, a.Active, groups})
	}
	for _, id := range slices.SortedFunc(maps.Keys(truth.Groups), byID) {
		out.Groups = append(out.Groups, trueGroupJSON{id.Directory, id.ID, truth.Groups[id].Name, truth.Groups[id].Live})
	}
	return out
}

func byID(a, b directory.ID) int {
	return cmp.Or(cmp.Compare(a.Directory, b.Directory), cmp.Compare(a.ID, b.ID))
}

// bar shows how far something is: on a terminal as a bar in one line, elsewhere as plain lines.
type bar struct {
	out      io.Writer
	terminal bool
	shown    bool // a bar stands in the terminal's line
}

func newBar(out io.Writer) *bar {
	file, is := out.(*os.File)
	return &bar{out: out, terminal: is && isatty.IsTerminal(file.Fd())}
}

// every is how often it is to be shown.
func (b *bar) every() time.Duration {
	if b.terminal {
		return 200 * time.Millisecond
	}
	return 5 * time.Second
}

// show shows that a share of 0 to 1 is done.
func (b *bar) show(share float64, text string) {
	if !b.terminal {
		_, _ = fmt.Fprintln(b.out, text)
		return
	}
	const width = 24
	full := int(min(max(share, 0), 1) * width)
	_, _ = fmt.Fprintf(b.out, "\r\x1b[K[%s%s] %s", strings.Repeat("#", full), strings.Repeat(".", width-full), text)
	b.shown = true
}

// end leaves the line.
func (b *bar) end() {
	if b.shown {
		_, _ = fmt.Fprintln(b.out)
	}
	b.shown = false
}
