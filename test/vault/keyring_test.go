package vault

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/rollcallhq/rollcall/secrets"
	"github.com/rollcallhq/rollcall/verify"
)

const (
	path = "sources/workos"
	ref  = secrets.Ref("vault:sources/workos#secret")
)

// key returns the nth signing secret, as a sender's console would show it.
func key(n int) string {
	return "whsec_" + base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "a secret of thirty bytes, no %03d", n))
}

// rig is a keyring over a real Vault, which runs.
type rig struct {
	*secrets.Keyring
	vault    *server
	registry *prometheus.Registry
	log      *logBuffer
	verifier *verify.Verifier
	config   secrets.Config
	stop     func()
}

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

// newRig runs a keyring with the secret "workos", read every tenth of a second, by a role of the least rights.
func newRig(t *testing.T, vault *server, changes ...func(*secrets.Config)) *rig {
	t.Helper()
	c := vault.Config(t, map[string]secrets.Ref{"workos": ref}, time.Hour, 24*time.Hour)
	return runRig(t, vault, c, changes...)
}

func runRig(t *testing.T, vault *server, c secrets.Config, changes ...func(*secrets.Config)) *rig {
	t.Helper()
	r := &rig{vault: vault, registry: prometheus.NewRegistry(), log: &logBuffer{}}
	c.Refresh, c.Grace, c.MaxStale = 100*time.Millisecond, time.Hour, time.Hour
	c.Registerer, c.Log = r.registry, zerolog.New(r.log)
	for _, change := range changes {
		change(&c)
	}
	r.config = c
	scheme, _ := verify.Preset("standard-webhooks")
	var err error
	if r.verifier, err = verify.New(scheme); err != nil {
		t.Fatal(err)
	}
	if r.Keyring, err = secrets.New(c); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(r.stop)
	t.Cleanup(func() {
		if log := r.log.String(); strings.Contains(log, "whsec_") || strings.Contains(log, "hvs.") {
			t.Errorf("the log shows a secret: %s", log)
		}
	})
	return r
}

// deliver verifies a delivery that is signed with the nth key, as the receiver does.
func (r *rig) deliver(n int) (version string, err error) {
	signer, err := r.verifier.NewKey("sender's", []byte(key(n)))
	if err != nil {
		return "", err
	}
	header, body, now := http.Header{}, []byte(`{"event":"dsync.user.created"}`), time.Now()
	if err := r.verifier.Sign(header, body, signer, "msg_1", now); err != nil {
		return "", err
	}
	snapshot, err := r.Current("workos")
	if err != nil {
		return "", err
	}
	var keys []*verify.Key
	for _, v := range snapshot.Versions {
		k, err := r.verifier.NewKey(v.ID, v.Secret.Reveal())
		if err != nil {
			return "", err
		}
		keys = append(keys, k)
	}
	result, err := r.verifier.Verify(header, body, keys, now)
	return result.KeyVersion, err
}

// versions returns the ids of the valid versions, newest first, or the error.
func (r *rig) versions() string {
	s, err := r.Current("workos")
	if err != nil {
		return err.Error()
	}
	var ids []string
	for _, v := range s.Versions {
		ids = append(ids, v.ID)
	}
	return strings.Join(ids, " ")
}

func (r *rig) becomes(t *testing.T, want string) {
	t.Helper()
	eventually(t, func() (string, bool) { got := r.versions(); return got, got == want }, want)
}

