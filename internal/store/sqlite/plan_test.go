package sqlite

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/store/table"
)

// A statement that finds its rows by less than their whole key reads a directory from end to end, for every key.
func TestLoadsFindTheirRowsByTheirWholeKey(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), store.Config{DSN: filepath.Join(t.TempDir(), "rollcall.db"), Environment: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if _, err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	for statement, keys := range map[string][]string{
		eventsByID:      {"source=? AND id=?"},
		directoriesByID: {"source=? AND directory=?"},
		usersByID:       {"source=? AND directory=? AND user_id=?"},
		usersByKey:      {"source=? AND directory=? AND account_key=?"},
		groupsByID:      {"source=? AND directory=? AND group_id=?"},
		edgesByID:       {"source=? AND directory=? AND group_id=? AND user_id=?"},
		accountsByKey:   {"source=? AND directory=? AND account_key=?"},
		grantsByKey:     {"source=? AND directory=? AND account_key=?"},
		edgesOf:         {"source=? AND directory=? AND account_key=?", "source=? AND directory=? AND user_id=?"},
		edgesWith:       {"source=? AND directory=? AND account_key=?", "source=? AND directory=? AND group_id=? AND user_id=?"},
		groupsOf:        {"source=? AND directory=? AND account_key=?", "source=? AND directory=? AND user_id=?", "source=? AND directory=? AND group_id=?"},
		edgesOfUser:     {"source=? AND directory=? AND user_id=?"},
		groupsOfUser:    {"source=? AND directory=? AND user_id=?", "source=? AND directory=? AND group_id=?"},
	} {
		rows, err := s.write.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+statement, "[]")
		plan, err := table.All(rows, err, func(row table.Scanner) (line string, err error) {
			var unused int
			err = row.Scan(&unused, &unused, &unused, &line)
			return line, err
		})
		if err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
		var searches []string
		for _, line := range plan {
			if strings.HasPrefix(line, "SEARCH") {
				searches = append(searches, line[strings.Index(line, "(")+1:len(line)-1])
			}
		}
		if got, want := strings.Join(searches, "; "), strings.Join(keys, "; "); got != want {
			t.Errorf("%s\nsearches by %s\nwant %s", statement, got, want)
		}
	}
}
