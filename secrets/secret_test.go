package secrets

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"github.com/rollcallhq/rollcall/secrets/secretstest"
)

const verbs = "vTtbcdoOqxXUeEfFgGs"

// prints returns everything that fmt, JSON and the loggers make of a value.
func prints(v any) string {
	var out bytes.Buffer
	for _, verb := range verbs {
		for _, flags := range []string{"", "+", "#", " ", "-40", ".3"} {
			fmt.Fprintf(&out, "%"+flags+string(verb)+"\n", v)
		}
	}
	switch v.(type) {
	case Config, Ref: // of a text, %p prints the text, and asks no method
	default:
		fmt.Fprintf(&out, "%p\n", v)
	}
	fmt.Fprintln(&out, v)
	text, err := json.Marshal(v)
	fmt.Fprintln(&out, string(text), err)
	log := zerolog.New(&out)
	log.Info().Interface("v", v).Any("w", v).Send()
	slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "v", v)
	slog.New(slog.NewTextHandler(&out, nil)).Info("m", "v", v)
	return out.String()
}

func TestASecretIsRedactedInEveryFormat(t *testing.T) {
	t.Parallel()
	s := newSecret([]byte(first))
	for _, verb := range "vdoxXsqtcUeg" {
		if got := fmt.Sprintf("%"+string(verb), s); got != redacted {
			t.Errorf("%%%c prints %s", verb, got)
		}
	}
	var out bytes.Buffer
	log := zerolog.New(&out)
	log.Info().Stringer("a", s).Interface("b", s).Send()
	slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "c", s)
	if n := strings.Count(out.String(), redacted); n != 3 {
		t.Errorf("%d of 3 are redacted: %s", n, out.String())
	}
	out.Reset()
	if err := xml.NewEncoder(&out).Encode(s); err != nil || !strings.Contains(out.String(), redacted) {
		t.Errorf("XML: %s, %v", out.String(), err)
	}
	if err := gob.NewEncoder(&out).Encode(struct{ S Secret }{s}); err == nil {
		t.Error("gob has encoded a secret")
	}
	nothingShows(t, "XML and gob", out.String())
}

// everything holds secrets where methods are not called for them: in fields that are not exported, in pointers.
type everything struct {
	Secret  Secret
	pointer *Secret
	hidden  Secret
	nested  struct{ inner Snapshot }
	list    []Version
	byName  map[string]*Snapshot
	token   *token
}

func TestWhatHoldsSecretsDoesNotShowThem(t *testing.T) {
	t.Parallel()
	s := newSecret([]byte(first))
	snapshot := Snapshot{Versions: []Version{{ID: "1", Secret: s}}}
	bytesOf := fmt.Sprint([]byte(first))
	hex := fmt.Sprintf("%x", first)
	all := everything{Secret: s, pointer: &s, hidden: s, list: snapshot.Versions, byName: map[string]*Snapshot{"a": &snapshot}, token: &token{value: s}}
	all.nested.inner = snapshot
	rig := newRig(t)
	rig.vault.Put("app/webhook", map[string]any{"key": first})
	rig.becomes(t, "1=1")
	current, err := rig.Current("hook")
	if err != nil {
		t.Fatal(err)
	}
	rig.stop() // printing looks into what is at work otherwise
	wrongRef := rig.config
	wrongRef.Vault.Auth.Token, wrongRef.Vault.Auth.SecretID = Ref(first), Ref("hvs."+first)
	wrongRef.Refs = map[string]Ref{"pasted": first}
	for name, v := range map[string]any{
		"secret": s, "pointer to a secret": &s, "version": snapshot.Versions[0], "snapshot": snapshot, "pointer to a snapshot": current,
		"everything": all, "pointer to everything": &all, "token": &token{value: s}, "keyring": rig.Keyring,
		"config": rig.config, "config with secrets in the place of references": wrongRef,
		"joined errors": errors.Join(wrongRef.Refs["pasted"].Validate(), newError(New(wrongRef))),
	} {
		text := prints(v)
		nothingShows(t, name, text)
		if strings.Contains(text, bytesOf) || strings.Contains(text, hex) {
			t.Errorf("%s shows the secret's bytes", name)
		}
	}
}

