package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rollcallhq/rollcall/internal/config"
	"github.com/rollcallhq/rollcall/secrets"
)

// good is the least that a process can run with.
const good = `
public: {tls: {self_signed: [localhost]}}
` + sources

const sources = `sources:
  workos: {provider: workos, secret: "file:/run/secrets/workos"}
`

func file(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rollcall.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func load(t testing.TB, o config.Options) config.Loaded {
	t.Helper()
	l, err := config.Load(o)
	if err != nil {
		t.Fatalf("Load(%+v): %v", o, err)
	}
	return l
}

func TestLaterLayersCountForEveryKindOfValue(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		key                              string
		inFile                           string
		env, set                         string
		read                             func(config.Config) any
		whole, byFile, byEnv, bySet, was any // was is the default
	}{
		"a duration": {
			key: "worker.max_event_age", inFile: "100d", env: "1d12h", set: "95d", read: func(c config.Config) any { return c.Worker.MaxEventAge },
			was: 95 * 24 * time.Hour, byFile: 100 * 24 * time.Hour, byEnv: 36 * time.Hour, bySet: 95 * 24 * time.Hour,
		},
		"a size": {
			key: "public.body_limit", inFile: "2MiB", env: "64KiB", set: "4096", read: func(c config.Config) any { return c.Public.BodyLimit },
			was: config.Bytes(1 << 20), byFile: config.Bytes(2 << 20), byEnv: config.Bytes(64 << 10), bySet: config.Bytes(4096),
		},
		"a size as a number": {
			key: "public.body_limit", inFile: "2048", env: "3072", set: "4096", read: func(c config.Config) any { return c.Public.BodyLimit },
			was: config.Bytes(1 << 20), byFile: config.Bytes(2048), byEnv: config.Bytes(3072), bySet: config.Bytes(4096),
		},
		"a list": {
			key: "public.trusted_proxies", inFile: "[10.0.0.0/8, 192.168.0.0/16]", env: "10.1.0.0/16, 10.2.0.0/16", set: "",
			read: func(c config.Config) any { return c.Public.TrustedProxies },
			was:  []string(nil), byFile: []string{"10.0.0.0/8", "192.168.0.0/16"}, byEnv: []string{"10.1.0.0/16", "10.2.0.0/16"}, bySet: []string(nil),
		},
		"a shorter list": {
			key: "roles", inFile: "worker,receiver", env: "receiver , worker", set: "receiver,worker", read: func(c config.Config) any { return c.Roles },
			was: []string{"receiver", "worker"}, byFile: []string{"worker", "receiver"}, byEnv: []string{"receiver", "worker"}, bySet: []string{"receiver", "worker"},
		},
		"a truth": {
			key: "store.migrate", inFile: "true", env: "false", set: "true", read: func(c config.Config) any { return c.Store.Migrate },
			was: false, byFile: true, byEnv: false, bySet: true,
		},
		"a number": {
			key: "queue.depth", inFile: "10", env: "20", set: "30", read: func(c config.Config) any { return c.Queue.Depth },
			was: int64(50_000), byFile: int64(10), byEnv: int64(20), bySet: int64(30),
		},
		"a text": {
			key: "environment", inFile: "staging", env: "production", set: "demo", read: func(c config.Config) any { return c.Environment },
			was: "development", byFile: "staging", byEnv: "production", bySet: "demo",
		},
		"what may be a secret": {
			key: "store.dsn", inFile: "file:/a", env: "env:B", set: "postgres://h/c", read: func(c config.Config) any { return c.Store.DSN },
			was: config.Sensitive(""), byFile: config.Sensitive("file:/a"), byEnv: config.Sensitive("env:B"), bySet: config.Sensitive("postgres://h/c"),
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := file(t, good)
			section, leaf, nested := strings.Cut(c.key, ".")
			text := good + section + ": " + c.inFile + "\n"
			if nested {
				text = good + section + ":\n  " + leaf + ": " + c.inFile + "\n"
			}
			if section == "public" {
				text = sources + "public:\n  tls: {self_signed: [localhost]}\n  " + leaf + ": " + c.inFile + "\n"
			}
			full := file(t, text)
			env, set := []string{config.EnvName(c.key) + "=" + c.env}, []string{c.key + "=first", c.key + "=" + c.set}
			for _, step := range []struct {
				o    config.Options
				from string
				want any
			}{
				{config.Options{File: path}, "", c.was},
				{config.Options{File: full}, "file", c.byFile},
				{config.Options{File: full, Env: env}, "environment", c.byEnv},
				{config.Options{File: full, Env: env, Set: set}, "--set", c.bySet},
				{config.Options{File: path, Set: set}, "--set", c.bySet},
			} {
				l := load(t, step.o)
				if diff := cmp.Diff(step.want, c.read(l.Config)); diff != "" {
					t.Errorf("%s from %q (-want +got):\n%s", c.key, step.from, diff)
				}
				if l.From[c.key] != step.from {
					t.Errorf("From[%q] = %q, want %q", c.key, l.From[c.key], step.from)
				}
			}
		})
	}
}

