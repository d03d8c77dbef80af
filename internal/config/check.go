package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rollcallhq/rollcall/internal/provider"
	"github.com/rollcallhq/rollcall/verify"
)

var (
	environmentName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)
	sourceName      = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)
)

// problems collects what is wrong, each with its key.
type problems []error

func (p *problems) add(wrong bool, key, format string, args ...any) {
	if wrong {
		*p = append(*p, fmt.Errorf("%s: %s", key, fmt.Sprintf(format, args...)))
	}
}

// err returns all problems as one error, a line for each, or nil.
func (p problems) err() error {
	if len(p) == 0 {
		return nil
	}
	lines := make([]string, len(p))
	for i, err := range p {
		lines[i] = strings.ReplaceAll(err.Error(), "\nhint: ", "; ")
	}
	before := " "
	if len(lines) > 1 {
		before = "\n  "
	}
	return fmt.Errorf("%w:%s%s\nhint: `rollcall config reference` explains every key", ErrInvalid, before, strings.Join(lines, "\n  "))
}

func (p *problems) oneOf(key, value string, allowed ...string) {
	p.add(!slices.Contains(allowed, value), key, "%q is not one of %s", value, strings.Join(allowed, ", "))
}

func (p *problems) address(key, value string) {
	if value == "" {
		return
	}
	if strings.Contains(value, "@") {
		p.add(true, key, "it is not host:port; a user and a password have keys of their own")
		return
	}
	_, port, err := net.SplitHostPort(value)
	_, wrong := strconv.ParseUint(port, 10, 16)
	p.add(err != nil || wrong != nil, key, "%q is not host:port", value)
}

// loopback is an address that only this machine reaches.
func (p *problems) loopback(key, value string) {
	host, _, err := net.SplitHostPort(value)
	p.add(err == nil && host != "localhost" && !net.ParseIP(host).IsLoopback(), key, "%q is not a loopback address; use 127.0.0.1 or [::1]", value)
}

// reference checks a value that may be a secret itself.
func (p *problems) reference(key string, s Sensitive) {
	if ref, ok := s.Ref(); ok {
		if err := ref.Validate(); err != nil {
			p.add(true, key, "%s", err)
		}
	}
}

func (c Config) check(tool bool) (p problems) {
	p.add(!environmentName.MatchString(c.Environment), "environment", "%q is not made of a-z 0-9 _ -, 63 at most", c.Environment)
	p.add(len(c.Roles) == 0, "roles", "is empty; a process is a receiver, a worker, or both")
	for _, r := range c.Roles {
		p.oneOf("roles", r, Receiver, Worker)
	}
	p.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	p.oneOf("log.format", c.Log.Format, "json", "console")
	c.checkSecrets(&p)
	c.checkQueue(&p)
	p.oneOf("store.backend", c.Store.Backend, BackendPostgres, BackendSQLite)
	if c.Has(Worker) {
		c.checkStore(&p)
		c.checkApplication(&p)
	}
	if !tool {
		c.checkListeners(&p)
		split := len(c.Roles) > 0 && !(c.Has(Receiver) && c.Has(Worker))
		alone := c.Has(Worker) && !c.Webhooks() // polls, and is all there is
		p.add(split && !alone && c.Queue.Backend == BackendEmbedded, "queue.backend", "embedded is for one process that is receiver and worker; use redis for several")
	}
	p.add(c.Worker.Batch < 1 || c.Worker.Batch > 5000, "worker.batch", "%d is not between 1 and 5000", c.Worker.Batch)
	p.add(c.Worker.MaxEventAge <= 0, "worker.max_event_age", "%s is not above 0", c.Worker.MaxEventAge)
	p.add(c.Worker.Ahead < 0, "worker.ahead", "%s is negative", c.Worker.Ahead)
	for _, name := range sortedNames(c.Sources) {
		c.Sources[name].check(&p, name)
		c.checkPoll(&p, name)
	}
	return p
}