func newError(_ *Keyring, err error) error { return err }

func TestRevealGivesACopy(t *testing.T) {
	t.Parallel()
	s := newSecret([]byte(first))
	clear(s.Reveal())
	if got := string(s.Reveal()); got != first {
		t.Errorf("after the caller cleared its copy: %q", got)
	}
	var none Secret
	if none.Reveal() != nil || fmt.Sprint(none) != redacted || none.Equal(s) {
		t.Error("the zero Secret is not an empty one")
	}
}

func TestAReferenceIsRead(t *testing.T) {
	t.Parallel()
	for ref, want := range map[Ref]place{
		"vault:app/database#dsn":          {kind: "vault", path: "app/database", field: "dsn"},
		"vault:team/kv//app/database#d-1": {kind: "vault", mount: "team/kv", path: "app/database", field: "d-1"},
		"file:/run/secrets/dsn":           {kind: "file", path: "/run/secrets/dsn"},
		"env:ROLLCALL_DSN":                {kind: "env", name: "ROLLCALL_DSN"},
	} {
		got, err := ref.parse()
		if err != nil {
			t.Errorf("%s: %v", ref, err)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(place{})); diff != "" {
			t.Errorf("%s:\n%s", ref, diff)
		}
		if got := fmt.Sprintf("%s %v", ref, ref.Kind()); got != string(ref)+" "+want.kind {
			t.Errorf("prints %s", got)
		}
	}
}

func TestWhatIsNoReferenceIsRefusedWithoutBeingRepeated(t *testing.T) {
	t.Parallel()
	for name, ref := range map[string]Ref{
		"empty": "", "the secret itself": first, "a URL": "postgres://u:correct-horse@h/db", "no field": "vault:correct-horse",
		"empty field": "vault:correct-horse#", "two fields": "vault:correct-horse#a#b", "empty path": "vault:#correct-horse",
		"leading slash": "vault:/correct-horse#a", "trailing slash": "vault:correct-horse/#a", "three slashes": "vault:a///correct-horse#b",
		"two mounts": "vault:a//b//correct-horse#c", "parent": "vault:a/../correct-horse#b", "wildcard": "vault:correct-horse/+#b", "star": "vault:correct-horse*#b",
		"escape": "vault:correct-horse%2e#b", "query": "vault:correct-horse?version=1#b", "quote": "vault:correct-horse\"#b", "newline": "vault:correct-horse\n#b",
		"relative file": "file:correct-horse", "file with parent": "file:/a/../correct-horse", "file alone": "file:", "file URL": "file://correct-horse/a",
		"variable with a space": "env:correct-horse ", "variable with =": "env:a=correct-horse", "variable alone": "env:", "unknown kind": "aws:correct-horse",
	} {
		err := ref.Validate()
		if !errors.Is(err, ErrRef) || ref.Kind() != "" {
			t.Errorf("%s: %v, kind %q", name, err, ref.Kind())
		}
		nothingShows(t, name, fmt.Sprint(err)+prints(ref))
	}
}

func TestThePolicyIsTheLeastThatTheReferencesNeed(t *testing.T) {
	t.Parallel()
	c := Config{Refs: map[string]Ref{
		"b": "vault:app/webhook#key", "a": "vault:app/webhook#other", "c": "vault:team/kv//db#dsn", "d": "file:/run/x", "e": "env:X", "f": "nothing",
	}}
	want := `path "kv/data/app/webhook" { capabilities = ["read"] }
path "kv/metadata/app/webhook" { capabilities = ["read"] }
path "team/kv/data/db" { capabilities = ["read"] }
path "team/kv/metadata/db" { capabilities = ["read"] }
path "auth/token/renew-self" { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
`
	if diff := cmp.Diff(want, Policy(c)); diff != "" {
		t.Error(diff)
	}
}

