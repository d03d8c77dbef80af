package app

import (
	"errors"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/internal/config"
	"github.com/rollcallhq/rollcall/internal/provider/workos"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/testenv"
)

func TestADeliveryIsFoldedAndAnOrderlyEndLosesNothing(t *testing.T) {
	t.Parallel()
	p := run(t, testConfig(t)).ready()
	e := p.folded(p.accept("dsync.user.created"))
	if e.Outcome != store.Applied || e.Binary != "v0" || e.Config != p.c.Digest() || e.Origin != "hook" {
		t.Errorf("ledger has %+v, want it applied by v0 with configuration %s", e, p.c.Digest())
	}
	if status, text := p.get("/readyz?verbose"); status != http.StatusOK || strings.Contains(text, "failed") || !strings.Contains(text, "database (shared) ok") {
		t.Errorf("/readyz?verbose is answered %d:\n%s", status, text)
	}
	var ids []string
	for range 20 {
		ids = append(ids, p.accept("dsync.user.updated"))
	}
	if err := p.end(); err != nil {
		t.Fatalf("Run = %v, want nil after an orderly end", err)
	}
	// What was accepted is in the ledger or still in the queue; the next process has it all.
	next := run(t, p.c).ready()
	for _, id := range ids {
		next.folded(id)
	}
}

func TestSecretsThatCouldNotProtectRefuseToStart(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		scheme, secret string
		want           string
	}{
		"empty":                 {"", "", "the secret is empty"},
		"a line break":          {"", "\n", "the secret is empty"},
		"blanks":                {"", " \t \n", "the secret is empty"},
		"short":                 {"", "short", "the secret is too short: 5 bytes, the scheme wants at least 16"},
		"a prefix alone":        {"standard-webhooks", "whsec_", "the secret is empty"},
		"not in its encoding":   {"standard-webhooks", "whsec_***************************", "the secret is not in the scheme's encoding (base64)"},
		"short when it is read": {"svix", "whsec_c2hvcnQ=", "the secret is too short: 5 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conf := testConfig(t)
			ref := write(t, "signing-secret", c.secret)
			amend(&conf, func(s *config.Source) { s.Scheme, s.Secret = c.scheme, ref })
			wants(t, "Run", refusal(t, conf), `source "workos"`, c.want, "\nhint: store the signing secret as the sender's console shows it at "+string(ref))
		})
	}
	t.Run("a variable that is not set", func(t *testing.T) {
		t.Parallel()
		conf := testConfig(t)
		amend(&conf, func(s *config.Source) { s.Secret = "env:ROLLCALL_TEST_IS_NOT_SET" })
		wants(t, "Run", refusal(t, conf), `source "workos"`, "environment variable ROLLCALL_TEST_IS_NOT_SET: not there", "\nhint: ")
	})
}

func TestASecretThatComesLateMakesTheProcessReady(t *testing.T) {
	t.Parallel()
	c := testConfig(t)
	c.Secrets.Refresh = 50 * time.Millisecond
	ref := write(t, "late", "")
	path := strings.TrimPrefix(string(ref), "file:")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	amend(&c, func(s *config.Source) { s.Secret = ref })
	p := run(t, c)
	until(t, "the reason is shown", func() bool {
		status, text := p.get("/readyz?verbose")
		return status == http.StatusServiceUnavailable && strings.Contains(text, "keys of workos failed") && strings.Contains(text, "not there")
	})
	if _, status := p.deliver("dsync.user.created"); status != http.StatusServiceUnavailable {
		t.Errorf("without a secret a delivery is answered %d, want 503", status)
	}
	if err := os.WriteFile(path, []byte(signingSecret), 0o600); err != nil {
		t.Fatal(err)
	}
	p.ready().folded(p.accept("dsync.user.created"))
}

