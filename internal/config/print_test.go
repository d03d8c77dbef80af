package config_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rollcallhq/rollcall/internal/config"
)

var update = flag.Bool("update", false, "write docs/CONFIG.md anew")

func TestTheManualIsTheOneInDocs(t *testing.T) {
	t.Parallel()
	const path = "../../docs/CONFIG.md"
	if *update {
		if err := os.WriteFile(path, []byte(config.Reference()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(config.Reference(), string(text)); diff != "" {
		t.Errorf("docs/CONFIG.md is not what `go test ./internal/config -update` writes (-want +got):\n%s", diff)
	}
}

func TestEveryKeyIsExplainedAndHasAVariableOfItsOwn(t *testing.T) {
	t.Parallel()
	keys := map[string]string{}
	for line := range strings.SplitSeq(config.Reference(), "\n") {
		cells := strings.Split(line, "|")
		if len(cells) < 4 || !strings.HasPrefix(line, "| `") {
			continue
		}
		key, doc := strings.Trim(cells[1], " `"), strings.TrimSpace(cells[3])
		if !strings.HasSuffix(doc, ".") || strings.ContainsAny(doc, "|") || len(cells) != 5 {
			t.Errorf("%s is explained by %q, which is no sentence for a table", key, doc)
		}
		name := config.EnvName(key)
		if other, taken := keys[name]; taken {
			t.Errorf("%s is the variable of %s and of %s", name, key, other)
		}
		keys[name] = key
	}
	if n := countLeaves(reflect.TypeFor[config.Config]()); len(keys) != n {
		t.Errorf("the manual has %d keys, the configuration %d", len(keys), n)
	}
	if got := config.EnvName("queue.redis.addrs"); got != "ROLLCALL_QUEUE_REDIS_ADDRS" {
		t.Errorf("EnvName = %q", got)
	}
}

func countLeaves(t reflect.Type) (n int) {
	for i := range t.NumField() {
		switch field := t.Field(i).Type; field.Kind() {
		case reflect.Struct:
			n += countLeaves(field)
		case reflect.Map:
			n += countLeaves(field.Elem())
		case reflect.Slice:
			if field.Elem().Kind() == reflect.Struct {
				n += countLeaves(field.Elem()) - 1
			}
			n++
		default:
			n++
		}
	}
	return n
}

// everything has another value than the default in every key.
func everything() config.Config {
	var c config.Config
	fill(reflect.ValueOf(&c).Elem(), "")
	c.Environment, c.Roles, c.Log = "staging", []string{"worker"}, config.Log{Level: "debug", Format: "console"}
	c.Public.Address, c.Ops.Address, c.Admin.Address = "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"
	c.Public.TLS.SelfSigned, c.Public.PlainHTTP, c.Public.TrustedProxies = nil, false, []string{"10.0.0.0/8", "fd00::/8"}
	c.Public.BodyLimit = 3 << 10
	c.Secrets.Refresh, c.Secrets.MaxStale = 31*time.Second, 95*24*time.Hour
	c.Secrets.Vault.Address, c.Secrets.Vault.Auth.Method, c.Secrets.Vault.Auth.Token = "https://vault:8200", "token", "env:TOKEN"
	c.Queue.Backend, c.Queue.Lease, c.Queue.Memory = "redis", 90*time.Minute, 25*time.Hour
	c.Queue.Redis.Addrs, c.Queue.Redis.Password = []string{"a:1", "b:2"}, "vault:app/redis#password"
	c.Store.Backend, c.Store.DSN, c.Store.Timeout = "postgres", "postgres://user@host:5432/db?sslmode=verify-full&application_name=a%20b", 1500*time.Millisecond
	s := config.Source{}
	fill(reflect.ValueOf(&s).Elem(), "")
	s.Provider, s.Scheme, s.Secret, s.OnDeleted = "workos", "svix", "vault:team/kv//app/sources#secret", "deprovision"
	s.API = config.API{Key: "vault:app/workos#api_key", URL: "https://proxy.internal:8443/workos"}
	s.Reconcile.Every, s.Reconcile.Guard.Percent = 2*time.Hour, 12
	s.Attributes, s.Paths = []string{"role", "custom_attributes.a b", "custom_attributes.#1: yes", "roles"}, []string{"/hooks/a"}
	s.Poll.Since, s.Poll.Retention = "30d", time.Second
	c.Sources = map[string]config.Source{"a": s, "b-2": {Provider: "workos", Secret: "env:B", OnDeleted: "hold", Attributes: []string{"role", "roles"}}}
	c.Application.DSN, c.Application.Mode, c.Application.RetryLongest, c.Application.Guard.Percent = "sqlite:/app/app.db", "enforce", time.Hour, 11
	c.Application.Protected = "SELECT id -- all of them: # yes\n  FROM users\n"
	c.Application.Bindings = []config.Binding{
		{On: []string{"account.activated", "group.*"}, Name: "first", SQL: []string{"INSERT INTO a (b, c)\nVALUES (@email, ', ; : # ')\n", "  UPDATE a SET b = 1\n\n", "\tx\r\n y "}},
		{On: []string{"role.added"}, Name: "role.added", SQL: []string{"UPDATE a, b"}},
		{On: []string{"account.*"}, Name: "hook", Post: "http://127.0.0.1:8080/hook?a=b", Secret: "vault:app/hooks#secret", Timeout: 1500 * time.Millisecond, Attempts: 7},
	}
	c.Application.Roles = []config.RoleRule{{Role: "admin", Groups: []string{"Sales, Europe", "directory_group_01", "yes"}, Slugs: []string{"admin"}, Directories: []string{"directory_01"}}}
	c.Application.Probes = []config.Probe{{Name: "sessions", SQL: "SELECT 1"}, {Name: "tokens", SQL: "SELECT id\nFROM tokens"}}
	return c
}

// fill sets every field to something.
func fill(v reflect.Value, key string) {
	for i := range v.NumField() {
		field, name := v.Field(i), key+v.Type().Field(i).Tag.Get("koanf")
		switch x := field.Addr().Interface().(type) {
		case *[]string:
			*x = []string{name}
		case *time.Duration:
			*x = time.Duration(i+1) * 1001 * time.Millisecond
		case *bool:
			*x = true
		case *config.Choice:
			*x = config.Yes
		default:
			switch field.Kind() {
			case reflect.Struct:
				fill(field, name+".")
			case reflect.String:
				field.SetString(name)
			case reflect.Int, reflect.Int64:
				field.SetInt(int64(i + 101))
			default: // maps are the caller's
			}
		}
	}
}

func TestWhatIsPrintedIsWhatIsLoaded(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]config.Config{"the defaults": config.Default(), "everything set": everything()} {
		l := load(t, config.Options{File: file(t, want.Redacted()), Tool: name == "the defaults"})
		if diff := cmp.Diff(want, l.Config, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: Load(Redacted(c)) (-c +got):\n%s\nprinted:\n%s", name, diff, want.Redacted())
		}
		again := load(t, config.Options{File: file(t, l.Redacted()), Tool: name == "the defaults"})
		if diff := cmp.Diff(want, again.Config, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: with comments (-c +got):\n%s\nprinted:\n%s", name, diff, l.Redacted())
		}
	}
}

func TestPrintingSaysWhereAValueIsFrom(t *testing.T) {
	t.Parallel()
	l := load(t, config.Options{
		File: file(t, good), Env: []string{"ROLLCALL_ENVIRONMENT=staging"}, Set: []string{"public.trusted_proxies=10.0.0.0/8"},
	})
	for _, line := range []string{
		"environment: staging # environment\n", "  trusted_proxies: [10.0.0.0/8] # --set\n", "    self_signed: [localhost] # file\n",
		"    secret: file:/run/secrets/workos # file\n", "  level: info\n",
	} {
		if !strings.Contains(l.Redacted(), line) {
			t.Errorf("Redacted has no line %q:\n%s", line, l.Redacted())
		}
	}
}

// shows fails the test when any way of printing the configuration has one of the texts.
func shows(t *testing.T, c config.Config, secrets ...string) {
	t.Helper()
	asJSON, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	l := config.Loaded{Config: c}
	printed := map[string]string{"Redacted": c.Redacted(), "Loaded.Redacted": l.Redacted(), "JSON": string(asJSON)}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		printed[verb], printed["loaded "+verb] = fmt.Sprintf(verb, c), fmt.Sprintf(verb, &l)
		printed["field "+verb] = fmt.Sprintf(verb, c.Store.DSN) + fmt.Sprintf(verb, c.Queue.Redis.Password)
	}
	for how, text := range printed {
		for _, secret := range secrets {
			if strings.Contains(text, secret) || strings.Contains(strings.ToLower(text), fmt.Sprintf("%x", secret)) {
				t.Errorf("%s shows %q:\n%s", how, secret, text)
			}
		}
	}
}

func TestNoWayOfPrintingShowsASecret(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		dsn   config.Sensitive
		shown string
	}{
		"a URL":                           {"postgres://user:hidden@host/db?sslmode=require", "postgres://user@host/db?sslmode=require"},
		"a URL with a port":               {"postgresql://user:hidden@host:5432/db", "postgresql://user@host:5432/db"},
		"a file":                          {"sqlite:/a/b.db", "sqlite:/a/b.db"},
		"a file with a parameter":         {"sqlite:/a/b.db?key=hidden", "[redacted]"},
		"keywords":                        {"host=h user=u password=hidden dbname=d", "[redacted]"},
		"a password in the query":         {"postgres://host/db?password=hidden", "[redacted]"},
		"a password in the query, hidden": {"postgres://host/db?%70assword=hidden", "[redacted]"},
		"a password behind a semicolon":   {"postgres://host/db?sslmode=disable;password=hidden", "[redacted]"},
		"a key's password in the query":   {"postgres://host/db?sslpassword=hidden", "[redacted]"},
		"a password with a #":             {"postgres://user:1#hidden@host/db", "[redacted]"},
		"a password with a /":             {"postgres://user:1/hidden@host/db", "[redacted]"},
		"a password with a ?":             {"postgres://user:1?hidden@host/db", "[redacted]"},
		"a password with a %":             {"postgres://user:1%hidden@host/db", "[redacted]"},
		"two hosts":                       {"postgres://user:hidden@a:1,b:2/db", "postgres://user@a:1,b:2/db"},
		"another URL":                     {"redis://hidden/1", "[redacted]"},
		"no host":                         {"postgres:hidden", "[redacted]"},
		"the secret alone":                {"hidden", "[redacted]"},
		"a reference that is none":        {"vault:hidden", "[redacted]"},
		"a reference":                     {"vault:app/db#dsn", "vault:app/db#dsn"},
		"nothing":                         {"", ""},
	} {
		conf := config.Default()
		conf.Store.DSN, conf.Application.DSN, conf.Queue.Redis.Password = c.dsn, c.dsn, "hidden too"
		if got := conf.Store.DSN.String(); got != c.shown {
			t.Errorf("%s: String() = %q, want %q", name, got, c.shown)
		}
		shows(t, conf, "hidden")
		if conf.Store.DSN.Reveal() != string(c.dsn) {
			t.Errorf("%s: Reveal() is something else", name)
		}
	}
}