func TestSourcesComeFromTheFileAndFromFlags(t *testing.T) {
	t.Parallel()
	l := load(t, config.Options{File: file(t, good), Set: []string{
		"sources.workos.verify.tolerance=1m", "sources.workos.attributes=role,custom_attributes.department",
		"sources.second.provider=workos", "sources.second.secret=env:SECOND", "sources.second.on_directory_deleted=deprovision",
		"sources.second.accept_loss_until_reconcile=true",
	}})
	want := map[string]config.Source{
		"workos": {
			Provider: "workos", Secret: "file:/run/secrets/workos", OnDeleted: "hold", Verify: config.VerifyRules{Tolerance: time.Minute},
			Attributes: []string{"role", "custom_attributes.department"},
		},
		"second": {Provider: "workos", Secret: "env:SECOND", OnDeleted: "deprovision", AcceptLoss: true},
	}
	if diff := cmp.Diff(want, l.Sources); diff != "" {
		t.Errorf("Sources (-want +got):\n%s", diff)
	}
}

func TestASourceWhoseAPIHasAKeyIsReconciledUnlessItSaysOtherwise(t *testing.T) {
	t.Parallel()
	guard := config.Guard{Accounts: 50, Percent: 10, Floor: 5}
	for set, want := range map[string]config.Reconcile{
		"":                             {},
		"sources.workos.api.key=env:K": {Enabled: true, Every: 6 * time.Hour, Guard: guard},
		"sources.workos.api.key=env:K sources.workos.reconcile.enabled=false":        {Every: 6 * time.Hour, Guard: guard},
		"sources.workos.api.key=env:K sources.workos.reconcile.every=30m":            {Enabled: true, Every: 30 * time.Minute, Guard: guard},
		"sources.workos.api.key=env:K sources.workos.reconcile.guard.floor=0":        {Enabled: true, Every: 6 * time.Hour, Guard: config.Guard{Accounts: 50, Percent: 10}},
		"sources.workos.api.key=env:K sources.workos.reconcile.guard.accounts=10000": {Enabled: true, Every: 6 * time.Hour, Guard: config.Guard{Accounts: 10000, Percent: 10, Floor: 5}},
	} {
		l := load(t, config.Options{File: file(t, good), Set: strings.Fields(set)})
		if diff := cmp.Diff(want, l.Sources["workos"].Reconcile); diff != "" {
			t.Errorf("with %q (-want +got):\n%s", set, diff)
		}
	}
}

