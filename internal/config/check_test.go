package config_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/rollcallhq/rollcall/internal/config"
)

func TestEachCheckNamesItsKeyAndSaysWhatWouldBeRight(t *testing.T) {
	t.Parallel()
	const redis, postgres = "queue.backend=redis queue.redis.addrs=h:6379", "store.backend=postgres store.dsn=file:/dsn"
	cases := map[string]struct{ set, want string }{
		"environment empty":           {"environment=", `environment: "" is not made of a-z 0-9 _ -`},
		"environment in capitals":     {"environment=Production", "environment: "},
		"no roles":                    {"roles=", "roles: is empty"},
		"an unknown role":             {"roles=receiver,worker,poller", `roles: "poller" is not one of receiver, worker`},
		"log level":                   {"log.level=loud", "log.level: "},
		"log format":                  {"log.format=xml", "log.format: "},
		"public address":              {"public.address=8443", `public.address: "8443" is not host:port`},
		"public address, no port":     {"public.address=localhost:", "public.address: "},
		"public address, a name":      {"public.address=:https", "public.address: "},
		"no public address":           {"public.address=", "public.address: is empty"},
		"ops address":                 {"ops.address=x", "ops.address: "},
		"admin address":               {"admin.address=x", "admin.address: "},
		"admin address for everybody": {"admin.address=0.0.0.0:1", "admin.address: \"0.0.0.0:1\" is not a loopback address"},
		"no TLS":                      {"public.tls.self_signed=", "public.tls: the receiver needs cert and key; self_signed: [localhost]"},
		"a certificate alone":         {"public.tls.self_signed= public.tls.cert=a", "public.tls: cert and key belong together"},
		"a key alone":                 {"public.tls.self_signed= public.tls.key=a", "public.tls: cert and key belong together"},
		"two ways of TLS":             {"public.tls.cert=a public.tls.key=b", "public: cert and key, self_signed, and plain_http exclude each other"},
		"TLS and none":                {"public.plain_http=true", "public: cert and key, self_signed, and plain_http exclude each other"},
		"trusted proxies":             {"public.trusted_proxies=10.0.0.1", `public.trusted_proxies: "10.0.0.1" is not a network`},
		"body limit":                  {"public.body_limit=1023", "public.body_limit: 1023 is less than 1KiB"},
		"in flight":                   {"public.in_flight=0", "public.in_flight: 0 is not 1 or more"},
		"read header timeout":         {"public.read_header_timeout=0s", "public.read_header_timeout: 0s is not above 0"},
		"read timeout":                {"public.read_timeout=-1s", "public.read_timeout: "},
		"write timeout":               {"public.write_timeout=0s", "public.write_timeout: "},
		"idle timeout":                {"public.idle_timeout=0s", "public.idle_timeout: "},
		"shutdown timeout":            {"public.shutdown_timeout=0s", "public.shutdown_timeout: "},
		"drain delay":                 {"public.drain_delay=-1s", "public.drain_delay: "},
		"secrets refresh":             {"secrets.refresh=0s", "secrets.refresh: "},
		"secrets grace":               {"secrets.grace=-1s", "secrets.grace: "},
		"secrets max stale":           {"secrets.max_stale=29s", "secrets.max_stale: 29s is less than secrets.refresh"},
		"vault method":                {"secrets.vault.auth.method=ldap", "secrets.vault.auth.method: "},
		"vault token from vault":      {"secrets.vault.auth.token=vault:a#b", "secrets.vault.auth.token: it is not env:NAME or file:/PATH"},
		"vault address":               {"secrets.vault.address=vault:8200", "secrets.vault.address: it is not a URL"},
		"vault unnamed, a source":     {"sources.workos.secret=vault:a#b", "secrets.vault.address: is empty, and a reference begins with vault:"},
		"vault unnamed, the database": {"store.backend=postgres store.dsn=vault:a#b", "secrets.vault.address: is empty"},
		"vault unnamed, redis":        {redis + " queue.redis.password=vault:a#b", "secrets.vault.address: is empty"},
		"queue backend":               {"queue.backend=kafka", "queue.backend: "},
		"queue depth":                 {"queue.depth=0", "queue.depth: "},
		"queue lease":                 {"queue.lease=2s store.timeout=1s", "queue.lease: 2s is less than 3s"},
		"queue memory":                {"queue.memory=9s", "queue.memory: 9s is less than queue.lease"},
		"no redis address":            {"queue.backend=redis", "queue.redis.addrs: is empty"},
		"redis address":               {"queue.backend=redis queue.redis.addrs=h", "queue.redis.addrs: "},
		"redis address as a URL":      {"queue.backend=redis queue.redis.addrs=redis://h", "queue.redis.addrs: "},
		"redis certificate alone":     {redis + " queue.redis.tls.cert=a", "queue.redis.tls: cert and key belong together"},
		"redis password":              {redis + " queue.redis.password=file:relative", "queue.redis.password: not a reference"},
		"no file for the queue":       {"queue.embedded.path=", "queue.embedded.path: is empty"},
		"a file for half a process":   {"roles=worker", "queue.backend: embedded is for one process"},
		"store backend":               {"store.backend=oracle", "store.backend: "},
		"no DSN":                      {"store.backend=postgres", "store.dsn: is empty; set PostgreSQL's URL or a reference to it"},
		"no file for the store":       {"store.path=", "store.path: is empty"},
		"store DSN":                   {"store.backend=postgres store.dsn=env:a-b", "store.dsn: not a reference"},
		"store connections":           {postgres + " store.max_conns=1", "store.max_conns: "},
		"store timeout":               {"store.timeout=10s", "store.timeout: 10s is not above 0 and below queue.lease (10s)"},
		"store timeout, none":         {"store.timeout=0s", "store.timeout: "},
		"worker batch, none":          {"worker.batch=0", "worker.batch: "},
		"worker batch, all":           {"worker.batch=5001", "worker.batch: "},
		"worker age":                  {"worker.max_event_age=0s", "worker.max_event_age: "},
		"worker ahead":                {"worker.ahead=-1s", "worker.ahead: "},
		"a source's name":             {"sources.Work.provider=workos sources.Work.secret=env:A", "sources.Work: the name is not made of a-z"},
		"a source's name that is ours": {
			"sources.unknown.provider=workos sources.unknown.secret=env:A", "sources.unknown: the name ",
		},
		"a source's provider":                           {"sources.workos.provider=", "sources.workos.provider: is empty"},
		"a source's secret":                             {"sources.workos.secret=", "sources.workos.secret: "},
		"a source's scheme":                             {"sources.workos.scheme=rot13", "sources.workos.scheme: "},
		"a source's API key":                            {"sources.workos.api.key=sk_hidden", "sources.workos.api.key: not a reference"},
		"a source's API, in clear":                      {"sources.workos.api.key=env:K sources.workos.api.url=http://api.workos.com", "sources.workos.api.url: it is not https"},
		"a source's API, no URL":                        {"sources.workos.api.key=env:K sources.workos.api.url=api.workos.com", "sources.workos.api.url: it is not a URL"},
		"a source's API, a user":                        {"sources.workos.api.key=env:K sources.workos.api.url=https://hidden@api.workos.com", "sources.workos.api.url: it holds a user"},
		"a source that is not polled, without a secret": {"sources.workos.secret= sources.workos.api.key=env:K sources.workos.poll.enabled=false", "sources.workos.secret: "},
		"polling without a key":                         {"sources.workos.poll.enabled=true", "sources.workos.poll.enabled: is true, and sources.workos.api.key is not set"},
		"polling, maybe":                                {"sources.workos.poll.enabled=maybe", "sources.workos.poll.enabled: it is not true or false"},
		"polling all the time":                          {"sources.workos.poll.every=10ms", "sources.workos.poll.every: 10ms is less than 1s"},
		"polling from somewhere":                        {"sources.workos.poll.since=yesterday", "sources.workos.poll.since: it is neither a time"},
		"polling from no time ago":                      {"sources.workos.poll.since=0s", "sources.workos.poll.since: "},
		"polling what is too old":                       {"sources.workos.poll.retention=100d", "sources.workos.poll.retention: 100d is more than worker.max_event_age (95d)"},
		"polling nothing":                               {"sources.workos.poll.retention=-1h", "sources.workos.poll.retention: "},
		"a source's API, no key":                        {"sources.workos.api.url=https://api.workos.com", "sources.workos.api.url: is set, and sources.workos.api.key is not"},
		"vault unnamed, an API key":                     {"sources.workos.api.key=vault:a#b", "secrets.vault.address: is empty"},
		"a source's deleted":                            {"sources.workos.on_directory_deleted=ignore", "sources.workos.on_directory_deleted: "},
		"a source's tolerance":                          {"sources.workos.verify.tolerance=-1s", "sources.workos.verify: "},
		"a source's future":                             {"sources.workos.verify.future=-1s", "sources.workos.verify: "},
		"a source's attributes":                         {"sources.workos.attributes=password", `sources.workos.attributes: "password" is not role`},
		"a source's attribute, empty":                   {"sources.workos.attributes=custom_attributes.", "sources.workos.attributes: "},
		"reconcile without a key":                       {"sources.workos.reconcile.enabled=true", "sources.workos.reconcile.enabled: is true, and sources.workos.api.key is not set"},
		"reconcile all the time":                        {"sources.workos.api.key=env:K sources.workos.reconcile.every=59s", "sources.workos.reconcile.every: 59s is not 1m or more"},
		"reconcile, a guard":                            {"sources.workos.api.key=env:K sources.workos.reconcile.guard.percent=101", "sources.workos.reconcile.guard.percent: 101 is not between"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := config.Load(config.Options{File: file(t, good), Set: strings.Fields(c.set)})
			if !errors.Is(err, config.ErrInvalid) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "\nhint: ") {
				t.Fatalf("Load with %s: %v\nwant an ErrInvalid with a hint and %q", c.set, err, c.want)
			}
			if strings.Contains(err.Error(), "hidden") {
				t.Errorf("Load with %s: %v\nwhich shows a secret", c.set, err)
			}
			if n := strings.Count(err.Error(), "\n"); n != 1 {
				t.Errorf("Load with %s: %v\nwant that one line, and a hint", c.set, err)
			}
		})
	}
}

