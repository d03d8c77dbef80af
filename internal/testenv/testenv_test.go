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