func TestUnknownKeysAreRefusedFromEveryLayerWithTheRightOneNamed(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		o    config.Options
		want string
	}{
		"in the file":              {config.Options{File: file(t, good+"store: {dns: x}\n")}, "rollcall.yaml:5: no key is called store.dns; did you mean store.dsn?"},
		"a section":                {config.Options{File: file(t, good+"databse: {dsn: x}\n")}, "rollcall.yaml:5: no key is called databse.dsn; there is application.dsn, store.dsn"},
		"a value for a section":    {config.Options{File: file(t, good+"store: postgres\n")}, "rollcall.yaml:5: no key is called store; store has backend, dsn,"},
		"by a flag":                {config.Options{Set: []string{"dsn=postgres://u:hidden@h/d"}}, "--set: no key is called dsn; there is application.dsn, store.dsn"},
		"of a source":              {config.Options{Set: []string{"sources.workos.secrets=x"}}, "no key is called sources.workos.secrets; did you mean sources.workos.secret?"},
		"far from every key":       {config.Options{Set: []string{"sources.workos.password=x"}}, "no key is called sources.workos.password; there is queue.redis.password"},
		"an alias in the file":     {config.Options{File: file(t, good+"ops: &o {addressx: x}\nadmin: *o\n")}, "rollcall.yaml: no key is called admin.addressx; did you mean admin.address?"},
		"a value for a source":     {config.Options{Set: []string{"sources.workos=x"}}, "no key is called sources.workos; "},
		"a source without a name":  {config.Options{Set: []string{"sources..secret=x"}}, "no key is called sources..secret; "},
		"something else":           {config.Options{Set: []string{"colour=red"}}, "no key is called colour; the configuration has admin, application, environment, log,"},
		"another case":             {config.Options{Set: []string{"Environment=x"}}, "no key is called Environment; "},
		"no value":                 {config.Options{Set: []string{"store.dsn"}}, `--set: "store.dsn" is not KEY=VALUE`},
		"with dots in the file":    {config.Options{File: file(t, good+"store.dsn: file:/dsn\n")}, "store.dsn: a key of a file is written as sections"},
		"keys that are no text":    {config.Options{File: file(t, good+"store: {1: x}\n")}, "store: has a key that is no text"},
		"a source that is empty":   {config.Options{File: file(t, "sources: {workos: }\n")}, "sources.workos: is empty; a source has a provider and a secret"},
		"a source with nothing":    {config.Options{File: file(t, "sources: {workos: {}}\n")}, "sources.workos: is empty; a source has a provider and a secret"},
		"twice":                    {config.Options{File: file(t, "roles: [worker]\nroles: [receiver]\n")}, `"roles" already defined`},
		"twice, nested":            {config.Options{File: file(t, "store: {path: a, path: b}\n")}, `"path" already defined`},
		"a second document":        {config.Options{File: file(t, good+"---\nroles: [worker]\n")}, "more than one YAML document"},
		"not YAML":                 {config.Options{File: file(t, "{")}, "yaml:"},
		"a file that is not there": {config.Options{File: filepath.Join(t.TempDir(), "none.yaml")}, "no such file or directory\nhint: --config names a YAML file"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := config.Load(c.o)
			if !errors.Is(err, config.ErrInvalid) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "\nhint: ") {
				t.Errorf("Load = %v\nwant an ErrInvalid with a hint and %q", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "hidden") {
				t.Errorf("Load = %v, which shows a value", err)
			}
		})
	}
}

func TestAllThatIsWrongIsInOneError(t *testing.T) {
	t.Parallel()
	path := file(t, "colour: red\nstore: {dns: x}\n")
	_, err := config.Load(config.Options{File: path, Set: []string{"shape=round", "oops"}})
	want := "invalid configuration:\n" +
		"  --set: \"oops\" is not KEY=VALUE\n" +
		"  " + path + ":1: no key is called colour; the configuration has admin, application, environment, log, ops, public, queue, roles, secrets, sources, store, worker\n" +
		"  " + path + ":2: no key is called store.dns; did you mean store.dsn?\n" +
		"  --set: no key is called shape; the configuration has admin, application, environment, log, ops, public, queue, roles, secrets, sources, store, worker\n" +
		"hint: `rollcall config reference` explains every key"
	if err == nil || err.Error() != want {
		t.Errorf("Load:\n%v\nwant:\n%s", err, want)
	}
}