func TestAProcessThatCannotWorkSaysWhy(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		change func(t *testing.T, c *config.Config)
		want   []string
	}{
		"no source": {func(_ *testing.T, c *config.Config) { c.Sources = nil }, []string{"no source is configured", "\nhint: "}},
		"an unknown provider": {
			func(_ *testing.T, c *config.Config) { amend(c, func(s *config.Source) { s.Provider = "okta" }) },
			[]string{"sources.workos: ", `"okta" is not known`, "\nhint: there is workos"},
		},
		"a path of two sources": {
			func(_ *testing.T, c *config.Config) {
				c.Sources["second"] = config.Source{Provider: "workos", Secret: c.Sources["workos"].Secret, Paths: []string{"/webhooks/workos"}}
			},
			[]string{`source "workos"`, "path /webhooks/workos: is source \"second\"'s already", "\nhint: "},
		},
		"a port that is taken": {
			func(t *testing.T, c *config.Config) {
				l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = l.Close() })
				c.Public.Address = l.Addr().String()
			},
			[]string{"public listener", "address already in use", "\nhint: another process has that port"},
		},
		"a certificate that is not there": {
			func(_ *testing.T, c *config.Config) {
				c.Public.PlainHTTP, c.Public.TLS = false, config.TLS{Cert: "/nowhere/cert.pem", Key: "/nowhere/key.pem"}
			},
			[]string{"/nowhere/", "\nhint: "},
		},
		"a queue in a folder that is not there": {
			func(_ *testing.T, c *config.Config) { c.Queue.Embedded.Path = "/nowhere/queue.db" }, []string{"/nowhere/queue.db", "\nhint: "},
		},
		"a database in a folder that is not there": {
			func(_ *testing.T, c *config.Config) { c.Store.Path = "/nowhere/rollcall.db" }, []string{"/nowhere/rollcall.db", "\nhint: "},
		},
		"a database whose address is none": {
			func(_ *testing.T, c *config.Config) {
				c.Store.Backend, c.Store.DSN = "postgres", "postgres://hidden:x@h:port/d"
			},
			[]string{"the DSN is not of the form", "\nhint: "},
		},
		"migrations that are pending": {
			func(_ *testing.T, c *config.Config) { c.Store.Migrate = false },
			[]string{"the database has pending migrations: ", "the first is 0001_", "\nhint: run `rollcall migrate`, or set store.migrate: true"},
		},
		"a redis password that is not there": {
			func(_ *testing.T, c *config.Config) {
				c.Queue.Backend, c.Queue.Redis = "redis", config.Redis{Addrs: []string{"127.0.0.1:1"}, Password: "file:/nowhere/password"}
			},
			[]string{"queue.redis.password: file /nowhere/password: not there", "\nhint: "},
		},
		"a redis authority that is not there": {
			func(_ *testing.T, c *config.Config) {
				c.Queue.Backend, c.Queue.Redis = "redis", config.Redis{Addrs: []string{"127.0.0.1:1"}, TLS: config.ClientTLS{Enabled: true, CACert: "/nowhere/ca.pem"}}
			},
			[]string{"queue.redis.tls: ca_cert: open /nowhere/ca.pem", "\nhint: "},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conf := testConfig(t)
			c.change(t, &conf)
			got := refusal(t, conf)
			wants(t, "the process", got, c.want...)
			if strings.Contains(got, "hidden") {
				t.Errorf("the process shows a secret: %s", got)
			}
		})
	}
}

func TestADatabaseOfAnotherEnvironmentRefusesToStart(t *testing.T) {
	t.Parallel()
	for _, backend := range []string{"sqlite", "postgres"} {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			c := testConfig(t)
			c.Store.Backend = backend
			if backend == "postgres" {
				c.Store.DSN = config.Sensitive(testenv.Database(t))
			}
			p := run(t, c).ready()
			p.folded(p.accept("dsync.user.created"))
			if err := p.end(); err != nil {
				t.Fatal(err)
			}
			for _, migrate := range []bool{false, true} {
				other := testConfig(t)
				other.Store, other.Store.Migrate, other.Environment = c.Store, migrate, "production"
				wants(t, "the process", refusal(t, other), `the database belongs to another environment: it is "test", the configuration says "production"`, "\nhint: ")
			}
		})
	}
}

func TestAnEmbeddedQueueIsForOneProcess(t *testing.T) {
	t.Parallel()
	p := run(t, testConfig(t)).ready()
	wants(t, "the second process", refusal(t, p.c), "queue.db.lock", "\nhint: another rollcall uses this queue")
	other := testConfig(t)
	other.Queue, other.Environment = p.c.Queue, "production"
	if err := p.end(); err != nil {
		t.Fatal(err)
	}
	wants(t, "another environment", refusal(t, other), `it belongs to environment "test", not "production"`, "\nhint: ")
	run(t, p.c).ready() // nothing was left locked
}

func TestDeliveriesAreAcceptedWhileTheDatabaseIsDown(t *testing.T) {
	t.Parallel()
	server := testenv.Postgres(t)
	c := testConfig(t)
	c.Store.Backend, c.Store.DSN = "postgres", config.Sensitive(write(t, "dsn", server.Database(t)))
	server.Stop()
	p := run(t, c).ready()
	first := p.accept("dsync.user.created")
	if status, text := p.get("/readyz?verbose"); status != http.StatusOK || !strings.Contains(text, "database (shared) failed: ") {
		t.Errorf("/readyz?verbose is answered %d:\n%s\nwant 200, and the database in it", status, text)
	}
	if n := depth(t, p.app.queue); n != 1 {
		t.Errorf("%d deliveries wait, want 1", n)
	}
	server.Start(t)
	p.folded(first)
	server.Crash()
	second := p.accept("dsync.user.updated")
	server.Start(t)
	p.folded(second)
	if err := p.end(); err != nil {
		t.Errorf("Run = %v", err)
	}
}

