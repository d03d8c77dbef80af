package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rollcallhq/rollcall/internal/testenv"
)

// command runs a command line in this process and returns its exit code and what it prints.
func command(t *testing.T, args ...string) (code int, out, talk string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = run(t.Context(), args, strings.NewReader(""), &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

func TestCommandsOnPostgreSQLAndRedis(t *testing.T) {
	t.Parallel()
	redis := testenv.Redis(t, "appendfsync everysec")
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("a signing secret of the tests"), 0o600); err != nil {
		t.Fatal(err)
	}
	settings := []string{
		"--set", "queue.backend=redis", "--set", "queue.redis.addrs=" + redis.Addr(), "--set", "store.backend=postgres", "--set", "store.dsn=" + testenv.Database(t),
		"--set", "public.plain_http=true", "--set", "sources.workos.provider=workos", "--set", "sources.workos.secret=file:" + secret,
	}
	for _, step := range []struct {
		name string
		args []string
		code int
		want []string
	}{
		{"before the schema is there", []string{"accounts", "list"}, exitPending, []string{"hint: run `rollcall migrate`"}},
		{"the doctor of it", []string{"doctor"}, exitCheck, []string{"WRONG  database", "the database has pending migrations", "WRONG  queue", "the queue is of class everysec"}},
		{"migrate", []string{"migrate"}, exitOK, []string{"applied 0001_"}},
		{"accounts", []string{"accounts", "list", "--active"}, exitOK, []string{"ACCOUNT"}},
		{"accounts of somebody", []string{"accounts", "show", "nobody"}, exitNotFound, []string{"hint: "}},
		{"events", []string{"events", "list", "-o", "json", "--limit", "1"}, exitOK, []string{"[]"}},
		{"dead", []string{"dead", "list"}, exitOK, []string{"PARKED"}},
		{"a risk that is accepted", []string{"doctor", "--set", "sources.workos.accept_loss_until_reconcile=true"}, exitOK, []string{"0 waiting, durability everysec", "postgres, schema up to date"}},
		{"another environment", []string{"events", "list", "--set", "environment=production"}, exitConfig, []string{"another environment", "hint: "}},
		{"the queue", []string{"queue"}, exitOK, []string{"0 waiting, durability everysec", "7          0      -       false"}},
	} {
		code, out, talk := command(t, append(step.args, settings...)...)
		if code != step.code {
			t.Errorf("%s: exit code %d, want %d; it printed\n%s%s", step.name, code, step.code, out, talk)
		}
		for _, want := range step.want {
			if !strings.Contains(out+talk, want) {
				t.Errorf("%s: it printed\n%s%s\nwant %q", step.name, out, talk, want)
			}
		}
	}
	code, out, _ := command(t, append([]string{"queue", "-o", "json"}, settings...)...)
	var got queueJSON
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != exitOK || len(got.Partitions) != 8 || got.Partitions[3].Leased == nil || *got.Partitions[3].Leased {
		t.Errorf("queue -o json: exit code %d, %v:\n%s", code, err, out)
	}
	redis.Stop()
	if code, _, talk := command(t, append([]string{"queue"}, settings...)...); code != exitFailed || !strings.Contains(talk, "the queue cannot be reached") || !strings.Contains(talk, "hint: ") {
		t.Errorf("queue without redis: exit code %d:\n%s", code, talk)
	}
}
