package rig

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/handlers"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/store/postgres"
	"github.com/rollcallhq/rollcall/internal/testenv"
	"github.com/rollcallhq/rollcall/queue"
	"github.com/rollcallhq/rollcall/verify"
)

// Options says what a site is made of. What is not set is made.
type Options struct {
	DSN string // of an empty database; a fresh one otherwise

	Secret    string   // what deliveries are signed with
	Reference string   // where the processes find it; a file otherwise
	Set       []string // further settings of all processes, KEY=VALUE
	Env       []string // further variables of all processes, NAME=VALUE

	Application map[string]any // the configuration's section of that name
}

// Site is one installation: what its processes share, and the test's own look at it.
type Site struct {
	Redis    *testenv.RedisServer
	Store    *postgres.Store
	Queue    queue.Queue
	Secret   string
	Client   *http.Client
	Verifier *verify.Verifier
	Key      *verify.Key

	CertFile, KeyFile string

	dir, config string
	set, env    []string
	started     int

	mu   sync.Mutex // guards logs
	logs []*Log
}

const environment = "e2e"

// DefaultSecret signs the deliveries of a site that names none. It is long enough to be found wherever it leaks.
const DefaultSecret = "whsec_canary_4f1c9a7e2b8d6350"

// New makes a site, whose database is migrated by the program itself. Nothing serves yet.
func New(t testing.TB, o Options) *Site {
	t.Helper()
	s := &Site{Redis: testenv.Redis(t), Secret: cmp.Or(o.Secret, DefaultSecret), dir: t.TempDir(), set: o.Set, env: o.Env}
	if o.Reference == "" {
		o.Reference = "file:" + writeFile(t, filepath.Join(s.dir, "secret"), s.Secret+"\n")
	}
	if o.DSN == "" {
		o.DSN = testenv.Database(t)
	}
	s.certify(t)
	s.configure(t, o)
	s.sign(t)
	s.open(t, o.DSN)
	if code, out, talk := s.Command(t, "migrate"); code != 0 {
		t.Fatalf("migrate: exit code %d\n%s%s", code, out, talk)
	}
	return s
}

// certify gives the site a certificate of its own, and a client that trusts it alone.
func (s *Site) certify(t testing.TB) {
	t.Helper()
	s.Recertify(t)
	s.Client = s.NewClient(t)
}

// Recertify writes another certificate over the site's.
func (s *Site) Recertify(t testing.TB) {
	t.Helper()
	var err error
	if s.CertFile, s.KeyFile, err = handlers.WriteSelfSigned(s.dir, []string{"localhost", "127.0.0.1"}); err != nil {
		t.Fatal(err)
	}
}

// Roots returns what trusts the site's certificate as it is now.
func (s *Site) Roots(t testing.TB) *x509.CertPool {
	t.Helper()
	pem, err := os.ReadFile(s.CertFile)
	roots := x509.NewCertPool()
	if err != nil || !roots.AppendCertsFromPEM(pem) {
		t.Fatalf("%s is no certificate: %v", s.CertFile, err)
	}
	return roots
}

// NewClient returns a client with connections of its own.
func (s *Site) NewClient(t testing.TB) *http.Client {
	t.Helper()
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: s.Roots(t), MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 64,
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 30 * time.Second}
}

type tree = map[string]any

func (s *Site) configure(t testing.TB, o Options) {
	t.Helper()
	dsn := writeFile(t, filepath.Join(s.dir, "dsn"), o.DSN)
	conf := tree{ // JSON is YAML too
		"environment": environment,
		"log":         tree{"level": "debug"},
		"public":      tree{"address": "127.0.0.1:0", "drain_delay": "100ms", "tls": tree{"cert": s.CertFile, "key": s.KeyFile}},
		"ops":         tree{"address": "127.0.0.1:0"},
		"admin":       tree{"address": ""},
		"queue":       tree{"backend": "redis", "lease": "5s", "redis": tree{"addrs": []string{s.Redis.Addr()}}},
		"store":       tree{"backend": "postgres", "dsn": "file:" + dsn, "timeout": "4s"},
		"worker":      tree{"max_event_age": "36500d"},
		"sources":     tree{"workos": tree{"provider": "workos", "secret": o.Reference}},
	}
	if o.Application != nil {
		conf["application"] = o.Application
	}
	text, err := json.MarshalIndent(conf, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	s.config = writeFile(t, filepath.Join(s.dir, "rollcall.yml"), string(text))
}

func (s *Site) sign(t testing.TB) {
	t.Helper()
	scheme, _ := verify.Preset("workos")
	var err error
	if s.Verifier, err = verify.New(scheme); err != nil {
		t.Fatal(err)
	}
	s.Key = s.NewKey(t, s.Secret)
}

// NewKey makes a key of another secret.
func (s *Site) NewKey(t testing.TB, secret string) *verify.Key {
	t.Helper()
	key, err := s.Verifier.NewKey("test", []byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// open gives the test its own connections. Neither server has to be up.
func (s *Site) open(t testing.TB, dsn string) {
	t.Helper()
	var err error
	if s.Store, err = postgres.Open(t.Context(), store.Config{DSN: dsn, Environment: environment, Binary: "dev", MaxConns: 4}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Store.Close() })
	if s.Queue, err = queue.OpenRedis(queue.RedisConfig{Addrs: []string{s.Redis.Addr()}, Environment: environment}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Queue.Close() })
}

// Logs returns what all processes of the site have said so far.
func (s *Site) Logs() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := ""
	for _, l := range s.logs {
		text += l.String()
	}
	return text
}

// Settle waits until the queue is empty and everything is carried through to its members.
func (s *Site) Settle(t testing.TB) {
	t.Helper()
	s.Drained(t)
	Until(t, "no expansion under way", func() bool {
		pending, err := s.Store.Expansions(t.Context(), 1)
		return err == nil && len(pending) == 0
	})
}

// Drained waits until the queue is empty.
func (s *Site) Drained(t testing.TB) {
	t.Helper()
	Until(t, "an empty queue", func() bool {
		stats, err := s.Queue.Stats(t.Context())
		return err == nil && stats.Depth() == 0
	})
}

// Count returns what a query of one number gives.
func (s *Site) Count(t testing.TB, query string, args ...any) (n int) {
	t.Helper()
	ask := func() error { return s.Store.Reader.DB.QueryRowContext(t.Context(), query, args...).Scan(&n) }
	err := ask()
	for range 8 { // a server that was started again has ended its connections, each of which says so once
		if err == nil {
			break
		}
		err = ask()
	}
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// Ledger returns how many events the ledger holds.
func (s *Site) Ledger(t testing.TB) int {
	t.Helper()
	return s.Count(t, `SELECT count(*) FROM rollcall.events`)
}