func (c Config) checkListeners(p *problems) {
	p.address("public.address", c.Public.Address)
	p.address("ops.address", c.Ops.Address)
	p.address("admin.address", c.Admin.Address)
	p.loopback("admin.address", c.Admin.Address)
	p.add(c.Has(Receiver) && c.Public.Address == "", "public.address", "is empty; the receiver listens there")
	t, pairs := c.Public.TLS, 0
	if t.Cert != "" || t.Key != "" {
		pairs++
		p.add(t.Cert == "" || t.Key == "", "public.tls", "cert and key belong together; one of them is missing")
	}
	if len(t.SelfSigned) > 0 {
		pairs++
	}
	if c.Public.PlainHTTP {
		pairs++
	}
	p.add(pairs > 1, "public", "cert and key, self_signed, and plain_http exclude each other")
	p.add(pairs == 0 && c.Has(Receiver), "public.tls", "the receiver needs cert and key; self_signed: [localhost] makes a certificate for local use, plain_http: true leaves TLS to a load balancer")
	for _, network := range c.Public.TrustedProxies {
		_, err := netip.ParsePrefix(network)
		p.add(err != nil, "public.trusted_proxies", "%q is not a network such as 10.0.0.0/8", network)
	}
	p.add(c.Public.BodyLimit < 1024, "public.body_limit", "%s is less than 1KiB", c.Public.BodyLimit)
	p.add(c.Public.InFlight < 1, "public.in_flight", "%d is not 1 or more", c.Public.InFlight)
	c.Public.checkTimes(p)
}

func (l Public) checkTimes(p *problems) {
	for _, t := range []struct {
		key   string
		value time.Duration
	}{
		{"read_header_timeout", l.ReadHeader}, {"read_timeout", l.Read}, {"write_timeout", l.Write}, {"idle_timeout", l.Idle}, {"shutdown_timeout", l.Shutdown},
	} {
		p.add(t.value <= 0, "public."+t.key, "%s is not above 0", t.value)
	}
	p.add(l.DrainDelay < 0, "public.drain_delay", "%s is negative", l.DrainDelay)
}

func (c Config) checkSecrets(p *problems) {
	s := c.Secrets
	p.add(s.Refresh <= 0, "secrets.refresh", "%s is not above 0", s.Refresh)
	p.add(s.Grace < 0, "secrets.grace", "%s is negative", s.Grace)
	p.add(s.MaxStale < s.Refresh, "secrets.max_stale", "%s is less than secrets.refresh; every missed refresh would stop the sources", s.MaxStale)
	p.oneOf("secrets.vault.auth.method", s.Vault.Auth.Method, "approle", "token_file", "token")
	if s.Vault.Auth.Token != "" {
		kind, err := s.Vault.Auth.Token.Kind(), s.Vault.Auth.Token.Validate()
		p.add(err != nil || kind == "vault", "secrets.vault.auth.token", "it is not env:NAME or file:/PATH; the token itself does not belong here")
	}
	p.add(s.Vault.Address == "" && c.usesVault(), "secrets.vault.address", "is empty, and a reference begins with vault:")
	if s.Vault.Address != "" {
		u, err := url.Parse(s.Vault.Address)
		p.add(err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil, "secrets.vault.address", "it is not a URL such as https://vault:8200")
	}
}

// usesVault reports whether this process would ask Vault for something.
func (c Config) usesVault() bool {
	if c.Has(Receiver) {
		for _, s := range c.Sources {
			if s.Secret.Kind() == "vault" {
				return true
			}
		}
	}
	if c.Has(Worker) {
		for _, s := range c.Sources {
			if s.API.Key.Kind() == "vault" {
				return true
			}
		}
		posts := slices.ContainsFunc(c.Application.Bindings, func(b Binding) bool { return b.Secret.Kind() == "vault" })
		if posts || c.Store.DSN.ofVault() || c.Application.DSN.ofVault() {
			return true
		}
	}
	return c.Queue.Redis.Password.ofVault()
}