func (r *rig) fails(t *testing.T, want error) {
	t.Helper()
	eventually(t, func() (string, bool) {
		_, err := r.Current("workos")
		return r.versions(), errors.Is(err, want)
	}, want.Error())
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

// refreshed waits until a read that began from now on ends with the result.
func (r *rig) refreshed(t *testing.T, result string) {
	t.Helper()
	before := r.count(t, "rollcall_secret_refreshes_total", result)
	eventually(t, func() (string, bool) {
		return r.log.String(), r.count(t, "rollcall_secret_refreshes_total", result) >= before+2
	}, "two refreshes that end with "+result)
}

func eventually(t *testing.T, look func() (got string, ok bool), want string) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(60 * time.Second)
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

// load delivers with the keys that are switched on, from several senders, until it is stopped; then it returns how many
// were accepted and what was refused.
type load struct {
	accepted atomic.Int64
	refused  chan string
	keys     atomic.Pointer[[]int]
	stop     func()
}

func (r *rig) load(t *testing.T, keys ...int) *load {
	t.Helper()
	l := &load{refused: make(chan string, 1000)}
	l.keys.Store(&keys)
	ctx, cancel := context.WithCancel(t.Context())
	var senders sync.WaitGroup
	for range 4 {
		senders.Go(func() {
			for ctx.Err() == nil {
				for _, n := range *l.keys.Load() {
					if _, err := r.deliver(n); err != nil {
						select {
						case l.refused <- fmt.Sprintf("key %d: %v", n, err):
						default:
						}
						continue
					}
					l.accepted.Add(1)
				}
			}
		})
	}
	l.stop = sync.OnceFunc(func() { cancel(); senders.Wait() })
	t.Cleanup(l.stop)
	return l
}

// more waits until as many more were accepted.
func (l *load) more(t *testing.T, n int64) {
	t.Helper()
	want := l.accepted.Load() + n
	eventually(t, func() (string, bool) { got := l.accepted.Load(); return fmt.Sprint(got), got >= want }, fmt.Sprint(want))
}

func (l *load) withoutOneRefused(t *testing.T) {
	t.Helper()
	l.stop()
	if n := len(l.refused); n > 0 {
		t.Errorf("%d or more of %d were refused, the first: %s", n, l.accepted.Load(), <-l.refused)
	}
	t.Logf("%d accepted", l.accepted.Load())
}

func TestAProcessStartsWhileVaultIsDownAndHasItsKeysWhenVaultIsUp(t *testing.T) {
	t.Parallel()
	vault := startVault(t)
	vault.Put(t, path, map[string]any{"secret": key(1)})
	c := vault.Config(t, map[string]secrets.Ref{"workos": ref}, time.Hour, time.Hour)
	vault.Stop(t)
	r := runRig(t, vault, c)
	r.fails(t, secrets.ErrUnreachable)
	if err := r.Ready(); !errors.Is(err, secrets.ErrUnreachable) || !strings.Contains(err.Error(), "hint: ") {
		t.Errorf("Ready: %v", err)
	}
	vault.Start(t)
	if err := r.Wait(within(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
	if version, err := r.deliver(1); version != "1" || err != nil {
		t.Errorf("a delivery: key %q, %v", version, err)
	}
}

func TestASealedVaultCostsNoDelivery(t *testing.T) {
	t.Parallel()
	vault := startVault(t)
	vault.Put(t, path, map[string]any{"secret": key(1)})
	r := newRig(t, vault)
	r.becomes(t, "1")
	l := r.load(t, 1)
	l.more(t, 100)
	vault.Seal(t)
	for range 5 {
		r.refreshed(t, "sealed")
		l.more(t, 1000)
	}
	if err := r.Ready(); err != nil {
		t.Errorf("Ready while Vault is sealed: %v", err)
	}
	vault.Unseal(t)
	r.refreshed(t, "ok")
	vault.Put(t, path, map[string]any{"secret": key(2)})
	r.becomes(t, "2 1")
	l.withoutOneRefused(t)
	if n := strings.Count(r.log.String(), `"level":"error"`); n != 1 {
		t.Errorf("%d errors logged, want one:\n%s", n, r.log)
	}
}

// The operator writes the new secret to Vault, and has the sender change over when the keyring has it. Deliveries that
// were signed before go on to arrive.
func TestARotationCostsNoDelivery(t *testing.T) {
	t.Parallel()
	vault := startVault(t)
	vault.Put(t, path, map[string]any{"secret": key(1)})
	r := newRig(t, vault)
	r.becomes(t, "1")
	l := r.load(t, 1)
	for n := 2; n <= 8; n++ {
		l.more(t, 500)
		version := fmt.Sprint(vault.Put(t, path, map[string]any{"secret": key(n)}))
		eventually(t, func() (string, bool) { got := r.versions(); return got, strings.HasPrefix(got, version) }, version)
		l.keys.Store(&[]int{n, n - 1})
		l.more(t, 500)
		vault.Put(t, path, map[string]any{"secret": key(n), "note": n}) // a version that changes nothing
	}
	l.withoutOneRefused(t)
}

func TestADeliveryUnderAKeyThatIsNewInVaultIsAcceptedAfterOneEarlyRefresh(t *testing.T) {
	t.Parallel()
	vault := startVault(t)
	vault.Put(t, path, map[string]any{"secret": key(1)})
	r := newRig(t, vault, func(c *secrets.Config) { c.Refresh = time.Hour })
	r.becomes(t, "1")
	vault.Put(t, path, map[string]any{"secret": key(2)})
	if _, err := r.deliver(2); !errors.Is(err, verify.ErrMismatch) {
		t.Fatalf("before any refresh: %v", err)
	}
	r.Suspect("workos")
	eventually(t, func() (string, bool) { version, err := r.deliver(2); return fmt.Sprint(version, err), err == nil }, "accepted")
	if version, err := r.deliver(1); version != "1" || err != nil {
		t.Errorf("under the key before: %q, %v", version, err)
	}
}

func TestAVersionThatIsDestroyedOrDeletedSignsNothingAfterOneRefresh(t *testing.T) {
	t.Parallel()
	vault := startVault(t)
	vault.Put(t, path, map[string]any{"secret": key(1)})
	vault.Put(t, path, map[string]any{"secret": key(2)})
	vault.Put(t, path, map[string]any{"secret": key(3)})
	r := newRig(t, vault)
	r.becomes(t, "3 2 1")
	vault.Destroy(t, path, 1)
	r.becomes(t, "3 2")
	vault.Delete(t, path, 2)
	r.becomes(t, "3")
	for _, n := range []int{1, 2} {
		if _, err := r.deliver(n); !errors.Is(err, verify.ErrMismatch) {
			t.Errorf("under key %d: %v", n, err)
		}
	}
	began := time.Now()
	vault.Destroy(t, path, 3)
	r.fails(t, secrets.ErrNoCurrent)
	t.Logf("the last one was gone after %s", time.Since(began))
	if _, err := r.deliver(3); !errors.Is(err, secrets.ErrNoCurrent) {
		t.Errorf("under the last key: %v", err)
	}
}

func TestADeletedCurrentVersionIsNoEmptyKey(t *testing.T) {
	t.Parallel()
	vault := startVault(t)
	vault.Put(t, path, map[string]any{"secret": key(1)})
	r := newRig(t, vault)
	r.becomes(t, "1")
	if err := vault.Root.KVv2("kv").Delete(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	r.fails(t, secrets.ErrNoCurrent)
	if _, err := secrets.Fetch(t.Context(), r.config, ref); !errors.Is(err, secrets.ErrDeleted) {
		t.Errorf("Fetch: %v", err)
	}
	if err := vault.Root.KVv2("kv").Undelete(t.Context(), path, []int{1}); err != nil {
		t.Fatal(err)
	}
	r.becomes(t, "1")
}

func TestAVersionThatVaultWillDeleteIsValidUntilThen(t *testing.T) {
	t.Parallel()
	vault := startVault(t)
	vault.Put(t, path, map[string]any{"secret": key(1)})
	vault.write(t, "kv/metadata/"+path, map[string]any{"delete_version_after": "3s"})
	vault.Put(t, path, map[string]any{"secret": key(2)})
	r := newRig(t, vault, func(c *secrets.Config) { c.Grace = 0 })
	r.becomes(t, "2")
	s, err := r.Current("workos")
	if err != nil || s.Versions[0].Expires.IsZero() {
		t.Errorf("%v: no end is known", err)
	}
	r.fails(t, secrets.ErrNoCurrent)
}

func TestATokenRevokedFromOutsideIsReplaced(t *testing.T) {
	t.Parallel()
	vault := startVault(t)
	vault.Put(t, path, map[string]any{"secret": key(1)})
	r := newRig(t, vault)
	r.becomes(t, "1")
	l := r.load(t, 1)
	for range 3 {
		logins := r.count(t, "rollcall_vault_logins_total", "ok")
		vault.RevokeLogins(t)
		eventually(t, func() (string, bool) {
			n := r.count(t, "rollcall_vault_logins_total", "ok")
			return fmt.Sprint(n), n > logins
		}, "another login")
		r.refreshed(t, "ok")
	}
	l.withoutOneRefused(t)
}

func TestATokenThatCannotLiveLongerIsReplacedBeforeItEnds(t *testing.T) {
	t.Parallel()
	vault := startVault(t)
	vault.Put(t, path, map[string]any{"secret": key(1)})
	r := runRig(t, vault, vault.Config(t, map[string]secrets.Ref{"workos": ref}, 2*time.Second, 3*time.Second))
	r.becomes(t, "1")
	began := time.Now()
	eventually(t, func() (string, bool) {
		n := r.count(t, "rollcall_vault_logins_total", "ok")
		return fmt.Sprint(n), n >= 4
	}, "4 logins")
	t.Logf("3 lives of at most 3 s took %s", time.Since(began))
	vault.Put(t, path, map[string]any{"secret": key(2)})
	r.becomes(t, "2 1")
	if n := r.count(t, "rollcall_secret_refreshes_total", "denied"); n != 0 {
		t.Errorf("%v reads were denied:\n%s", n, r.log)
	}
}

func TestAPolicyThatIsTakenAwayKeepsTheKeysAndComesBack(t *testing.T) {
	t.Parallel()
	vault := startVault(t)
	vault.Put(t, path, map[string]any{"secret": key(1)})
	r := newRig(t, vault)
	r.becomes(t, "1")
	l := r.load(t, 1)
	vault.Policy(t, "rollcall", `path "kv/data/other" { capabilities = ["read"] }`)
	r.refreshed(t, "denied")
	l.more(t, 1000)
	if log := r.log.String(); !strings.Contains(log, "permission denied reading kv/metadata/"+path) || !strings.Contains(log, "rollcall vault policy") {
		t.Errorf("log: %s", log)
	}
	if err := secrets.Check(t.Context(), r.config); !errors.Is(err, secrets.ErrDenied) || !strings.Contains(err.Error(), "hint: ") {
		t.Errorf("Check: %v", err)
	}
	vault.Policy(t, "rollcall", secrets.Policy(r.config))
	r.refreshed(t, "ok")
	l.withoutOneRefused(t)
	if err := secrets.Check(t.Context(), r.config); err != nil {
		t.Errorf("Check with the policy that Policy prints: %v", err)
	}
}

func TestTokensAreGivenBack(t *testing.T) {
	t.Parallel()
	vault := startVault(t)
	vault.Put(t, path, map[string]any{"secret": key(1)})
	accessors := func() int {
		t.Helper()
		list, err := vault.Root.Logical().ListWithContext(t.Context(), "auth/token/accessors")
		if err != nil {
			t.Fatal(err)
		}
		return len(list.Data["keys"].([]any))
	}
	before := accessors()
	r := newRig(t, vault)
	r.becomes(t, "1")
	if _, err := secrets.Fetch(t.Context(), r.config, ref); err != nil {
		t.Error(err)
	}
	if err := secrets.Check(t.Context(), r.config); err != nil {
		t.Error(err)
	}
	if n := accessors() - before; n != 1 {
		t.Errorf("%d tokens while a keyring runs, want 1", n)
	}
	r.stop()
	if n := accessors() - before; n != 0 {
		t.Errorf("%d tokens are left", n)
	}
}

func TestATokenOfAnyKindIsRenewedOrReadAgain(t *testing.T) {
	t.Parallel()
	vault := startVault(t)
	vault.Put(t, path, map[string]any{"secret": key(1)})
	c := vault.Config(t, map[string]secrets.Ref{"workos": ref}, time.Hour, time.Hour)
	file := filepath.Join(t.TempDir(), "token")
	newToken := func() {
		t.Helper()
		made := vault.write(t, "auth/token/create", map[string]any{"policies": []string{"rollcall"}, "no_default_policy": true, "ttl": "2s", "explicit_max_ttl": "1h"})
		if err := os.WriteFile(file, []byte(made.Auth.ClientToken+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("a token file that nobody renews", func(t *testing.T) {
		newToken()
		c := c
		c.Vault.Auth = secrets.Auth{TokenFile: file}
		r := runRig(t, vault, c)
		r.becomes(t, "1")
		r.refreshed(t, "denied")
		newToken()
		r.refreshed(t, "ok")
	})
	t.Run("a token that may look itself up is renewed", func(t *testing.T) {
		vault.Policy(t, "rollcall", secrets.Policy(c)+`path "auth/token/lookup-self" { capabilities = ["read"] }`)
		newToken()
		c := c
		c.Vault.Auth = secrets.Auth{Token: secrets.Ref("file:" + file)}
		r := runRig(t, vault, c)
		r.becomes(t, "1")
		began := time.Now()
		eventually(t, func() (string, bool) { return "", time.Since(began) > 5*time.Second }, "twice its life")
		r.refreshed(t, "ok")
		if n := r.count(t, "rollcall_secret_refreshes_total", "denied"); n != 0 {
			t.Errorf("%v reads were denied:\n%s", n, r.log)
		}
	})
}

func TestCheckTellsAnOperatorWhatIsWrongWithTheRealVault(t *testing.T) {
	t.Parallel()
	vault := startVault(t)
	vault.Put(t, path, map[string]any{"secret": key(1)})
	c := vault.Config(t, map[string]secrets.Ref{"workos": ref, "other": "vault:sources/none#secret"}, time.Hour, time.Hour)
	is := func(what string, want error, hint string) {
		t.Helper()
		err := secrets.Check(within(t, time.Minute), c)
		if !errors.Is(err, want) || err != nil && !strings.Contains(err.Error(), hint) {
			t.Errorf("%s: %v\nwant %v with %q", what, err, want, hint)
		}
	}
	is("a secret that is not there", secrets.ErrMissing, "secret other: vault: kv/metadata/sources/none")
	delete(c.Refs, "other")
	is("all is well", nil, "")
	c.Refs["workos"] = "vault:sources/workos#secrt"
	is("a field that is not there", secrets.ErrMissing, `has no field "secrt"`)
	c.Refs["workos"] = "vault:nowhere//sources/workos#secret"
	is("a mount that is not there", secrets.ErrDenied, "nowhere/metadata/sources/workos")
	c.Refs["workos"] = ref
	vault.Seal(t)
	is("sealed", secrets.ErrSealed, "vault operator unseal")
	vault.Unseal(t)
	vault.Stop(t)
	is("down", secrets.ErrUnreachable, "vault.address")
	vault.Start(t)
	c.Vault.Auth.RoleID = "nobody"
	is("a role that is not there", secrets.ErrDenied, "auth/approle\nhint: ")
}
