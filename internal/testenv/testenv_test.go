package testenv_test

import (
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rollcallhq/rollcall/internal/testenv"
)

func TestServersAreGoneWhenTheirTestEnds(t *testing.T) {
	t.Parallel()
	var pid int
	t.Run("a test", func(t *testing.T) { pid = testenv.Redis(t).Pid() })
	if err := syscall.Kill(pid, 0); pid == 0 || err == nil {
		t.Errorf("redis-server %d is still there after its test", pid)
	}
}

func TestDatabasesAreFreshAndSurviveARestart(t *testing.T) {
	t.Parallel()
	server := testenv.Postgres(t)
	for range 2 {
		url := server.Database(t)
		run := func(statement string) {
			t.Helper()
			conn, err := pgx.Connect(t.Context(), url)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close(t.Context()) }()
			if _, err := conn.Exec(t.Context(), statement); err != nil {
				t.Fatal(err)
			}
		}
		run("CREATE TABLE here (id int)")
		server.Crash()
		server.Start(t)
		run("SELECT id FROM here")
	}
}

func TestACopyHasWhatItsModelHasAndIsNobodyElses(t *testing.T) {
	t.Parallel()
	filled := 0
	run := func(url, statement string) (n int, err error) {
		conn, err := pgx.Connect(t.Context(), url)
		if err != nil {
			return 0, err
		}
		defer func() { _ = conn.Close(t.Context()) }()
		rows, err := conn.Exec(t.Context(), statement)
		return int(rows.RowsAffected()), err
	}
	for range 2 {
		url := testenv.Copy(t, "a model", func(url string) error {
			filled++
			_, err := run(url, "CREATE TABLE here AS SELECT 1 AS id")
			return err
		})
		if n, err := run(url, "UPDATE here SET id = 2 WHERE id = 1"); n != 1 || err != nil {
			t.Errorf("of what its model has, the copy has %d rows, %v; want 1", n, err)
		}
	}
	if filled != 1 {
		t.Errorf("the model was filled %d times, want once", filled)
	}
}