func TestWhatARoleDoesNotNeedIsNotAskedOfIt(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]string{
		"a receiver without a database": "roles=receiver queue.backend=redis queue.redis.addrs=h:6379 store.backend=postgres",
		"a worker without TLS":          "roles=worker queue.backend=redis queue.redis.addrs=h:6379 public.tls.self_signed=",
		"a worker without vault":        "roles=worker queue.backend=redis queue.redis.addrs=h:6379 sources.workos.secret=vault:a#b",
		"a receiver without vault":      "roles=receiver queue.backend=redis queue.redis.addrs=h:6379 store.backend=postgres store.dsn=vault:a#b",
		"a receiver without API keys":   "roles=receiver queue.backend=redis queue.redis.addrs=h:6379 sources.workos.api.key=vault:a#b",
		"a receiver of what is polled":  "roles=receiver queue.backend=redis queue.redis.addrs=h:6379 sources.workos.poll.enabled=true",
		"polling alone":                 "roles=worker sources.workos.secret= sources.workos.api.key=env:K",
		"polling, not yet":              "sources.workos.api.key=env:K sources.workos.poll.enabled=false",
		"polling in all words":          "sources.workos.api.key=env:K sources.workos.poll.enabled=true sources.workos.poll.every=10s sources.workos.poll.since=30d sources.workos.poll.retention=30d sources.workos.poll.events=dsync.user.created,dsync.user.deleted",
		"polling from a time":           "sources.workos.api.key=env:K sources.workos.poll.since=2026-11-01T00:00:00Z",
		"an API":                        "sources.workos.api.key=env:WORKOS_API_KEY sources.workos.api.url=https://proxy.internal/workos",
		"an API of this machine":        "sources.workos.api.key=env:WORKOS_API_KEY sources.workos.api.url=http://127.0.0.1:8099",
		"no ops, no admin":              "ops.address= admin.address=",
		"plain HTTP":                    "public.tls.self_signed= public.plain_http=true",
		"a certificate":                 "public.tls.self_signed= public.tls.cert=a public.tls.key=b",
		"an admin on loopback":          "admin.address=[::1]:9091",
		"everything in days":            "queue.memory=7d secrets.grace=0s worker.ahead=0s",
	} {
		if _, err := config.Load(config.Options{File: file(t, good), Set: strings.Fields(set)}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
