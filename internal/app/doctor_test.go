package app

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/handlers"
	"github.com/rollcallhq/rollcall/internal/config"
	"github.com/rollcallhq/rollcall/internal/status"
	"github.com/rollcallhq/rollcall/internal/testenv"
)

// finding returns what the doctor says of one thing, its error and hint included; "" when it does not speak of it.
func finding(t testing.TB, c config.Config, name string) (text string, ok bool) {
	t.Helper()
	for _, f := range Doctor(t.Context(), c, "v0") {
		if f.Name != name {
			continue
		}
		if f.Err == nil {
			return f.Detail, true
		}
		return f.Detail + ": " + f.Err.Error(), false
	}
	return "", false
}

func migrated(t testing.TB, c config.Config) config.Config {
	t.Helper()
	s, err := OpenStore(t.Context(), c, "v0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if _, err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

// certificateOf is a certificate and its key that are good between two times.
func certificateOf(t testing.TB, from, until time.Time) config.TLS {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "h"}, DNSNames: []string{"hooks.example.com"}, NotBefore: from, NotAfter: until}
	cert, err := x509.CreateCertificate(rand.Reader, leaf, leaf, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	path := func(name, kind string, der []byte) string {
		return strings.TrimPrefix(string(write(t, name, string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))), "file:")
	}
	return config.TLS{Cert: path("cert.pem", "CERTIFICATE", cert), Key: path("key.pem", "PRIVATE KEY", private)}
}

func TestTheDoctorFindsAllWell(t *testing.T) {
	t.Parallel()
	embedded := migrated(t, testConfig(t))
	cert, key, err := handlers.WriteSelfSigned(t.TempDir(), []string{"localhost"})
	if err != nil {
		t.Fatal(err)
	}
	servers := withRedis(t, testenv.Redis(t, "requirepass right"))
	servers.Queue.Redis.Password = config.Sensitive(write(t, "password", "right"))
	servers.Store.Backend, servers.Store.DSN = "postgres", config.Sensitive(write(t, "dsn", testenv.Database(t)))
	servers.Public.PlainHTTP, servers.Public.TLS = false, config.TLS{Cert: cert, Key: key}
	for name, c := range map[string]config.Config{"sqlite and a file": embedded, "PostgreSQL and Redis": migrated(t, servers)} {
		findings := Doctor(t.Context(), c, "v0")
		for _, f := range findings {
			if f.Err != nil || f.Detail == "" {
				t.Errorf("%s: %s: %q, %v; want it well", name, f.Name, f.Detail, f.Err)
			}
		}
		if len(findings) < 6 {
			t.Errorf("%s: %d findings, want all of them: %v", name, len(findings), findings)
		}
	}
	p := run(t, embedded).ready() // and so it does while the process runs
	public, ops := p.app.Addr("public").String(), p.app.Addr("ops").String()
	p.c.Public.Address, p.c.Ops.Address = public, ops
	edited := ", with another configuration (digest " + embedded.Digest() + "; this one is " + p.c.Digest() + ")" // its ports were not named
	if text, _ := finding(t, p.c, "ports"); text != public+", "+ops+" held by the rollcall that runs"+edited {
		t.Errorf("of ports that the process has the doctor says %q", text)
	}
	for _, f := range Doctor(t.Context(), p.c, "v0") {
		if f.Err != nil {
			t.Errorf("beside the process: %s: %v", f.Name, f.Err)
		}
	}
}

func TestTheDoctorTellsAnotherRollcallFromItsOwn(t *testing.T) {
	t.Parallel()
	p := run(t, testConfig(t)).ready()
	public, ops := p.app.Addr("public").String(), p.app.Addr("ops").String()
	other := migrated(t, testConfig(t))
	other.Environment, other.Public.Address, other.Ops.Address = "trial", public, ops
	text, ok := finding(t, other, "ports")
	if ok {
		t.Errorf("of ports that another rollcall has the doctor says that all is well: %q", text)
	}
	wants(t, "doctor", text, "public.address: "+public+" is held by another rollcall (environment "+p.c.Environment+")", "\nhint: ")
	for _, path := range []string{"/livez", "/readyz"} {
		at, err := AskProcess(t.Context(), "http://"+ops+path)
		if err != nil || at.Environment != p.c.Environment || at.Digest != p.c.Digest() {
			t.Errorf("%s is of environment %q and digest %q, %v; want the process's", path, at.Environment, at.Digest, err)
		}
	}
	other.Store = p.c.Store
	for environment, want := range map[string]string{"trial": "whether a process runs: http://" + ops + "/readyz is held by another rollcall", p.c.Environment: ""} {
		other.Environment = environment
		look, err := LookAt(t.Context(), other, p.app.store.get(), true)
		i := slices.IndexFunc(look.Unseen, func(u status.Unseen) bool { return u.What == "whether a process runs" })
		if err != nil || (i >= 0) != (want != "") || i >= 0 && !strings.HasPrefix(look.Unseen[i].What+": "+look.Unseen[i].Why, want) {
			t.Errorf("as %s: %v, and not seen is %v; want %q", environment, err, look.Unseen, want)
		}
	}
	if at, err := AskProcess(t.Context(), "http://"+public+"/webhooks/workos"); err != nil || at.Environment != "" || at.Digest != "" {
		t.Errorf("the public listener answers with environment %q and digest %q, %v; want neither", at.Environment, at.Digest, err)
	}
}

