package rig

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Process is a `rollcall serve` that a test started, and stops by what it holds of it.
type Process struct {
	name string
	cmd  *exec.Cmd
	log  *Log
	done chan struct{} // closed when it has ended; err is its end
	err  error

	public, ops string // host:port
}

// Serve starts a process with these roles and settings (KEY=VALUE), and returns when it listens.
func (s *Site) Serve(t testing.TB, roles string, set ...string) *Process {
	t.Helper()
	p := s.Start(t, roles, set...)
	Until(t, p.name+" listens", func() bool {
		p.mustRun(t)
		at := p.addresses()
		p.public, p.ops = at["public"], at["ops"]
		return p.ops != "" && (p.public != "" || !strings.Contains(roles, "receiver"))
	})
	return p
}

// Start is Serve that does not wait.
func (s *Site) Start(t testing.TB, roles string, set ...string) *Process {
	t.Helper()
	s.started++
	p := &Process{name: fmt.Sprintf("process %d (%s)", s.started, roles), log: &Log{}, done: make(chan struct{})}
	p.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), Binary(t), s.arguments([]string{"serve", "--roles", roles}, set)...)
	p.cmd.Dir, p.cmd.Env = s.dir, environ(s.dir, s.env)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", p.name, err)
	}
	s.mu.Lock()
	s.logs = append(s.logs, p.log)
	s.mu.Unlock()
	go func() {
		defer close(p.done)
		p.err = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("the end of the log of %s:\n%s", p.name, tail(p.log.String(), 40))
		}
	})
	return p
}

// arguments puts the site's configuration after the command's words, and the settings last, where they win.
func (s *Site) arguments(command, set []string) []string {
	out := slices.Concat(command, []string{"--config", s.config})
	for _, pair := range slices.Concat(s.set, set) {
		out = append(out, "--set", pair)
	}
	return out
}

// commandWithin is how long a command may take. One that lists a whole directory keeps the provider's rate limits.
const commandWithin = 5 * time.Minute

// Command runs a command of the program to its end and returns its exit code and what it printed.
func (s *Site) Command(t testing.TB, words ...string) (code int, out, talk string) {
	t.Helper()
	binary := Binary(t) // which the first one makes, and that takes its time
	var stdout, stderr strings.Builder
	ctx, cancel := context.WithTimeout(t.Context(), commandWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, s.arguments(words, nil)...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = s.dir, environ(s.dir, s.env), &stdout, &stderr
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatalf("run %v: %v", words, err)
	}
	return cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()
}

// mustRun fails the test when the process has ended.
func (p *Process) mustRun(t testing.TB) {
	t.Helper()
	select {
	case <-p.done:
		t.Fatalf("%s ended by itself: %v\n%s", p.name, p.err, tail(p.log.String(), 20))
	default:
	}
}

func (p *Process) addresses() map[string]string {
	out := map[string]string{}
	for _, line := range p.log.Lines() {
		if line["message"] == "listening" {
			out[fmt.Sprint(line["listener"])] = fmt.Sprint(line["address"])
		}
	}
	return out
}

// Log returns what the process has said so far.
func (p *Process) Log() *Log { return p.log }

// URL is where the process takes deliveries of the source "workos".
func (p *Process) URL() string { return p.At("/webhooks/workos") }

// At is a path of the senders' listener.
func (p *Process) At(path string) string { return "https://" + p.public + path }

// Address is the senders' listener, host:port.
func (p *Process) Address() string { return p.public }

// Kill ends the process with SIGKILL and waits until it is gone.
func (p *Process) Kill() {
	_ = p.cmd.Process.Signal(syscall.SIGCONT)
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.done
}

// Terminate sends SIGTERM and returns at once.
func (p *Process) Terminate() { _ = p.cmd.Process.Signal(syscall.SIGTERM) }

// Ended returns the exit code of a process that ends, and fails the test when it does not.
func (p *Process) Ended(t testing.TB) int {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(within):
		t.Fatalf("%s does not end", p.name)
	}
	return p.cmd.ProcessState.ExitCode()
}

// OpsAddress is the host:port of the operators' listener.
func (p *Process) OpsAddress() string { return p.ops }

// Ops asks the operators' listener; the status is 0 when it does not answer.
func (p *Process) Ops(t testing.TB, path string) (status int, body string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.ops+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = response.Body.Close() }()
	text, _ := io.ReadAll(response.Body)
	return response.StatusCode, string(text)
}

// AwaitReady waits until the process says that it is ready.
func (p *Process) AwaitReady(t testing.TB) {
	t.Helper()
	Until(t, p.name+" is ready", func() bool {
		p.mustRun(t)
		status, _ := p.Ops(t, "/readyz")
		return status == http.StatusOK
	})
}

// Metric returns the value of a series, written as it is exposed: `rollcall_deliveries_total{outcome="accepted",source="workos"}`.
func (p *Process) Metric(t testing.TB, series string) float64 {
	t.Helper()
	n, shown := p.Shows(t, series)
	if !shown {
		t.Fatalf("%s shows no %s", p.name, series)
	}
	return n
}

// Shows is Metric of a series that may not be there yet.
func (p *Process) Shows(t testing.TB, series string) (n float64, shown bool) {
	t.Helper()
	_, text := p.Ops(t, "/metrics")
	for line := range strings.SplitSeq(text, "\n") {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Fatalf("%s is %q: %v", series, value, err)
			}
			return n, true
		}
	}
	return 0, false
}

// Log is what a process says. It may be read while it grows.
type Log struct {
	mu   sync.Mutex // guards text
	text []byte
}

// Write implements io.Writer.
func (l *Log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, b...)
	return len(b), nil
}

func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.text)
}

// Lines returns the lines that are JSON objects.
func (l *Log) Lines() []map[string]any {
	var out []map[string]any
	for text := range strings.SplitSeq(l.String(), "\n") {
		var line map[string]any
		if json.Unmarshal([]byte(text), &line) == nil {
			out = append(out, line)
		}
	}
	return out
}

// Find returns the first line whose field has this value, or nil.
func (l *Log) Find(field string, value any) map[string]any {
	for _, line := range l.Lines() {
		if line[field] == value {
			return line
		}
	}
	return nil
}

// writeFile puts a file that only this user may read into the folder and returns its path.
func writeFile(t testing.TB, path, content string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