func TestTheDigestKnowsEverySettingAndNoSecret(t *testing.T) {
	t.Parallel()
	base := everything()
	if a, b := base.Digest(), everything().Digest(); a != b || len(a) != 12 || strings.Trim(a, "0123456789abcdef") != "" {
		t.Errorf("Digest() = %q and %q, want one, of 12 hex digits", a, b)
	}
	secret, other := everything(), everything()
	secret.Store.DSN, other.Store.DSN = "postgres://user:one@host/db", "postgres://user:two@host/db"
	secret.Application.DSN, other.Application.DSN = "password=one", "password=two"
	secret.Queue.Redis.Password, other.Queue.Redis.Password = "one", "two"
	if secret.Digest() != other.Digest() {
		t.Error("the digest depends on a secret")
	}
	for name, change := range map[string]func(*config.Config){
		"a duration":  func(c *config.Config) { c.Queue.Lease++ },
		"a list":      func(c *config.Config) { c.Queue.Redis.Addrs = c.Queue.Redis.Addrs[:1] },
		"a truth":     func(c *config.Config) { c.Store.Migrate = !c.Store.Migrate },
		"a source":    func(c *config.Config) { delete(c.Sources, "a") },
		"a statement": func(c *config.Config) { c.Application.Bindings[0].SQL[1] += " " },
		"a binding":   func(c *config.Config) { c.Application.Bindings = c.Application.Bindings[1:] },
		"a host":      func(c *config.Config) { c.Store.DSN = "postgres://user@other/db" },
	} {
		c := everything()
		change(&c)
		if c.Digest() == base.Digest() {
			t.Errorf("the digest does not know of %s", name)
		}
	}
}