func TestTheDoctorSaysWhatIsWrongAndWhatToDo(t *testing.T) {
	t.Parallel()
	now := time.Now()
	cases := map[string]struct {
		change func(t *testing.T, c *config.Config)
		of     string
		want   []string
	}{
		"no sources": {func(_ *testing.T, c *config.Config) { c.Sources = nil }, "sources", []string{"none is configured"}},
		"an unknown provider": {
			func(_ *testing.T, c *config.Config) { amend(c, func(s *config.Source) { s.Provider = "okta" }) }, "sources", []string{`"okta" is not known`},
		},
		"a secret that is not there": {
			func(_ *testing.T, c *config.Config) {
				amend(c, func(s *config.Source) { s.Secret = "file:/nowhere/secret" })
			},
			"secret sources.workos", []string{"file /nowhere/secret: not there"},
		},
		"an empty secret": {
			func(t *testing.T, c *config.Config) {
				amend(c, func(s *config.Source) { s.Secret = write(t, "s", "\n") })
			},
			"secret sources.workos", []string{"the secret is empty"},
		},
		"a short secret": {
			func(t *testing.T, c *config.Config) {
				amend(c, func(s *config.Source) { s.Secret = write(t, "s", "hidden") })
			},
			"secret sources.workos", []string{"version file-", "the secret is too short"},
		},
		"no certificate": {
			func(_ *testing.T, c *config.Config) {
				c.Public.PlainHTTP, c.Public.TLS = false, config.TLS{Cert: "/nowhere/c", Key: "/nowhere/k"}
			},
			"certificate", []string{"/nowhere/c: no such file"},
		},
		"another key": {
			func(t *testing.T, c *config.Config) {
				one, other := certificateOf(t, now, now.AddDate(1, 0, 0)), certificateOf(t, now, now.AddDate(1, 0, 0))
				c.Public.PlainHTTP, c.Public.TLS = false, config.TLS{Cert: one.Cert, Key: other.Key}
			},
			"certificate", []string{"does not match"},
		},
		"a certificate that has ended": {
			func(t *testing.T, c *config.Config) {
				c.Public.PlainHTTP, c.Public.TLS = false, certificateOf(t, now.AddDate(-1, 0, 0), now.Add(-time.Hour))
			},
			"certificate", []string{"hooks.example.com", "it has ended"},
		},
		"a certificate that ends soon": {
			func(t *testing.T, c *config.Config) {
				c.Public.PlainHTTP, c.Public.TLS = false, certificateOf(t, now.AddDate(-1, 0, 0), now.AddDate(0, 0, 13))
			},
			"certificate", []string{"it ends in 31"},
		},
		"a certificate of tomorrow": {
			func(t *testing.T, c *config.Config) {
				c.Public.PlainHTTP, c.Public.TLS = false, certificateOf(t, now.Add(time.Hour), now.AddDate(1, 0, 0))
			},
			"certificate", []string{"it is not good yet"},
		},
		"no redis": {
			func(_ *testing.T, c *config.Config) {
				c.Queue.Backend, c.Queue.Redis.Addrs = "redis", []string{"127.0.0.1:1"}
			},
			"queue", []string{"connection refused"},
		},
		"a wrong redis password": {
			func(t *testing.T, c *config.Config) {
				c.Queue = withRedis(t, testenv.Redis(t, "requirepass right")).Queue
				c.Queue.Redis.Password = config.Sensitive(write(t, "password", "hidden"))
			},
			"queue", []string{"WRONGPASS"},
		},
		"no redis password": {
			func(t *testing.T, c *config.Config) {
				c.Queue = withRedis(t, testenv.Redis(t, "requirepass right")).Queue
			}, "queue", []string{"NOAUTH"},
		},
		"a weak redis": {
			func(t *testing.T, c *config.Config) {
				c.Queue = withRedis(t, testenv.Redis(t, "appendfsync everysec")).Queue
			}, "queue", []string{"durability everysec", "deliveries of workos"},
		},
		"a redis that evicts": {
			func(t *testing.T, c *config.Config) {
				c.Queue = withRedis(t, testenv.Redis(t, "maxmemory-policy allkeys-lru")).Queue
			}, "queue", []string{"redis may throw deliveries away"},
		},
		"a redis that evicts leases": {
			func(t *testing.T, c *config.Config) {
				c.Queue = withRedis(t, testenv.Redis(t, "maxmemory-policy volatile-lru")).Queue
			}, "queue", []string{"durability fsynced", "redis may throw"},
		},
		"no file of the database": {
			func(_ *testing.T, c *config.Config) { c.Store.Path = "/nowhere/rollcall.db" }, "database", []string{"/nowhere/rollcall.db is not there"},
		},
		"no postgres": {
			func(_ *testing.T, c *config.Config) {
				c.Store.Backend, c.Store.DSN = "postgres", "postgres://u:hidden@127.0.0.1:1/d"
			}, "database", []string{"connection refused"},
		},
		"no schema": {
			func(t *testing.T, c *config.Config) {
				c.Store.Backend, c.Store.DSN = "postgres", config.Sensitive(testenv.Database(t))
			}, "database", []string{"the database has pending migrations"},
		},
		"a port of somebody else": {
			func(t *testing.T, c *config.Config) {
				l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = l.Close() })
				c.Public.Address, c.Ops.Address = l.Addr().String(), "127.0.0.1:1"
			}, "ports", []string{"public.address: ", "address already in use"},
		},
		"another environment": {
			func(_ *testing.T, c *config.Config) { c.Environment = "production" }, "database", []string{"another environment"},
		},
		"no vault": {
			func(t *testing.T, c *config.Config) {
				c.Secrets.Vault.Address, c.Secrets.Vault.Auth.Method, c.Secrets.Vault.Auth.Token = "http://127.0.0.1:1", "token", write(t, "token", "t")
				amend(c, func(s *config.Source) { s.Secret = "vault:app/workos#secret" })
			}, "vault", []string{"does not answer"},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conf := migrated(t, testConfig(t))
			c.change(t, &conf)
			text, ok := finding(t, conf, c.of)
			if ok || text == "" {
				t.Fatalf("of %s the doctor says %q, ok %v; want it wrong", c.of, text, ok)
			}
			wants(t, "doctor", text, append(c.want, "\nhint: ")...)
			if strings.Contains(text, "hidden") {
				t.Errorf("the doctor shows a secret: %s", text)
			}
		})
	}
}