func (s Sensitive) ofVault() bool {
	ref, isRef := s.Ref()
	return isRef && ref.Kind() == "vault"
}

func (c Config) checkQueue(p *problems) {
	q := c.Queue
	p.oneOf("queue.backend", q.Backend, BackendRedis, BackendEmbedded)
	p.add(q.Depth < 1, "queue.depth", "%d is not 1 or more", q.Depth)
	p.add(q.Lease < 3*time.Second, "queue.lease", "%s is less than 3s", q.Lease)
	p.add(q.Memory < q.Lease, "queue.memory", "%s is less than queue.lease", q.Memory)
	switch q.Backend {
	case BackendRedis:
		p.add(len(q.Redis.Addrs) == 0, "queue.redis.addrs", "is empty; set host:port")
		for _, a := range q.Redis.Addrs {
			p.address("queue.redis.addrs", a)
		}
		p.reference("queue.redis.password", q.Redis.Password)
		p.add((q.Redis.TLS.Cert == "") != (q.Redis.TLS.Key == ""), "queue.redis.tls", "cert and key belong together; one of them is missing")
	case BackendEmbedded:
		p.add(q.Embedded.Path == "", "queue.embedded.path", "is empty")
	}
}

func (c Config) checkStore(p *problems) {
	s := c.Store
	p.add(s.Backend == BackendPostgres && s.DSN == "", "store.dsn", "is empty; set PostgreSQL's URL or a reference to it")
	p.reference("store.dsn", s.DSN)
	p.add(s.Backend == BackendSQLite && s.Path == "", "store.path", "is empty")
	p.add(s.MaxConns < 2, "store.max_conns", "%d is not 2 or more", s.MaxConns)
	p.add(s.Timeout <= 0 || s.Timeout >= c.Queue.Lease, "store.timeout", "%s is not above 0 and below queue.lease (%s)", s.Timeout, c.Queue.Lease)
}

func (s Source) check(p *problems, name string) {
	key := "sources." + name
	p.add(!sourceName.MatchString(name) || name == "unknown", key, "the name is not made of a-z 0-9 _ -, 63 at most, or is \"unknown\"")
	p.add(s.Provider == "", key+".provider", "is empty; there is workos")
	if err := s.Secret.Validate(); err != nil && s.Webhooks() {
		p.add(true, key+".secret", "%s", err)
	}
	if s.Scheme != "" {
		p.oneOf(key+".scheme", s.Scheme, verify.Presets()...)
	}
	s.API.check(p, key+".api")
	p.add(s.Reconcile.Enabled && s.API.Key == "", key+".reconcile.enabled", "is true, and %s.api.key is not set", key)
	p.add(s.Reconcile.Enabled && s.API.Key != "" && s.Reconcile.Every < time.Minute, key+".reconcile.every", "%s is not 1m or more", s.Reconcile.Every)
	s.Reconcile.Guard.check(p, key+".reconcile.guard")
	p.oneOf(key+".on_directory_deleted", s.OnDeleted, Hold, Deprovision)
	p.add(s.Verify.Tolerance < 0 || s.Verify.Future < 0, key+".verify", "tolerance or future is negative")
	for _, a := range s.Attributes {
		known := a == "role" || a == "roles" || strings.HasPrefix(a, "custom_attributes.") && a != "custom_attributes."
		p.add(!known, key+".attributes", "%q is not role, roles or custom_attributes.NAME", a)
	}
}

func (a API) check(p *problems, key string) {
	if a.Key != "" {
		if err := a.Key.Validate(); err != nil {
			p.add(true, key+".key", "%s", err)
		}
	}
	if a.URL != "" {
		_, err := provider.ParseURL(a.URL)
		p.add(err != nil, key+".url", "%v", err)
		p.add(a.Key == "", key+".url", "is set, and %s.key is not", key)
	}
}

func sortedNames(sources map[string]Source) []string {
	names := make([]string, 0, len(sources))
	for name := range sources {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