func TestValuesOfTheWrongFormNameTheirKeyAndNotTheValue(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		yaml, set string
		want      string
	}{
		"a duration without a unit":   {yaml: "queue: {lease: 30}", want: "queue.lease: it is not a duration such as 30s, 24h or 95d"},
		"a duration in words":         {set: "queue.lease=soon", want: `queue.lease: "soon" is not a duration`},
		"a duration of days and rest": {set: "queue.lease=1d-2h", want: "queue.lease: "},
		"a duration of half days":     {set: "queue.lease=1.5d", want: "queue.lease: "},
		"a list for a duration":       {yaml: "queue: {lease: [30s]}", want: "queue.lease: it is not a duration"},
		"a size in megabytes":         {set: "public.body_limit=1MB", want: `public.body_limit: "1MB" is not a size such as 1MiB`},
		"a size below nothing":        {yaml: "public: {body_limit: -1}", want: "public.body_limit: "},
		"a size above everything":     {set: "public.body_limit=9000000000GiB", want: "public.body_limit: "},
		"a truth for a size":          {yaml: "public: {body_limit: true}", want: "public.body_limit: "},
		"a text for a number":         {set: "worker.batch=many", want: "worker.batch: it is not a whole number"},
		"half a number":               {yaml: "worker: {batch: 1.5}", want: "worker.batch: it is not a whole number"},
		"a number too big":            {set: "worker.batch=99999999999999999999", want: "worker.batch: it is not a whole number"},
		"a truth for a number":        {yaml: "worker: {batch: true}", want: "worker.batch: it is not a whole number"},
		"a number for a truth":        {yaml: "store: {migrate: 2}", want: "store.migrate: it is not true or false"},
		"a text for a truth":          {set: "store.migrate=yes", want: "store.migrate: it is not true or false"},
		"a number for a text":         {yaml: "environment: 0123", want: "environment: it is not a text; put it between quotes"},
		"a truth for a text":          {yaml: "environment: true", want: "environment: it is not a text"},
		"a list for a secret":         {yaml: "store: {dsn: [postgres://u:hidden@h/d]}", want: "store.dsn: it is not a text"},
		"a number for a secret":       {yaml: "queue: {redis: {password: 1234567890}}", want: "queue.redis.password: it is not a text"},
		"a list for a reference":      {yaml: "sources: {workos: {secret: [hidden]}}", want: "sources.workos.secret: it is not a text"},
		"a list of numbers":           {yaml: "roles: [1, 2]", want: "roles: it is not a list of texts"},
		"a number for a list":         {yaml: "roles: 1", want: "roles: it is not a list of texts"},
		"a list in a list":            {yaml: "roles: [[worker]]", want: "roles: it is not a list of texts"},
		"a date for a text":           {yaml: "environment: 2026-01-02", want: "environment: it is not a text"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := config.Options{File: file(t, c.yaml)}
			if c.set != "" {
				o.Set = []string{c.set}
			}
			_, err := config.Load(o)
			if !errors.Is(err, config.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("Load(%q, %q) = %v\nwant an ErrInvalid with %q", c.yaml, c.set, err, c.want)
			}
			if strings.Contains(err.Error(), "hidden") || strings.Contains(err.Error(), "1234567890") {
				t.Errorf("Load = %v, which shows the value", err)
			}
		})
	}
}

func TestWhatIsLeftEmptyInTheFileIsNotSet(t *testing.T) {
	t.Parallel()
	l := load(t, config.Options{Tool: true, File: file(t, "# nothing is set\nstore:\nsources: {}\nqueue:\n  lease:\n  redis: {}\nsecrets: {vault: {}}\n")})
	if diff := cmp.Diff(config.Default(), l.Config, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("Load (-default +got):\n%s", diff)
	}
	load(t, config.Options{Tool: true, File: file(t, "")})
}

