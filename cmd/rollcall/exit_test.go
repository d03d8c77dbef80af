package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/internal/app"
	"github.com/rollcallhq/rollcall/internal/audit"
	"github.com/rollcallhq/rollcall/internal/config"
	"github.com/rollcallhq/rollcall/internal/rehearsal"
	"github.com/rollcallhq/rollcall/internal/store"
)

func TestEveryErrorHasItsExitCodeHoweverItIsWrapped(t *testing.T) {
	t.Parallel()
	cases := map[error]int{
		nil:                  0,
		errors.New("other"):  1,
		context.Canceled:     1,
		store.ErrData:        1,
		errUsage:             2,
		config.ErrInvalid:    3,
		store.ErrEnvironment: 3,
		store.ErrNotFound:    4,
		errCheck:             5,
		rehearsal.ErrTenant:  5,
		app.ErrPending:       6,
		store.ErrTooOld:      6,
		store.ErrChecksum:    6,
		errUntold:            7,
		errWarn:              8,
		audit.ErrApplication: 7,
		audit.ErrProvider:    7,
	}
	for err, want := range cases {
		wrapped := []error{err}
		if err != nil {
			wrapped = append(wrapped, fmt.Errorf("worker: %w\nhint: do", err), errors.Join(errors.New("close"), fmt.Errorf("a: %w: %w", err, errors.New("cause"))))
		}
		for _, err := range wrapped {
			if got := exitCode(err); got != want {
				t.Errorf("exitCode(%v) = %d, want %d", err, got, want)
			}
		}
	}
	for _, e := range exitCodes {
		if _, ok := cases[e.err]; !ok {
			t.Errorf("%v has an exit code and no case here", e.err)
		}
	}
}

func TestWhatIsReportedSaysWhatToDoAndSteersNoTerminal(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"nothing":        {nil, ""},
		"with a hint":    {errors.New("read it: denied\nhint: ask"), "rollcall: read it: denied\nhint: ask\n"},
		"without one":    {errors.New("dial:\n\tport 1"), "rollcall: dial:\n  port 1\nhint: `rollcall doctor` examines everything that a process needs\n"},
		"a usage error":  {fmt.Errorf("%w: no such flag\nhint: --help", errUsage), "rollcall: no such flag\nhint: --help\n"},
		"a found thing":  {fmt.Errorf("%w: 1 of 2", errCheck), "rollcall: not all is well: 1 of 2\n"},
		"from outside":   {errors.New("event \x1b[31m\u009b\u202e: not\r there\nhint: none"), "rollcall: event �[31m��: not� there\nhint: none\n"},
		"several errors": {errors.Join(errors.New("a"), errors.New("b\nhint: c")), "rollcall: a\nb\nhint: c\n"},
	} {
		var talk bytes.Buffer
		report(&talk, c.err)
		if talk.String() != c.want {
			t.Errorf("%s: report prints %q, want %q", name, talk.String(), c.want)
		}
	}
}

func TestSinceIsATimeAgoOrATime(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"24h": now.Add(-24 * time.Hour), "7d": now.AddDate(0, 0, -7), "0s": now, "2026-01-02T15:04:05Z": time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC),
	} {
		if got, err := parseSince(text, now); err != nil || !got.Equal(want) {
			t.Errorf("parseSince(%q) = %s, %v, want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "-1h", "yesterday", "2026-01-02"} {
		if got, err := parseSince(text, now); err == nil {
			t.Errorf("parseSince(%q) = %s, want an error", text, got)
		}
	}
}

func TestAgoIsSaidAsPeopleSayIt(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		66*time.Minute + 10*time.Second: "1h6m ago", 10 * time.Minute: "10m ago", 40 * time.Second: "40s ago", -40 * time.Second: "40s ahead", -2 * time.Hour: "2h0m ahead",
	} {
		if got := ago(d); got != want {
			t.Errorf("ago(%s) = %q, want %q", d, got, want)
		}
	}
}

func TestHealthAsksWhereTheProcessListens(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		":9090": "http://127.0.0.1:9090/readyz", "0.0.0.0:1": "http://127.0.0.1:1/readyz", "[::]:1": "http://127.0.0.1:1/readyz",
		"[::1]:1": "http://[::1]:1/readyz", "localhost:1": "http://localhost:1/readyz", "10.0.0.1:1": "http://10.0.0.1:1/readyz",
	} {
		if got, err := readyURL(address); got != want || err != nil {
			t.Errorf("readyURL(%q) = %q, %v, want %q", address, got, err, want)
		}
	}
	if got, err := readyURL(""); !errors.Is(err, errUsage) {
		t.Errorf("readyURL of none = %q, %v, want a usage error", got, err)
	}
}

func TestTablesStandInColumnsWhateverIsEmpty(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	tab := table{head: []string{"A", "BB", "C"}}
	tab.add("one", "", "")
	tab.add("", "two\tx", "three")
	if err := tab.write(&out); err != nil {
		t.Fatal(err)
	}
	if want := "A    BB     C\none\n     two�x  three\n"; out.String() != want {
		t.Errorf("write prints\n%swant\n%s", out.String(), want)
	}
}