func TestWhatCannotBeExaminedForAnotherReasonIsNotWrongAgain(t *testing.T) {
	t.Parallel()
	c := migrated(t, testConfig(t))
	c.Secrets.Vault.Address, c.Secrets.Vault.Auth.Method, c.Secrets.Vault.Auth.Token = "http://127.0.0.1:1", "token", write(t, "token", "t")
	amend(&c, func(s *config.Source) { s.Secret = "vault:app/workos#secret" })
	c.Queue.Backend, c.Queue.Redis = "redis", config.Redis{Addrs: []string{"127.0.0.1:1"}, Password: "vault:app/redis#password"}
	c.Store.Backend, c.Store.DSN = "postgres", "file:/nowhere/dsn"
	want := map[string]string{
		"vault": "", "secret store.dsn": "",
		"secret sources.workos": "vault", "secret queue.redis.password": "vault", "queue": "its password",
		"database": "its address", "clock": "the database",
	}
	for _, f := range Doctor(t.Context(), c, "v0") {
		needed, isThere := want[f.Name]
		if wrong := isThere && needed == ""; wrong != (f.Err != nil) || f.Needs != needed {
			t.Errorf("%s: %q, %v, needs %q; want it wrong: %t, or that it needs %q", f.Name, f.Detail, f.Err, f.Needs, wrong, needed)
		}
		delete(want, f.Name)
	}
	if len(want) > 0 {
		t.Errorf("the doctor does not speak of %v", want)
	}
}

func TestTheDoctorChangesNothing(t *testing.T) {
	t.Parallel()
	c := testConfig(t)
	if text, ok := finding(t, c, "database"); ok || !strings.Contains(text, "is not there\nhint: run `rollcall migrate`") {
		t.Errorf("of a database that is not there the doctor says %q", text)
	}
	if text, ok := finding(t, c, "queue"); !ok || text != "embedded, made at the first start" {
		t.Errorf("of a queue that is not there the doctor says %q", text)
	}
	if text, _ := finding(t, c, "database"); !strings.Contains(text, "is not there") {
		t.Errorf("the doctor made a database: %s", text)
	}
}