func TestVariablesThatThePlatformMakesArePassedOverAndOthersAreReported(t *testing.T) {
	t.Parallel()
	l := load(t, config.Options{Tool: true, Env: []string{
		// Kubernetes, for services called rollcall and rollcall-receiver
		"ROLLCALL_SERVICE_HOST=10.0.0.1", "ROLLCALL_SERVICE_PORT=8443", "ROLLCALL_SERVICE_PORT_HTTPS=8443", "ROLLCALL_PORT=tcp://10.0.0.1:8443",
		"ROLLCALL_PORT_8443_TCP=tcp://10.0.0.1:8443", "ROLLCALL_PORT_8443_TCP_PROTO=tcp", "ROLLCALL_PORT_8443_TCP_PORT=8443",
		"ROLLCALL_PORT_8443_TCP_ADDR=10.0.0.1", "ROLLCALL_RECEIVER_SERVICE_HOST=10.0.0.2", "ROLLCALL_RECEIVER_PORT=tcp://10.0.0.2:8443",
		"ROLLCALL_RECEIVER_PORT_8443_TCP_ADDR=10.0.0.2", "ROLLCALL_RECEIVER_SERVICE_PORT_HTTPS=8443",
		// our own
		"ROLLCALL_CONFIG=/etc/rollcall.yaml", "ROLLCALL_FIXTURES=/fixtures", "ROLLCALL_PORT=8443",
		// somebody else's
		"PATH=/bin", "ROLLCALLER_X=1", "rollcall_store_dsn=1", "ROLLCALL=1", "",
		// meant for us
		"ROLLCALL_STORE_DNS=postgres://u:hidden@h/d", "ROLLCALL_OPS_PORT=9090", "ROLLCALL_PORTAL=1", "ROLLCALL_SOURCES_WORKOS_SECRET=hidden", "ROLLCALL_=1",
		"ROLLCALL_SOURCES_NAME_SECRET=hidden", "ROLLCALL_APPLICATION_BINDINGS=hidden", "ROLLCALL_APPLICATION_BINDINGS[]_SECRET=hidden",
	}})
	var got []string
	for _, w := range l.Warnings {
		if strings.Contains(w, "hidden") {
			t.Errorf("warning %q shows a value", w)
		}
		got = append(got, strings.Fields(w)[2])
	}
	want := []string{
		"ROLLCALL_", "ROLLCALL_APPLICATION_BINDINGS", "ROLLCALL_APPLICATION_BINDINGS[]_SECRET", "ROLLCALL_OPS_PORT", "ROLLCALL_PORTAL",
		"ROLLCALL_SOURCES_NAME_SECRET", "ROLLCALL_SOURCES_WORKOS_SECRET", "ROLLCALL_STORE_DNS",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("variables warned of (-want +got):\n%s", diff)
	}
}

func TestToolsNeedNoProcessToBePossible(t *testing.T) {
	t.Parallel()
	for name, set := range map[string][]string{
		"nothing":                         nil,
		"a receiver that has no TLS":      {"roles=receiver", "queue.backend=redis", "queue.redis.addrs=h:6379"},
		"half of a process":               {"roles=worker"},
		"an address that is for a server": {"public.address=nowhere"},
		"a receiver and no database":      {"roles=receiver", "store.backend=postgres"},
	} {
		if _, err := config.Load(config.Options{Set: set}); !errors.Is(err, config.ErrInvalid) {
			t.Errorf("%s: Load = %v, but no process could run so", name, err)
		}
		load(t, config.Options{Tool: true, Set: set})
	}
}