func TestAReceiverAndAWorkerShareRedisAndNothingElse(t *testing.T) {
	t.Parallel()
	redis := testenv.Redis(t)
	shared := testConfig(t)
	shared.Queue.Backend, shared.Queue.Redis.Addrs = "redis", []string{redis.Addr()}
	receiving, working := shared, shared
	receiving.Roles, receiving.Store = []string{config.Receiver}, config.Store{Backend: "sqlite", Path: "/nowhere/rollcall.db"}
	working.Roles = []string{config.Worker}
	working.Sources = map[string]config.Source{"workos": {Provider: "workos", OnDeleted: "hold", Secret: "file:/nowhere/secret"}}
	receiver, worker := run(t, receiving).ready(), run(t, working).ready()
	if worker.app.Addr("public") != nil || receiver.app.Addr("public") == nil {
		t.Error("only the receiver listens to senders")
	}
	worker.folded(receiver.accept("dsync.user.created"))
	for _, p := range []*process{worker, receiver} {
		if err := p.end(); err != nil {
			t.Errorf("Run = %v", err)
		}
	}
}

func TestAQueueThatCannotBeReachedIsAnswered503UntilItCan(t *testing.T) {
	t.Parallel()
	redis := testenv.Redis(t)
	redis.Stop()
	c := testConfig(t)
	c.Queue.Backend, c.Queue.Redis.Addrs = "redis", []string{redis.Addr()}
	p := run(t, c).ready()
	body, id, err := workos.Sample("dsync.user.created", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	refused := func(when string) {
		t.Helper()
		begun := time.Now()
		res := p.post(body, time.Now())
		if took := time.Since(begun); res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" || took > time.Second {
			t.Errorf("%s a delivery is answered %d with Retry-After %q after %s, want 503 within a second", when, res.StatusCode, res.Header.Get("Retry-After"), took)
		}
	}
	refused("before redis is up")
	until(t, "the log says so", func() bool { return strings.Contains(p.log.String(), "the queue cannot be reached; deliveries") })
	redis.Start()
	until(t, "deliveries are accepted", func() bool { return p.post(body, time.Now()).StatusCode == http.StatusOK })
	p.folded(id)
	redis.Stop()
	refused("when redis is gone")
	redis.Start()
	until(t, "deliveries are accepted again", func() bool { _, status := p.deliver("dsync.user.updated"); return status == http.StatusOK })
	if n := strings.Count(p.log.String(), "the queue cannot be reached; deliveries"); n != 1 {
		t.Errorf("the log says %d times that the queue cannot be reached, want once", n)
	}
}

func TestATakenPortLeavesNothingOpen(t *testing.T) {
	t.Parallel()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := testConfig(t)
	c.Ops.Address = l.Addr().String()
	if _, err := New(t.Context(), Options{Config: c}); err == nil {
		t.Fatal("New took a port that is taken")
	}
	if err := errors.Join(l.Close()); err != nil {
		t.Fatal(err)
	}
	run(t, c).ready()
}

func TestAReferenceIsFollowedByTheRoleThatNeedsIt(t *testing.T) {
	t.Parallel()
	c := testConfig(t)
	c.Queue.Backend, c.Queue.Redis.Password = "redis", "vault:redis#password"
	c.Store.Backend, c.Store.DSN = "postgres", "vault:database#dsn"
	amend(&c, func(s *config.Source) { s.API.Key = "vault:workos#api_key" })
	for name, roles := range map[string][]string{
		"queue.redis.password sources.workos":                              {config.Receiver},
		"queue.redis.password sources.workos.api store.dsn":                {config.Worker},
		"queue.redis.password sources.workos sources.workos.api store.dsn": {config.Receiver, config.Worker},
	} {
		c.Roles = roles
		for key := range References(c) {
			if !slices.Contains(strings.Fields(name), key) {
				t.Errorf("a process that is %v follows %s", roles, key)
			}
		}
		if n := len(strings.Fields(name)); len(References(c)) != n {
			t.Errorf("a process that is %v follows %d references, want %s", roles, len(References(c)), name)
		}
	}
}
