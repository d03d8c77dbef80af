package worker_test

import (
	"bytes"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/rs/zerolog"

	"github.com/rollcallhq/rollcall/internal/worker"
)

// lines is a log that a test reads while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), text)
}

func TestHeldDirectoryIsAnAlarmUntilItComesBack(t *testing.T) {
	everywhere(t, settings{}, func(t *testing.T, r *rig) {
		log, registry := &lines{}, prometheus.NewRegistry()
		held := func(n string) bool {
			return testutil.GatherAndCompare(registry, strings.NewReader(`
				# HELP rollcall_directories_held Directories that the provider deleted and whose accounts still count, because nobody decided; their leavers are not announced.
				# TYPE rollcall_directories_held gauge
				rollcall_directories_held{source="real"} 0
				rollcall_directories_held{source="workos"} `+n+"\n"), "rollcall_directories_held") == nil
		}
		r.send(joins("e1", 1, "ada"), directoryEnds("e2", 2))
		r.start(func(c *worker.Config) { c.Log, c.Registerer = zerolog.New(log), registry })
		r.until("the gauge says one", func() bool { return held("1") })
		if got := r.changes(); slices.ContainsFunc(got, func(c string) bool { return strings.HasPrefix(c, "directory.") }) {
			t.Errorf("changes: %q; a removal that is held tells of no directory", got)
		}
		back := directoryEnds("e3", 3)
		back.Type, back.Removes = "dsync.activated", false
		r.send(back)
		r.until("the gauge says none", func() bool { return held("0") })
		if n := log.count(`"directory":"directory_1"`); n != 1 {
			t.Errorf("%d lines of the directory, want one alarm", n)
		}
		if got := r.changes(); !slices.Contains(got, "directory.activated") {
			t.Errorf("changes: %q; it came back, and nothing says so", got)
		}
	})
}
