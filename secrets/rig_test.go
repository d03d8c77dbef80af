package secrets

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/rollcallhq/rollcall/secrets/secretstest"
)

// Values that must be seen nowhere.
const (
	first  = "correct-horse-battery-staple-1"
	second = "correct-horse-battery-staple-2"
	third  = "correct-horse-battery-staple-3"
)

const appRef = Ref("vault:app/webhook#key")

// clock is a time that the test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Now().Truncate(time.Second)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// logBuffer is a log that can be read while it is written.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// at returns the messages of a level.
func (b *logBuffer) at(t *testing.T, level string) (messages []string) {
	t.Helper()
	for line := range strings.Lines(b.String()) {
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatalf("log line %q: %v", line, err)
		}
		if entry["level"] == level {
			messages = append(messages, entry["message"].(string))
		}
	}
	return messages
}

// rig is a keyring on a Vault, and what a test turns.
type rig struct {
	*Keyring
	vault    *secretstest.Vault
	clock    *clock
	log      *logBuffer
	registry *prometheus.Registry
	config   Config
	stop     func() // ends Run, and waits for it
}

// newRig makes a keyring whose secret "hook" is in Vault, where the AppRole lets it in, and runs it.
func newRig(t *testing.T, changes ...func(*rig)) *rig {
	t.Helper()
	r := &rig{vault: secretstest.New(t).Calm(), clock: newClock(), log: &logBuffer{}, registry: prometheus.NewRegistry()}
	r.vault.Clock(r.clock.Now)
	r.config = Config{
		Refs:    map[string]Ref{"hook": appRef},
		Vault:   appRoleAt(t, r.vault),
		Refresh: 20 * time.Millisecond, Grace: time.Hour, MaxStale: 2 * time.Hour,
		Log: zerolog.New(r.log), Registerer: r.registry, Now: r.clock.Now,
	}
	for _, change := range changes {
		change(r)
	}
	k, err := New(r.config)
	if err != nil {
		t.Fatal(err)
	}
	r.Keyring = k
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(r.stop)
	t.Cleanup(func() { nothingShows(t, "the log", r.log.String()) })
	return r
}

func appRoleAt(t *testing.T, v *secretstest.Vault) Vault {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret-id")
	write(t, file, v.SecretID()+"\n")
	return Vault{Address: v.URL, Auth: Auth{RoleID: v.RoleID, SecretIDFile: file}}
}

func write(t *testing.T, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// values returns "id=value" of each version, or the error.
func (r *rig) values(name string) string {
	s, err := r.Current(name)
	if err != nil {
		return err.Error()
	}
	return valuesOf(s)
}

func valuesOf(s *Snapshot) string {
	var all []string
	for _, v := range s.Versions {
		all = append(all, v.ID+"="+strings.TrimPrefix(string(v.Secret.Reveal()), "correct-horse-battery-staple-"))
	}
	return strings.Join(all, " ")
}

// becomes waits until the secret's versions are these.
func (r *rig) becomes(t *testing.T, want string) {
	t.Helper()
	eventually(t, func() (string, bool) { got := r.values("hook"); return got, got == want }, want)
}

// fails waits until the secret cannot be had, for this reason.
func (r *rig) fails(t *testing.T, want error) {
	t.Helper()
	eventually(t, func() (string, bool) {
		_, err := r.Current("hook")
		return r.values("hook"), err != nil && strings.Contains(err.Error(), want.Error())
	}, want.Error())
}

// refreshed waits until the secret was read, or not read, once more with this result.
func (r *rig) refreshed(t *testing.T, result outcome) {
	t.Helper()
	before := r.count(t, "rollcall_secret_refreshes_total", string(result))
	eventually(t, func() (string, bool) {
		return r.log.String(), r.count(t, "rollcall_secret_refreshes_total", string(result)) >= before+2 // the first may have begun before
	}, "two refreshes that end with "+string(result))
}

// count returns the counter's value under the label "result".
func (r *rig) count(t *testing.T, name, result string) float64 {
	t.Helper()
	families, err := r.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			for _, label := range m.GetLabel() {
				if family.GetName() == name && label.GetName() == "result" && label.GetValue() == result {
					return m.GetCounter().GetValue()
				}
			}
		}
	}
	t.Fatalf("no metric %s{result=%q}", name, result)
	return 0
}

func eventually(t *testing.T, look func() (got string, ok bool), want string) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	late := time.After(20 * time.Second)
	for {
		got, ok := look()
		if ok {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("got %s\nwant %s", got, want)
		}
	}
}

func nothingShows(t *testing.T, where, text string) {
	t.Helper()
	for _, secret := range []string{"correct-horse", "hvs."} {
		if at := strings.Index(text, secret); at >= 0 {
			t.Errorf("%s shows %q: …%s", where, secret, text[max(0, at-200):min(len(text), at+100)])
		}
	}
}
