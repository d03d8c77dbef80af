package app

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/rollcallhq/rollcall/internal/config"
	"github.com/rollcallhq/rollcall/internal/provider/workos"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/queue"
	"github.com/rollcallhq/rollcall/secrets"
	"github.com/rollcallhq/rollcall/verify"
)

const (
	signingSecret = "a signing secret of the tests"
	patience      = 20 * time.Second
)

// testConfig is a whole process in a folder of its own: plain HTTP, embedded queue, SQLite.
func testConfig(t testing.TB) config.Config {
	t.Helper()
	dir := t.TempDir()
	c := config.Default()
	c.Environment = "test"
	c.Public.Address, c.Public.PlainHTTP, c.Public.DrainDelay = "127.0.0.1:0", true, 0
	c.Ops.Address, c.Admin.Address = "127.0.0.1:0", ""
	c.Queue.Embedded.Path = filepath.Join(dir, "queue.db")
	c.Store.Path, c.Store.Migrate = filepath.Join(dir, "rollcall.db"), true
	c.Sources = map[string]config.Source{"workos": {Provider: "workos", OnDeleted: "hold", Secret: write(t, "secret", signingSecret)}}
	return c
}

// write puts a text into a file of the test's own and returns the reference to it.
func write(t testing.TB, name, text string) secrets.Ref {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return secrets.Ref("file:" + path)
}

// amend changes the one source.
func amend(c *config.Config, change func(*config.Source)) {
	s := c.Sources["workos"]
	change(&s)
	c.Sources = map[string]config.Source{"workos": s}
}

// logged is what a process has logged. mu guards text.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// process is an App that runs.
type process struct {
	t    testing.TB
	app  *App
	c    config.Config
	log  *logged
	stop context.CancelFunc
	done chan struct{}
	err  error // of Run; read it after done
}

// run makes an App and runs it until the test ends.
func run(t testing.TB, c config.Config) *process {
	t.Helper()
	p := &process{t: t, c: c, log: &logged{}, done: make(chan struct{})}
	var err error
	if p.app, err = New(t.Context(), Options{Config: c, Version: "v0", Log: zerolog.New(p.log)}); err != nil {
		t.Fatalf("New: %v", err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	p.stop = stop
	go func() {
		defer close(p.done)
		p.err = p.app.Run(ctx)
	}()
	t.Cleanup(func() {
		stop()
		<-p.done
		if t.Failed() {
			text := p.log.String()
			t.Logf("the process logged last:\n%s", text[max(0, len(text)-2000):])
		}
	})
	return p
}

// refusal runs a process that must not, and returns why.
func refusal(t testing.TB, c config.Config) string {
	t.Helper()
	a, err := New(t.Context(), Options{Config: c, Version: "v0", Log: zerolog.New(io.Discard)})
	if err != nil {
		return err.Error()
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err = a.Run(ctx); err == nil {
		t.Fatalf("the process ran for %s, want an error", patience)
	}
	return err.Error()
}

// until waits for something to become true.
func until(t testing.TB, what string, is func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !is() {
		select {
		case <-deadline.C:
			t.Fatalf("after %s still not: %s", patience, what)
		case <-ticker.C:
		}
	}
}

func (p *process) ready() *process {
	p.t.Helper()
	until(p.t, "the process is ready", func() bool { return p.app.Ready(p.t.Context()) == nil })
	return p
}

// end stops the process as SIGTERM does and returns what Run did.
func (p *process) end() error {
	p.stop()
	<-p.done
	return p.err
}

// post sends a body, signed as of a time, and returns the answer.
func (p *process) post(body []byte, at time.Time, change ...func(http.Header)) *http.Response {
	p.t.Helper()
	v, err := NewVerifier(p.c.Sources["workos"])
	if err != nil {
		p.t.Fatal(err)
	}
	key, err := v.NewKey("test", []byte(signingSecret))
	if err != nil {
		p.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, "http://"+p.app.Addr("public").String()+"/webhooks/workos", bytes.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if err := v.SignAll(req.Header, body, []*verify.Key{key}, "msg", at); err != nil {
		p.t.Fatal(err)
	}
	for _, c := range change {
		c(req.Header)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, res.Body)
	_ = res.Body.Close()
	return res
}

// deliver sends a sample and returns its id and the answer's status.
func (p *process) deliver(sample string) (id string, status int) {
	p.t.Helper()
	body, id, err := workos.Sample(sample, time.Now())
	if err != nil {
		p.t.Fatal(err)
	}
	return id, p.post(body, time.Now()).StatusCode
}

// accept sends a sample that must be accepted.
func (p *process) accept(sample string) (id string) {
	p.t.Helper()
	id, status := p.deliver(sample)
	if status != http.StatusOK {
		p.t.Fatalf("delivering %s is answered %d, want 200", sample, status)
	}
	return id
}

// folded waits until an event is in the ledger and returns its line.
func (p *process) folded(id string) (e store.Entry) {
	p.t.Helper()
	until(p.t, "event "+id+" is in the ledger", func() bool {
		s := p.app.store.get()
		if s == nil {
			return false
		}
		var err error
		e, err = s.Event(p.t.Context(), "workos", id)
		return err == nil
	})
	return e
}

// get returns what the operators' listener says.
func (p *process) get(path string) (status int, text string) {
	p.t.Helper()
	res, err := http.Get("http://" + p.app.Addr("ops").String() + path)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// wants fails the test unless the text has all the fragments, the last of which is a hint if there must be one.
func wants(t testing.TB, what, text string, fragments ...string) {
	t.Helper()
	for _, f := range fragments {
		if !strings.Contains(text, f) {
			t.Errorf("%s: %q\nhas no %q", what, text, f)
		}
	}
}

// depth is how many deliveries wait in a queue.
func depth(t testing.TB, q queue.Queue) int64 {
	t.Helper()
	stats, err := q.Stats(t.Context())
	if err != nil {
		t.Fatal(fmt.Errorf("ask the queue: %w", err))
	}
	return stats.Depth()
}
