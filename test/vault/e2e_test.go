package vault

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/internal/simulator"
	program "github.com/rollcallhq/rollcall/test/rig"
)

func TestMain(m *testing.M) { os.Exit(program.Main(m)) }

// siteOn makes a site whose processes log in to the Vault by AppRole, with the policy that the program itself prints, and
// find the first signing secret there.
func siteOn(t *testing.T, vault *server, set ...string) *program.Site {
	t.Helper()
	dir := t.TempDir()
	roleFile, secretFile := filepath.Join(dir, "role-id"), filepath.Join(dir, "secret-id")
	site := program.New(t, program.Options{Secret: key(1), Reference: string(ref), Set: append([]string{
		"secrets.vault.address=" + vault.Address, "secrets.vault.auth.method=approle",
		"secrets.vault.auth.role_id_file=" + roleFile, "secrets.vault.auth.secret_id_file=" + secretFile,
	}, set...)})
	code, rules, talk := site.Command(t, "vault", "policy")
	if code != 0 {
		t.Fatalf("vault policy: exit code %d\n%s", code, talk)
	}
	roleID, secretID := vault.AppRole(t, "rollcall", rules, time.Hour, 24*time.Hour)
	for file, content := range map[string]string{roleFile: roleID, secretFile: secretID} {
		if err := os.WriteFile(file, []byte(content+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return site
}

// vaultWith is a Vault that holds the first signing secret.
func vaultWith(t *testing.T) *server {
	t.Helper()
	vault := startVault(t)
	vault.Put(t, path, map[string]any{"secret": key(1)})
	return vault
}

// started is a process that takes deliveries, and reads its secret every second.
func started(t *testing.T, site *program.Site, roles string) *program.Process {
	t.Helper()
	p := site.Serve(t, roles, "secrets.refresh=1s")
	p.AwaitReady(t)
	program.Until(t, "the process knows its queue", func() bool { return p.Log().Find("message", "queue") != nil })
	return p
}

// company is a small directory that is told of in a few deliveries, all of the past.
func company(people int) (*simulator.Directory, []simulator.Delivery) {
	return simulator.New(simulator.Config{Seed: 9, People: people, Groups: 3, Start: time.Now().Add(-time.Hour)})
}

func mustMatch(t *testing.T, site *program.Site, d *simulator.Directory) {
	t.Helper()
	site.Settle(t)
	dump, err := site.Store.Dump(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range d.Expected().Diff(dump) {
		t.Error(line)
	}
	if strings.Contains(site.Logs(), "whsec_") || strings.Contains(site.Logs(), "hvs.") {
		t.Error("the log shows a secret")
	}
}

func TestSamplePayloadsSignedWithASecretInVaultGiveWhatTheRulesSay(t *testing.T) {
	t.Parallel()
	vault := vaultWith(t)
	program.Fixtures(t, func(t *testing.T, set ...string) *program.Site { return siteOn(t, vault, set...) })
}

func TestAProcessWhoseVaultIsSealedGoesOnVerifying(t *testing.T) {
	t.Parallel()
	vault := vaultWith(t)
	site := siteOn(t, vault)
	d, deliveries := company(10)
	p := started(t, site, "receiver,worker")

	vault.Seal(t)
	program.Until(t, "a word on the sealed Vault", func() bool { return p.Log().Find("result", "sealed") != nil })
	for _, delivery := range deliveries {
		if a := site.Post(t, p.URL(), delivery.Body); a.Status != http.StatusOK {
			t.Fatalf("with a sealed Vault a delivery is answered %d %s, want 200", a.Status, a.Body)
		}
	}
	if a := site.Do(t, site.RequestAt(t, p.URL(), deliveries[0].Body, site.NewKey(t, key(2)), time.Now())); a.Status != http.StatusUnauthorized {
		t.Errorf("with a sealed Vault a delivery of somebody else is answered %d, want 401", a.Status)
	}
	if status, text := p.Ops(t, "/readyz"); status != http.StatusOK {
		t.Errorf("/readyz with a sealed Vault = %d %s, want 200", status, text)
	}
	vault.Unseal(t)
	program.Until(t, "the secret is read again", func() bool { return p.Log().Find("message", "secret can be read again") != nil })
	mustMatch(t, site, d)
}

// The new secret is put into Vault first, and the sender changes over some time, as somebody does who has two consoles
// open: nothing is refused meanwhile, on any process.
func TestASecretIsRotatedInVaultUnderLoadWithoutARefusal(t *testing.T) {
	t.Parallel()
	vault := vaultWith(t)
	site := siteOn(t, vault)
	d, deliveries := company(300)
	processes := []*program.Process{started(t, site, "receiver,worker"), started(t, site, "receiver")}
	half := len(deliveries) / 2

	old := site.Sender(t, program.NewSpread(processes...))
	old.Concurrency, old.Delay, old.Attempts = 2, 10*time.Millisecond, 1
	sent := sending(t, old, deliveries[:half])
	vault.Put(t, path, map[string]any{"secret": key(2)})
	for _, p := range processes {
		program.Until(t, "both versions are known", func() bool { return p.Log().Find("versions", "2,1") != nil })
	}
	fresh := site.Sender(t, program.NewSpread(processes...))
	fresh.Key, fresh.Concurrency, fresh.Delay, fresh.Attempts = site.NewKey(t, key(2)), 2, 10*time.Millisecond, 1
	sentToo := sending(t, fresh, deliveries[half:])
	for _, stats := range []simulator.Stats{sent(), sentToo()} {
		if t.Log(stats); len(stats.Status) != 1 || stats.Status[http.StatusOK] == 0 {
			t.Errorf("the answers are %v, want nothing but 200", stats.Status)
		}
	}
	for _, p := range processes {
		for _, version := range []string{"current", "previous"} {
			if n := p.Metric(t, `rollcall_key_verifications_total{source="workos",version="`+version+`"}`); n == 0 {
				t.Errorf("no delivery is counted for the %s key", version)
			}
		}
	}
	mustMatch(t, site, d)
	for version, want := range map[string]bool{"1": true, "2": true, "3": false} {
		if n := site.Count(t, `SELECT count(*) FROM rollcall.events WHERE key_version = $1`, version); (n > 0) != want {
			t.Errorf("%d events in the ledger were signed with version %s, want some: %t", n, version, want)
		}
	}
}

// sending begins to send, and returns what waits for the end of it.
func sending(t *testing.T, sender *simulator.Sender, deliveries []simulator.Delivery) (wait func() simulator.Stats) {
	t.Helper()
	var stats simulator.Stats
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		stats, err = sender.Send(t.Context(), deliveries)
	}()
	t.Cleanup(func() { <-done })
	return func() simulator.Stats {
		t.Helper()
		if <-done; err != nil {
			t.Fatalf("Send() = %v: %v", stats, err)
		}
		return stats
	}
}

func TestADestroyedVersionIsRefusedWithinARefresh(t *testing.T) {
	t.Parallel()
	vault := vaultWith(t)
	vault.Put(t, path, map[string]any{"secret": key(2)})
	site := siteOn(t, vault)
	_, deliveries := company(2)
	p := started(t, site, "receiver")
	post := func(n int) program.Answer {
		return site.Do(t, site.RequestAt(t, p.URL(), deliveries[0].Body, site.NewKey(t, key(n)), time.Now()))
	}
	if a := post(1); a.Status != http.StatusOK {
		t.Fatalf("the version before is answered %d, want 200", a.Status)
	}

	vault.Destroy(t, path, 1)
	begun := time.Now()
	program.Until(t, "the destroyed version is refused", func() bool { return post(1).Status == http.StatusUnauthorized })
	if took := time.Since(begun); took > 3*time.Second { // a second, a tenth, and what a busy machine takes
		t.Errorf("the destroyed version was accepted for %s, want a second", took)
	}
	if a := post(2); a.Status != http.StatusOK {
		t.Errorf("the current version is answered %d, want 200", a.Status)
	}

	vault.Destroy(t, path, 2)
	program.Until(t, "without any version nobody can be checked", func() bool { return post(2).Status == http.StatusServiceUnavailable })
	if status, _ := p.Ops(t, "/readyz"); status != http.StatusServiceUnavailable {
		t.Errorf("/readyz without a key = %d, want 503", status)
	}
}

func TestAProcessThatStartsWithoutItsVaultIsUnreadyUntilItIsThere(t *testing.T) {
	t.Parallel()
	vault := vaultWith(t)
	site := siteOn(t, vault)
	d, deliveries := company(5)
	vault.Stop(t)
	p := site.Serve(t, "receiver,worker", "secrets.refresh=1s")
	program.Until(t, "a word on the Vault that does not answer", func() bool { return p.Log().Find("result", "unreachable") != nil })
	if status, text := p.Ops(t, "/readyz?verbose"); status != http.StatusServiceUnavailable || !strings.Contains(text, "keys of workos failed") {
		t.Errorf("/readyz?verbose = %d %s, want 503 and a word on the keys", status, text)
	}
	a := site.Post(t, p.URL(), deliveries[0].Body)
	if a.Status != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "" {
		t.Errorf("a delivery that nobody can check is answered %d %v, want 503 with Retry-After", a.Status, a.Header)
	}
	a.Problem(t)

	vault.Start(t)
	p.AwaitReady(t)
	for _, delivery := range deliveries {
		program.Until(t, "a delivery is taken", func() bool { return site.Post(t, p.URL(), delivery.Body).Status == http.StatusOK })
	}
	mustMatch(t, site, d)
}
