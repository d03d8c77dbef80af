package main

import (
	"database/sql"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/rollcallhq/rollcall/handlers"
)

var update = flag.Bool("update", false, "write what the stories expect anew")

// patience is how long a story waits for something to become true.
const patience = 20 * time.Second

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"rollcall": main}) }

// The stories are what an operator types and sees. Besides testscript's own commands they know those of storyCommands.
func TestStories(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", UpdateScripts: *update, RequireExplicitExec: true, RequireUniqueNames: true, Cmds: storyCommands,
		Setup: func(env *testscript.Env) error {
			env.Setenv("GORACE", "atexit_sleep_ms=0") // the race detector's second at every exit
			env.Setenv("SIGNING", "a signing secret of the stories")
			env.Setenv("OTHER", "another signing secret of the stories")
			examples, err := filepath.Abs("../../examples")
			env.Setenv("EXAMPLES", examples)
			return err
		},
	})
}

var storyCommands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"exits":       exits,
	"port":        port,
	"certificate": certificate,
	"ready":       ready,
	"eventually":  eventually,
	"terminate":   terminate,
	"value":       value,
	"shape":       shape,
	"bytes":       writeBytes,
	"harmless":    harmless,
	"sqlite":      runSQLite,
	"answers":     answers,
}

// exits CODE COMMAND ARGS...: runs the command, which must exit with the code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	want, err := strconv.Atoi(args[0])
	if neg || err != nil || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND ARGS...")
	}
	var failed *exec.ExitError
	err, got := ts.Exec(args[1], args[2:]...), 0
	if errors.As(err, &failed) {
		got = failed.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("it exited with %d, want %d", got, want)
	}
}

// port NAME...: sets each variable to a port that nobody has.
func port(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		ts.Check(err)
		ts.Setenv(name, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
		defer func() { _ = l.Close() }() // when all are known, so that they differ
	}
}

// certificate: makes cert.pem and key.pem for localhost.
func certificate(ts *testscript.TestScript, _ bool, _ []string) {
	_, _, err := handlers.WriteSelfSigned(ts.MkAbs("."), []string{"localhost", "127.0.0.1"})
	ts.Check(err)
}

// ready PORT: waits until the process whose operators' listener has the port is ready.
func ready(ts *testscript.TestScript, _ bool, args []string) {
	wait(ts, "the process is ready", func() error {
		res, err := http.Get("http://127.0.0.1:" + args[0] + "/readyz")
		if err != nil {
			return err
		}
		defer func() { _ = res.Body.Close() }()
		if res.StatusCode != http.StatusOK {
			return errors.New(res.Status)
		}
		return nil
	})
}

// eventually COMMAND ARGS...: runs the command until it exits 0.
func eventually(ts *testscript.TestScript, _ bool, args []string) {
	wait(ts, strings.Join(args, " "), func() error { return ts.Exec(args[0], args[1:]...) })
}

func wait(ts *testscript.TestScript, what string, is func() error) {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := is()
		if err == nil {
			return
		}
		select {
		case <-deadline.C:
			ts.Fatalf("after %s still not: %s: %v", patience, what, err)
		case <-ticker.C:
		}
	}
}

// terminate: sends SIGTERM to what runs in the background. `wait` then checks that it exits 0.
func terminate(ts *testscript.TestScript, _ bool, _ []string) {
	for _, cmd := range ts.BackgroundCmds() {
		ts.Check(cmd.Process.Signal(syscall.SIGTERM))
	}
}

// value VARIABLE KEY: sets the variable to what the JSON object on standard output, or the first of a list, has under the
// key.
func value(ts *testscript.TestScript, _ bool, args []string) {
	text := ts.ReadFile("stdout")
	if list := []json.RawMessage{}; json.Unmarshal([]byte(text), &list) == nil && len(list) > 0 {
		text = string(list[0])
	}
	var object map[string]any
	ts.Check(json.Unmarshal([]byte(text), &object))
	found, ok := object[args[1]]
	if !ok {
		ts.Fatalf("standard output has no %q", args[1])
	}
	ts.Setenv(args[0], fmt.Sprint(found))
}

// changing are the parts of an output that no two runs have in common.
var changing = []struct {
	pattern *regexp.Regexp
	name    string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+Z`), "TIME"},
	{regexp.MustCompile(`good until \d{4}-\d\d-\d\d`), "good until DATE"},
	{regexp.MustCompile(`event_[0-9A-Z]{26}`), "EVENT"},
	{regexp.MustCompile(`\b[0-9a-f]{64}\b`), "SHA256"},
	{regexp.MustCompile(`"config_digest": "[0-9a-f]{12}"`), `"config_digest": "DIGEST"`},
	{regexp.MustCompile(`(configuration  +|digest )[0-9a-f]{12}`), "${1}DIGEST"},
	{regexp.MustCompile(`127\.0\.0\.1:\d+, 127\.0\.0\.1:\d+ held`), "127.0.0.1:PORT, 127.0.0.1:OPS held"},
	{regexp.MustCompile(`"delivery": "[0-9A-Z]{26}"`), `"delivery": "DELIVERY"`},
	{regexp.MustCompile(`"(seconds|oldest_age_seconds)": [0-9.e-]+`), `"$1": 0`},
	{regexp.MustCompile(`\b\d+(\.\d+)?(ms|µs|s) from`), "0ms from"},
}

// shape FILE: writes standard output to the file, with what changes from run to run replaced.
func shape(ts *testscript.TestScript, _ bool, args []string) {
	text := ts.ReadFile("stdout")
	for _, c := range changing {
		text = c.pattern.ReplaceAllString(text, c.name)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

// bytes FILE TEXT: writes the text, with Go's escapes in it, to the file.
func writeBytes(ts *testscript.TestScript, _ bool, args []string) {
	text, err := strconv.Unquote(`"` + strings.ReplaceAll(args[1], `"`, `\"`) + `"`)
	ts.Check(err)
	ts.Check(os.WriteFile(filepath.Clean(ts.MkAbs(args[0])), []byte(text), 0o600))
}

// harmless COMMAND ARGS...: runs the command, whose output must have nothing in it that a terminal obeys.
func harmless(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(ts.Exec(args[0], args[1:]...))
	for _, r := range ts.ReadFile("stdout") + ts.ReadFile("stderr") {
		if r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) {
			ts.Fatalf("%s prints %U", strings.Join(args, " "), r)
		}
	}
}

// sqlite DATABASE FILE...: runs the files' statements in the SQLite file, which it makes when it is not there.
func runSQLite(ts *testscript.TestScript, _ bool, args []string) {
	db, err := sql.Open("sqlite", "file:"+ts.MkAbs(args[0])+"?_pragma=busy_timeout(5000)")
	ts.Check(err)
	defer func() { ts.Check(db.Close()) }()
	for _, file := range args[1:] {
		_, err := db.Exec(ts.ReadFile(file))
		ts.Check(err)
	}
}

// answers DATABASE QUERY WANT: the SQLite file answers the query with this one value.
func answers(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: answers DATABASE QUERY WANT")
	}
	db, err := sql.Open("sqlite", "file:"+ts.MkAbs(args[0])+"?_pragma=busy_timeout(5000)")
	ts.Check(err)
	defer func() { ts.Check(db.Close()) }()
	var got string
	ts.Check(db.QueryRow(args[1]).Scan(&got))
	if got != args[2] {
		ts.Fatalf("%s: %q, want %q", args[1], got, args[2])
	}
}