func FuzzLoadNeverPanicsAndNeverShowsASecret(f *testing.F) {
	f.Add(good)
	f.Add("store: {dsn: [postgres://u:hidden@h/d]}")
	f.Add("a: &a [1]\nb: *a\n<<: {c: 1}\n")
	f.Add("sources: {a.b: {secret: x}, '': {}, x: [1], y: {verify: {tolerance: 1s}}}\nroles: [[]]\n? [1]\n: 2\n")
	f.Add("---\n---\n")
	f.Add("application: {bindings: [{on: account.*, sql: \"a\\nb\"}, {on: [], post: 'https://h'}, [], {}, x], roles: [{role: a, slugs: [b, '']}], probes: }\nsources: {a: {provider: workos, secret: 'env:A'}}\n")
	f.Add("application: {dsn: 'sqlite:a.db', protected: \"  a\\r\\n\\tb \\n\", bindings: [&b {on: role.added, sql: [' a\\n', '#b: c']}, *b]}\nsources[0]: {a: x}\n")
	f.Add("store: !!binary aGVsbG8=\nqueue: !!set {a, b}\n")
	f.Fuzz(func(t *testing.T, text string) {
		path := file(t, text)
		l, err := config.Load(config.Options{File: path, Tool: true})
		if err != nil {
			if !errors.Is(err, config.ErrInvalid) {
				t.Fatalf("Load(%q) = %v, want ErrInvalid", text, err)
			}
			return
		}
		again, err := config.Load(config.Options{File: file(t, l.Config.Redacted()), Tool: true})
		if err != nil && !strings.Contains(l.Config.Redacted(), "[redacted]") {
			t.Fatalf("Load(%q) printed\n%s\nwhich does not load: %v", text, l.Config.Redacted(), err)
		}
		if err == nil && again.Digest() != l.Digest() {
			t.Fatalf("Load(%q) has digest %s, and what it printed %s", text, l.Digest(), again.Digest())
		}
	})
}

func TestReferencesThatAreNoneAreNeverPrinted(t *testing.T) {
	t.Parallel()
	c := config.Default()
	c.Sources = map[string]config.Source{"workos": {Provider: "workos", Secret: secrets.Ref("whsec_hidden")}}
	c.Secrets.Vault.Auth.Token = "hvs.hidden"
	c.Store.DSN, c.Queue.Redis.Password, c.Application.DSN = "vault:hidden", "file:hidden", "env:hid-den hidden"
	c.Application.Bindings = []config.Binding{{On: []string{"account.*"}, Post: "https://h", Secret: "whsec_hidden"}}
	shows(t, c, "hidden")
	_, err := config.Load(config.Options{Tool: true, Set: []string{
		"sources.workos.secret=whsec_hidden", "sources.workos.provider=workos", "secrets.vault.auth.token=hvs.hidden",
		"store.backend=postgres", "store.dsn=vault:hidden", "queue.redis.password=file:hidden", "queue.backend=redis", "queue.redis.addrs=redis://user:hidden@host:6379",
	}})
	if err == nil || strings.Contains(err.Error(), "hidden") {
		t.Errorf("Load = %v, want an error that does not show what was set", err)
	}
	for _, key := range []string{"sources.workos.secret: ", "secrets.vault.auth.token: ", "store.dsn: ", "queue.redis.password: ", "queue.redis.addrs: "} {
		if err != nil && !strings.Contains(err.Error(), key) {
			t.Errorf("Load = %v, want it to name %s", err, key)
		}
	}
}

func TestAVariableThatAReferenceNamesIsNoMistake(t *testing.T) {
	t.Parallel()
	l, err := config.Load(config.Options{
		File: file(t, "sources:\n  workos: {provider: workos, secret: 'env:ROLLCALL_WEBHOOK_SECRET'}\npublic: {plain_http: true}\n"),
		Env:  []string{"ROLLCALL_WEBHOOK_SECRET=canary", "ROLLCALL_WEBHOOK=canary"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Warnings) != 1 || !strings.Contains(l.Warnings[0], " ROLLCALL_WEBHOOK ") {
		t.Errorf("warnings %q, want one about ROLLCALL_WEBHOOK alone", l.Warnings)
	}
}