func TestSettingsThatCannotWorkAreRefused(t *testing.T) {
	t.Parallel()
	vault := func(change func(*Vault)) Config {
		c := Config{Refs: map[string]Ref{"a": appRef}, Vault: Vault{Address: "https://vault.example.com", Auth: Auth{RoleID: "role", SecretIDFile: "/run/secret-id"}}}
		change(&c.Vault)
		return c
	}
	for name, c := range map[string]struct {
		config Config
		says   string
	}{
		"reference":          {Config{Refs: map[string]Ref{"a": first}}, "secret a"},
		"refresh":            {Config{Refresh: -1}, "refresh"},
		"grace":              {Config{Grace: -1}, "grace"},
		"max_stale":          {Config{Refresh: 2, MaxStale: 1}, "max_stale"},
		"mount":              {Config{Vault: Vault{Mount: "/kv"}}, "mount"},
		"address":            {vault(func(v *Vault) { v.Address = "vault:8200" }), "address"},
		"password in it":     {vault(func(v *Vault) { v.Address = "https://u:correct-horse@h" }), "address"},
		"ca_cert":            {vault(func(v *Vault) { v.CACert = filepath.Join(t.TempDir(), "none") }), "ca_cert"},
		"method":             {vault(func(v *Vault) { v.Auth.Method = "ldap" }), "method"},
		"no role id":         {vault(func(v *Vault) { v.Auth = Auth{Method: "approle"} }), "role id"},
		"two role ids":       {vault(func(v *Vault) { v.Auth.RoleIDFile = "/run/role-id" }), "role_id_file"},
		"no secret id":       {vault(func(v *Vault) { v.Auth.SecretIDFile = "" }), "secret id"},
		"two secret ids":     {vault(func(v *Vault) { v.Auth.SecretID = "env:S" }), "secret_id_file"},
		"secret id in Vault": {vault(func(v *Vault) { v.Auth.SecretIDFile, v.Auth.SecretID = "", appRef }), "secret_id"},
		"approle mount":      {vault(func(v *Vault) { v.Auth.Mount = "../sys" }), "mount"},
		"token":              {vault(func(v *Vault) { v.Auth = Auth{Token: "hvs.correct-horse"} }), "auth.token"},
		"token file":         {vault(func(v *Vault) { v.Auth = Auth{TokenFile: "token"} }), "token_file"},
	} {
		_, err := New(c.config)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v; want something about %s", name, err, c.says)
		}
		nothingShows(t, name, fmt.Sprint(err))
	}
}

// A Vault that a test starts is not the one in the environment.
func TestWhatIsConfiguredWinsOverTheEnvironment(t *testing.T) {
	for name, value := range map[string]string{
		"VAULT_ADDR": "https://127.0.0.1:1", "VAULT_AGENT_ADDR": "https://127.0.0.1:1", "VAULT_TOKEN": "hvs.of-somebody-else", "VAULT_MAX_RETRIES": "9",
	} {
		t.Setenv(name, value)
	}
	v := secretstest.New(t).Calm()
	v.Put("app/webhook", map[string]any{"key": first})
	c := Config{Vault: appRoleAt(t, v)}
	if s, err := Fetch(t.Context(), c, appRef); err != nil || valuesOf(s) != "1=1" {
		t.Errorf("with what is configured: %v, %v", s, err)
	}
	t.Setenv("VAULT_ADDR", v.URL)
	t.Setenv("VAULT_AGENT_ADDR", "")
	t.Setenv("VAULT_TOKEN", v.Token(0, false))
	if s, err := Fetch(t.Context(), Config{}, appRef); err != nil || valuesOf(s) != "1=1" {
		t.Errorf("with what is in the environment: %v, %v", s, err)
	}
}
