package sqlite

import (
	"path/filepath"
	"testing"

	"github.com/rollcallhq/rollcall/internal/store"
)

func TestMarksAreMadeBesideTheApplicationsTables(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), store.Config{DSN: filepath.Join(t.TempDir(), "application.db"), Environment: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	marks := Marks("rollcall_bound")
	for range 2 {
		if err := marks.Create(t.Context(), s.Write); err != nil {
			t.Fatalf("Create() = %v", err)
		}
	}
	if err := marks.Add(t.Context(), s.Write, []store.Mark{{Seq: 1, Binding: "create"}}); err != nil {
		t.Fatal(err)
	}
	if got, err := marks.Of(t.Context(), s.Write, []int64{1, 2}); err != nil || len(got) != 1 {
		t.Errorf("Of() = %v, %v, want one", got, err)
	}
}