func TestSizesAndDurationsAreWrittenAsTheyAreRead(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]config.Bytes{
		"0": 0, "1": 1, "1023": 1023, "1KiB": 1 << 10, "1536KiB": 1536 << 10, "2MiB": 2 << 20, "3GiB": 3 << 30, " 4 KiB ": 4 << 10,
	} {
		var b config.Bytes
		if err := b.UnmarshalText([]byte(text)); err != nil || b != want {
			t.Errorf("UnmarshalText(%q) = %d, %v, want %d", text, b, err, want)
		}
		var again config.Bytes
		written, _ := b.MarshalText()
		if err := again.UnmarshalText(written); err != nil || again != b {
			t.Errorf("%d is written %s and read %d, %v", b, written, again, err)
		}
	}
	for text, want := range map[string]time.Duration{
		"0": 0, "30s": 30 * time.Second, "95d": 95 * 24 * time.Hour, "1d12h": 36 * time.Hour, "1h30m": 90 * time.Minute, "0d": 0, "-1s": -time.Second,
	} {
		if got, err := config.ParseDuration(text); err != nil || got != want {
			t.Errorf("ParseDuration(%q) = %s, %v, want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "d", "1", "-1d", "1d-1h", "1d 1h", "1.5d", "1h1d", "99999d", "1w"} {
		if got, err := config.ParseDuration(text); err == nil {
			t.Errorf("ParseDuration(%q) = %s, want an error", text, got)
		}
	}
}
