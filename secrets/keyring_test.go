package secrets

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/rs/zerolog"

	"github.com/rollcallhq/rollcall/secrets/secretstest"
)

func TestANewVersionIsCurrentAndTheOneBeforeStaysForTheGrace(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.vault.Put("app/webhook", map[string]any{"key": first})
	r.becomes(t, "1=1")
	r.vault.Put("app/webhook", map[string]any{"key": second})
	r.becomes(t, "2=2 1=1")

	s, err := r.Current("hook")
	if err != nil {
		t.Fatal(err)
	}
	if at := r.clock.Now().Add(time.Hour); !s.Versions[1].Expires.Equal(at) || !s.Versions[0].Expires.IsZero() {
		t.Errorf("the versions end at %s and %s; want never and %s", s.Versions[0].Expires, s.Versions[1].Expires, at)
	}
	r.clock.Add(time.Hour - time.Millisecond)
	r.refreshed(t, "ok")
	r.becomes(t, "2=2 1=1")
	r.clock.Add(time.Millisecond)
	if got := r.values("hook"); got != "2=2" {
		t.Errorf("at the end of the grace, before any refresh: %s", got)
	}
	r.refreshed(t, "ok")
	r.becomes(t, "2=2")
	if s, err := Fetch(t.Context(), r.config, appRef); err != nil || valuesOf(s) != "2=2" {
		t.Errorf("Fetch: %v, %v", s, err)
	}
}

func TestAVersionThatCannotBeReadLeavesTheOneBefore(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(r *rig) { r.config.Grace = 0 })
	r.vault.Put("app/webhook", map[string]any{"key": first})
	r.becomes(t, "1=1")
	r.vault.Forbid("kv/data/app/webhook", true)
	r.vault.Put("app/webhook", map[string]any{"key": second})
	r.refreshed(t, "denied")
	r.becomes(t, "1=1")
	r.vault.Forbid("kv/data/app/webhook", false)
	r.becomes(t, "2=2")
}

func TestAWriteToAnotherFieldDoesNotPushTheOldValueOut(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.vault.Put("app/webhook", map[string]any{"key": first})
	r.vault.Put("app/webhook", map[string]any{"key": second})
	for i := range 5 {
		r.vault.Put("app/webhook", map[string]any{"key": second, "note": i})
	}
	r.becomes(t, "7=2 1=1")
}

func TestASecretIsAsOldAsItsValue(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	rotated := r.clock.Now()
	r.vault.Put("app/webhook", map[string]any{"key": second})
	r.clock.Add(10 * time.Minute)
	r.vault.Put("app/webhook", map[string]any{"key": second, "note": "another field"})
	is := func(id string, want time.Time) {
		t.Helper()
		eventually(t, func() (string, bool) {
			s, err := r.Current("hook")
			if err != nil {
				return err.Error(), false
			}
			return fmt.Sprintf("%s created %s", s.Versions[0].ID, s.Versions[0].Created), s.Versions[0].ID == id && s.Versions[0].Created.Equal(want)
		}, fmt.Sprintf("version %s of %s", id, want))
	}
	is("2", rotated)
	r.clock.Add(10 * time.Minute)
	r.vault.Put("app/webhook", map[string]any{"key": first})
	is("3", r.clock.Now())
	if got := r.created("hook"); got != float64(r.clock.Now().Unix()) {
		t.Errorf("the metric says %f, want %d", got, r.clock.Now().Unix())
	}
}

func TestTheGraceOfASecretWinsOverTheConfigured(t *testing.T) {
	t.Parallel()
	for grace, want := range map[string]string{"10s": "2=2", "2h": "2=2 1=1", "soon": "2=2 1=1", "-1h": "2=2 1=1"} {
		t.Run(grace, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.vault.Put("app/webhook", map[string]any{"key": first})
			r.vault.Put("app/webhook", map[string]any{"key": second})
			r.vault.Custom("app/webhook", map[string]string{"grace": grace})
			r.clock.Add(time.Minute)
			r.becomes(t, want)
		})
	}
}

func TestNoMoreThanThreeValuesAreValid(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for i := range 12 {
		r.vault.Put("app/webhook", map[string]any{"key": fmt.Sprint("value ", i)})
	}
	r.becomes(t, "12=value 11 11=value 10 10=value 9")
}

func TestAVersionThatWasTakenBackIsGoneWithTheNextRefresh(t *testing.T) {
	t.Parallel()
	for name, take := range map[string]func(v *secretstest.Vault, number int){
		"deleted":   func(v *secretstest.Vault, n int) { v.Delete("app/webhook", n) },
		"destroyed": func(v *secretstest.Vault, n int) { v.Destroy("app/webhook", n) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.vault.Put("app/webhook", map[string]any{"key": first})
			r.vault.Put("app/webhook", map[string]any{"key": second})
			r.becomes(t, "2=2 1=1")
			take(r.vault, 1)
			r.becomes(t, "2=2")
			take(r.vault, 2)
			r.fails(t, ErrNoCurrent)
			if err := r.Ready(); !errors.Is(err, ErrNoCurrent) {
				t.Errorf("Ready: %v", err)
			}
			r.vault.Put("app/webhook", map[string]any{"key": third})
			r.becomes(t, "3=3")
		})
	}
}

func TestWhenTheCurrentVersionIsTakenBackTheOneBeforeHasItsGrace(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(r *rig) {
		r.vault.Put("app/webhook", map[string]any{"key": first})
		r.vault.Put("app/webhook", map[string]any{"key": second})
	})
	r.becomes(t, "2=2 1=1")
	r.vault.Delete("app/webhook", 2)
	r.becomes(t, "1=1")
	if loud := r.log.at(t, "error"); len(loud) != 1 {
		t.Errorf("errors logged: %q", loud)
	}
	if _, err := Fetch(t.Context(), r.config, appRef); !errors.Is(err, ErrDeleted) {
		t.Errorf("Fetch, which wants the current one: %v", err)
	}
	r.clock.Add(time.Hour)
	r.fails(t, ErrNoCurrent)
}

// Vault's clock says when a version is deleted, and it may be ahead of ours.
func TestAVersionThatVaultHasDeletedIsGoneThoughItsTimeIsStillToComeHere(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(r *rig) {
		ahead := func() time.Time { return r.clock.Now().Add(10 * time.Minute) }
		r.vault.Clock(ahead)
	})
	r.vault.Put("app/webhook", map[string]any{"key": first})
	r.vault.Put("app/webhook", map[string]any{"key": second})
	r.becomes(t, "2=2 1=1")
	r.vault.Delete("app/webhook", 1)
	r.becomes(t, "2=2")
}

func TestADeletionThatIsToComeIsAnEndAndIsWarnedOf(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.vault.Put("app/webhook", map[string]any{"key": first})
	r.vault.DeleteAt("app/webhook", r.clock.Now().Add(time.Minute), 1)
	r.becomes(t, "1=1")
	r.refreshed(t, "ok")
	if warnings := r.log.at(t, "warn"); len(warnings) != 1 {
		t.Errorf("warnings: %q", warnings)
	}
	r.clock.Add(time.Minute - time.Millisecond)
	r.becomes(t, "1=1")
	r.clock.Add(time.Millisecond)
	if _, err := r.Current("hook"); !errors.Is(err, ErrNoCurrent) {
		t.Errorf("at the end: %v", err)
	}
	r.fails(t, ErrNoCurrent)
}

func TestAPathThatWasBegunAnewHoldsNothingOfTheOldOne(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.vault.Put("app/webhook", map[string]any{"key": first})
	r.becomes(t, "1=1")
	r.vault.Forget("app/webhook")
	r.clock.Add(time.Second)
	r.vault.Put("app/webhook", map[string]any{"key": second})
	r.becomes(t, "1=2")
}

func TestAValueThatCannotBeASecretIsRefusedAndTheOneBeforeStays(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		data map[string]any
		err  string
	}{
		"empty":       {map[string]any{"key": ""}, "empty"},
		"blank":       {map[string]any{"key": " \n"}, "empty"},
		"short":       {map[string]any{"key": "1234567"}, "fewer than the 8"},
		"not there":   {map[string]any{"kye": third}, "has no field"},
		"not a text":  {map[string]any{"key": 12345678}, "not a string"},
		"null":        {map[string]any{"key": nil}, "not a string"},
		"no field":    {map[string]any{}, "has no field"},
		"an object":   {map[string]any{"key": map[string]any{"a": third}}, "not a string"},
		"no data yet": {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(r *rig) { r.config.MinBytes = 8 })
			r.vault.Put("app/webhook", map[string]any{"key": first})
			r.becomes(t, "1=1")
			r.vault.Put("app/webhook", c.data)
			eventually(t, func() (string, bool) {
				return r.log.String(), strings.Contains(r.log.String(), c.err) && len(r.log.at(t, "error")) > 0
			}, c.err)
			r.becomes(t, "1=1")
			r.clock.Add(time.Hour)
			r.fails(t, ErrNoCurrent)
		})
	}
}

func TestASecretThatWasNeverGoodIsNeverAnEmptyKey(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.vault.Put("app/webhook", map[string]any{"key": ""})
	r.fails(t, ErrEmpty)
	if s, err := r.Current("hook"); s != nil || err == nil {
		t.Errorf("Current: %v, %v", s, err)
	}
	if s, err := Fetch(t.Context(), r.config, appRef); s != nil || !errors.Is(err, ErrEmpty) {
		t.Errorf("Fetch: %v, %v", s, err)
	}
}

// Each way in which Vault can fail to answer, with what an operator is told.
var troubles = map[string]struct {
	begin, end func(v *secretstest.Vault)
	err        error
	hint       string
}{
	"sealed": {(*secretstest.Vault).Seal, (*secretstest.Vault).Unseal, ErrSealed, "vault operator unseal"},
	"down": {
		func(v *secretstest.Vault) { v.Down(true) }, func(v *secretstest.Vault) { v.Down(false) }, ErrUnreachable, "vault.address",
	},
	"rate limit": {
		func(v *secretstest.Vault) { v.Throttle(true) }, func(v *secretstest.Vault) { v.Throttle(false) }, ErrThrottled, "quota",
	},
	"policy": {
		func(v *secretstest.Vault) { v.Forbid("kv/metadata/app/webhook", true) },
		func(v *secretstest.Vault) { v.Forbid("kv/metadata/app/webhook", false) }, ErrDenied, "rollcall vault policy",
	},
	"slow": {
		func(v *secretstest.Vault) { v.Latency(time.Minute) }, func(v *secretstest.Vault) { v.Latency(0) }, ErrUnreachable, "vault.address",
	},
	"path gone": {
		func(v *secretstest.Vault) { v.Forget("app/webhook") },
		func(v *secretstest.Vault) { v.Put("app/webhook", map[string]any{"key": first}) }, ErrMissing, "KV version 2",
	},
}

func TestWhenVaultFailsTheLastGoodKeysGoOnUntilMaxStaleAndItRecovers(t *testing.T) {
	t.Parallel()
	for name, trouble := range troubles {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(r *rig) {
				r.config.Vault.Timeout = 100 * time.Millisecond
				r.vault.Put("app/webhook", map[string]any{"key": first})
			})
			r.becomes(t, "1=1")
			trouble.begin(r.vault)
			r.refreshed(t, outcomeOf(trouble.err))
			if got, err := r.values("hook"), r.Ready(); got != "1=1" || err != nil {
				t.Errorf("while it fails: %s, Ready: %v", got, err)
			}
			log := r.log.String()
			if errs := r.log.at(t, "error"); len(errs) != 1 || !strings.Contains(log, "last good one") || !strings.Contains(log, trouble.hint) {
				t.Errorf("%d errors logged; want one that tells the consequence and %q:\n%s", len(errs), trouble.hint, log)
			}
			r.clock.Add(2*time.Hour + time.Second)
			r.fails(t, ErrStale)
			if _, err := r.Current("hook"); !errors.Is(err, trouble.err) {
				t.Errorf("Current does not tell the cause: %v", err)
			}
			trouble.end(r.vault)
			r.becomes(t, "1=1")
		})
	}
}

func TestAStartWhileVaultFailsIsAStartAndTheKeysComeWithIt(t *testing.T) {
	t.Parallel()
	for name, trouble := range troubles {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(r *rig) {
				r.config.Vault.Timeout = 100 * time.Millisecond
				r.vault.Put("app/webhook", map[string]any{"key": first})
				trouble.begin(r.vault)
			})
			r.fails(t, trouble.err)
			waited, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			defer cancel()
			if err := r.Wait(waited); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "secret hook") {
				t.Errorf("Wait: %v", err)
			}
			trouble.end(r.vault)
			if err := r.Wait(t.Context()); err != nil {
				t.Error(err)
			}
			r.becomes(t, "1=1")
		})
	}
}

func TestCheckSaysWhatIsWrongAndWhatToDo(t *testing.T) {
	t.Parallel()
	for name, trouble := range troubles {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := secretstest.New(t).Calm()
			v.Put("app/webhook", map[string]any{"key": first})
			c := Config{Refs: map[string]Ref{"hook": appRef}, Vault: appRoleAt(t, v)}
			c.Vault.Timeout = 200 * time.Millisecond
			if err := Check(t.Context(), c); err != nil {
				t.Errorf("while all is well: %v", err)
			}
			trouble.begin(v)
			err := Check(t.Context(), c)
			if !errors.Is(err, trouble.err) || !strings.Contains(err.Error(), "hint: ") || !strings.Contains(err.Error(), trouble.hint) {
				t.Errorf("%v; want %v with a hint of %q", err, trouble.err, trouble.hint)
			}
			trouble.end(v)
			if n := v.Tokens(); n > 1 { // one could not be given back while the trouble was
				t.Errorf("%d tokens are left", n)
			}
		})
	}
}

func TestCheckReadsWhatIsElsewhereThoughVaultIsSealed(t *testing.T) {
	t.Parallel()
	v := secretstest.New(t).Calm()
	v.Seal()
	c := Config{Refs: map[string]Ref{"hook": appRef, "other": Ref("file:" + filepath.Join(t.TempDir(), "none"))}, Vault: appRoleAt(t, v)}
	if err := Check(t.Context(), c); !errors.Is(err, ErrSealed) || !strings.Contains(err.Error(), "secret other: file ") {
		t.Errorf("%v", err)
	}
}

func TestCheckNamesTheRoleThatCannotLogIn(t *testing.T) {
	t.Parallel()
	v := secretstest.New(t).Calm()
	c := Config{Refs: map[string]Ref{"hook": appRef}, Vault: appRoleAt(t, v)}
	v.NewSecretID()
	err := Check(t.Context(), c)
	if !errors.Is(err, ErrDenied) || !strings.Contains(err.Error(), "auth/approle\nhint: role id and secret id") {
		t.Errorf("%v", err)
	}
	if strings.Contains(err.Error(), v.RoleID) {
		t.Errorf("it repeats the role id: %v", err)
	}
}

func TestATokenThatIsRevokedIsReplacedAtTheNextRead(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.vault.Put("app/webhook", map[string]any{"key": first})
	r.becomes(t, "1=1")
	for range 3 {
		logins := r.count(t, "rollcall_vault_logins_total", "ok")
		r.vault.RevokeAll()
		eventually(t, func() (string, bool) {
			n := r.count(t, "rollcall_vault_logins_total", "ok")
			return fmt.Sprint(n), n > logins
		}, "another login")
		r.vault.Put("app/webhook", map[string]any{"key": second})
		r.refreshed(t, "ok")
	}
	if loud := r.log.at(t, "error"); len(loud) > 3 {
		t.Errorf("errors logged: %q", loud)
	}
}

func TestARefusalThatALoginDoesNotMendMakesNoHeapOfTokens(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(r *rig) { r.config.Refresh = 50 * time.Millisecond })
	r.vault.Put("app/webhook", map[string]any{"key": first})
	r.becomes(t, "1=1")
	r.vault.Forbid("kv/metadata/app/webhook", true)
	began := time.Now()
	for range 5 {
		r.refreshed(t, "denied")
	}
	refreshes := float64(time.Since(began)/(50*time.Millisecond)) + 2
	if n := r.count(t, "rollcall_vault_logins_total", "ok"); n > 1+refreshes {
		t.Errorf("%v logins in the time of %v refreshes", n, refreshes)
	}
	if n := r.vault.Tokens(); n > 2 {
		t.Errorf("%d tokens are valid; the one before is given back", n)
	}
}

func TestTheTokenIsGivenBackAtTheEnd(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.vault.Put("app/webhook", map[string]any{"key": first})
	r.becomes(t, "1=1")
	r.stop()
	if n := r.vault.Tokens(); n != 0 {
		t.Errorf("%d tokens are left", n)
	}
	if got := r.values("hook"); got != "1=1" {
		t.Errorf("after the end, for what still drains: %s", got)
	}
}

func TestANewLoginEndsTheWaitOfThoseThatFailed(t *testing.T) {
	t.Parallel()
	s := newSession(&vault{}, Config{Log: zerolog.Nop()})
	a, b := &token{value: newSecret([]byte(first))}, &token{value: newSecret([]byte(second))}
	next := s.loggedIn()
	told := func() bool {
		select {
		case <-next:
			next = s.loggedIn()
			return true
		default:
			return false
		}
	}
	for i, step := range []struct {
		token *token
		want  bool
	}{{a, true}, {a, false}, {b, true}} {
		s.install(step.token)
		if got := told(); got != step.want {
			t.Errorf("login %d: told %v, want %v", i+1, got, step.want)
		}
	}
	k, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan struct{})
	close(closed)
	k.pause(t.Context(), &entry{}, time.Hour, closed)
}

func TestATokenThatSomebodyElseMadeIsNotGivenBack(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(r *rig) {
		file := filepath.Join(t.TempDir(), "token")
		write(t, file, r.vault.Token(0, false))
		r.config.Vault.Auth = Auth{Token: Ref("file:" + file)}
	})
	r.vault.Put("app/webhook", map[string]any{"key": first})
	r.becomes(t, "1=1")
	r.stop()
	if n := r.vault.Tokens(); n != 1 {
		t.Errorf("%d tokens are valid; want the one", n)
	}
}

func TestATokenFileIsReadAgainWhenItChangesAndWhenVaultRefusesItsToken(t *testing.T) {
	t.Parallel()
	var file string
	r := newRig(t, func(r *rig) {
		file = filepath.Join(t.TempDir(), "token")
		r.config.Vault.Auth = Auth{Method: "token_file", TokenFile: file}
		r.vault.Put("app/webhook", map[string]any{"key": first})
	})
	r.fails(t, ErrMissing)
	write(t, file, r.vault.Token(0, false)+"\n")
	r.becomes(t, "1=1")
	logins := r.count(t, "rollcall_vault_logins_total", "ok")
	write(t, file, r.vault.Token(0, false))
	eventually(t, func() (string, bool) {
		n := r.count(t, "rollcall_vault_logins_total", "ok")
		return fmt.Sprint(n), n > logins
	}, "the new token")
	r.vault.RevokeAll()
	r.refreshed(t, "denied")
	write(t, file, r.vault.Token(0, false))
	r.refreshed(t, "ok")
}

func TestARevokedStaticTokenIsToldAndComesBackWithANewOne(t *testing.T) {
	t.Parallel()
	var file string
	r := newRig(t, func(r *rig) {
		file = filepath.Join(t.TempDir(), "token")
		write(t, file, "hvs.nobody-made-this")
		r.config.Vault.Auth = Auth{Method: "token", Token: Ref("file:" + file)}
		r.vault.Put("app/webhook", map[string]any{"key": first})
	})
	r.fails(t, ErrDenied)
	if _, err := r.Current("hook"); !strings.Contains(err.Error(), "hint: put a new one") {
		t.Errorf("%v", err)
	}
	write(t, file, r.vault.Token(time.Hour, true))
	r.becomes(t, "1=1")
}

func TestANewSecretIDIsReadAtTheNextLogin(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.vault.Put("app/webhook", map[string]any{"key": first})
	r.becomes(t, "1=1")
	id := r.vault.NewSecretID()
	r.vault.RevokeAll()
	r.refreshed(t, "denied")
	write(t, r.config.Vault.Auth.SecretIDFile, id)
	r.refreshed(t, "ok")
}

// A Vault that is out of order all the time, as the real one is on a bad day.
func TestKeysAreThereFromAVaultThatMisbehaves(t *testing.T) {
	t.Parallel()
	var v *secretstest.Vault
	r := newRig(t, func(r *rig) {
		v = secretstest.New(t)
		r.vault, r.config.Vault, r.config.Now = v, appRoleAt(t, v), time.Now
	})
	v.Put("app/webhook", map[string]any{"key": first})
	r.becomes(t, "1=1")
	for i := range 10 {
		n := v.Put("app/webhook", map[string]any{"key": fmt.Sprint("value ", i)})
		eventually(t, func() (string, bool) {
			got := r.values("hook")
			return got, strings.HasPrefix(got, fmt.Sprintf("%d=value %d ", n, i))
		}, fmt.Sprintf("%d=value %d and the one before", n, i))
	}
}

func TestAValueIsReadOnceAndThenOnlyTheListOfVersions(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.vault.Put("app/webhook", map[string]any{"key": first})
	r.vault.Put("app/webhook", map[string]any{"key": second})
	r.becomes(t, "2=2 1=1")
	r.refreshed(t, "ok")
	want := []string{"GET kv/data/app/webhook?version=1", "GET kv/data/app/webhook?version=2"}
	got := slices.DeleteFunc(r.vault.Calls(), func(call string) bool { return !strings.Contains(call, "/data/") })
	slices.Sort(got)
	if diff := cmp.Diff(want, slices.Compact(got)); diff != "" || len(got) > 2 {
		t.Errorf("read:\n%s", strings.Join(got, "\n"))
	}
}

func TestManyReadWhileKeysAreReplaced(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.vault.Put("app/webhook", map[string]any{"key": first})
	r.becomes(t, "1=1")
	ctx, cancel := context.WithCancel(t.Context())
	var reading sync.WaitGroup
	for range 8 {
		reading.Go(func() {
			for ctx.Err() == nil {
				if s, err := r.Current("hook"); err != nil || len(s.Versions) == 0 {
					t.Errorf("Current: %v, %v", s, err)
				}
				r.Suspect("hook")
				r.Suspect("unknown")
				_ = r.Age("hook")
			}
		})
	}
	for i := range 10 {
		r.vault.Put("app/webhook", map[string]any{"key": fmt.Sprint("value ", i)})
		r.refreshed(t, "ok")
	}
	cancel()
	reading.Wait()
	if _, err := r.Current("unknown"); !errors.Is(err, ErrUnknown) {
		t.Errorf("of an unknown name: %v", err)
	}
}

func TestKeyringMetrics(t *testing.T) {
	t.Parallel()
	v := secretstest.New(t).Calm()
	registry, clock := prometheus.NewRegistry(), newClock()
	k, err := New(Config{Refs: map[string]Ref{"hook": appRef}, Vault: appRoleAt(t, v), Registerer: registry, Now: clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	clock.Add(90 * time.Second)
	want := `# HELP rollcall_keyring_age_seconds Time since the secret was read, or waited for when it never was.
# TYPE rollcall_keyring_age_seconds gauge
rollcall_keyring_age_seconds{source="hook"} 90
# HELP rollcall_secret_created_timestamp_seconds When the newest version of the secret was written; 0 when it is not known.
# TYPE rollcall_secret_created_timestamp_seconds gauge
rollcall_secret_created_timestamp_seconds{source="hook"} 0
# HELP rollcall_secret_refreshes_total Reads of secrets, by what came of them.
# TYPE rollcall_secret_refreshes_total counter
rollcall_secret_refreshes_total{result="deleted",source="hook"} 0
rollcall_secret_refreshes_total{result="denied",source="hook"} 0
rollcall_secret_refreshes_total{result="empty",source="hook"} 0
rollcall_secret_refreshes_total{result="failed",source="hook"} 0
rollcall_secret_refreshes_total{result="missing",source="hook"} 0
rollcall_secret_refreshes_total{result="no_current",source="hook"} 0
rollcall_secret_refreshes_total{result="ok",source="hook"} 0
rollcall_secret_refreshes_total{result="sealed",source="hook"} 0
rollcall_secret_refreshes_total{result="throttled",source="hook"} 0
rollcall_secret_refreshes_total{result="unreachable",source="hook"} 0
# HELP rollcall_vault_logins_total Logins to Vault, by what came of them.
# TYPE rollcall_vault_logins_total counter
rollcall_vault_logins_total{result="denied"} 0
rollcall_vault_logins_total{result="failed"} 0
rollcall_vault_logins_total{result="missing"} 0
rollcall_vault_logins_total{result="ok"} 0
rollcall_vault_logins_total{result="sealed"} 0
rollcall_vault_logins_total{result="throttled"} 0
rollcall_vault_logins_total{result="unreachable"} 0
# HELP rollcall_vault_token_expiry_timestamp_seconds When the Vault token ends if it is not renewed; 0 when it has no known end.
# TYPE rollcall_vault_token_expiry_timestamp_seconds gauge
rollcall_vault_token_expiry_timestamp_seconds 0
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
	if age := k.Age("hook"); age != 90*time.Second {
		t.Errorf("Age: %s", age)
	}
}

// inFile runs a keyring over a file under the bubble's clock.
func inFile(t *testing.T, content string, change func(*Config)) (k *Keyring, file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "secret")
	write(t, file, content)
	c := Config{Refs: map[string]Ref{"hook": Ref("file:" + file)}, Grace: time.Hour, Log: zerolog.New(io.Discard)}
	if change != nil {
		change(&c)
	}
	k, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	synctest.Wait()
	return k, file
}

// secretsOf returns the values, newest first, or the error.
func secretsOf(k *Keyring) string {
	s, err := k.Current("hook")
	if err != nil {
		return err.Error()
	}
	var all []string
	for _, v := range s.Versions {
		all = append(all, string(v.Secret.Reveal()))
	}
	return strings.Join(all, " ")
}

func TestAFileIsReadAgainAndWhatWasInItStaysForTheGrace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k, file := inFile(t, "one\n", nil)
		is := func(want string) {
			t.Helper()
			if got := secretsOf(k); got != want {
				t.Errorf("%s: got %q, want %q", time.Now().Format(time.TimeOnly), got, want)
			}
		}
		is("one")
		write(t, file, "two\r\n")
		is("one")
		time.Sleep(33 * time.Second)
		is("two one")
		time.Sleep(time.Hour)
		is("two")
		write(t, file, "one")
		time.Sleep(33 * time.Second)
		is("one two")
		write(t, file, "\n")
		time.Sleep(33 * time.Second)
		is("one two")
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		time.Sleep(23 * time.Hour)
		is("one")
		time.Sleep(2 * time.Hour)
		if got := secretsOf(k); !strings.Contains(got, ErrStale.Error()) || !strings.Contains(got, ErrMissing.Error()) {
			t.Errorf("after max_stale: %s", got)
		}
		write(t, file, "three")
		time.Sleep(33 * time.Second)
		is("three one")
	})
}

func TestSuspicionReadsEarlyButNotOften(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k, file := inFile(t, "one", nil)
		time.Sleep(10 * time.Second)
		write(t, file, "two")
		k.Suspect("hook")
		synctest.Wait()
		if got := secretsOf(k); got != "two one" {
			t.Errorf("at once: %s", got)
		}
		write(t, file, "three")
		for range 100 {
			k.Suspect("hook")
			time.Sleep(40 * time.Millisecond)
		}
		if got := secretsOf(k); got != "two one" {
			t.Errorf("4 s after an early read, suspected all the time: %s", got)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got := secretsOf(k); got != "three two one" {
			t.Errorf("5 s after an early read: %s", got)
		}
	})
}

func TestRefreshesAreSpreadByATenth(t *testing.T) {
	t.Parallel()
	low, high := time.Hour, time.Duration(0)
	for range 1000 {
		d := jitter(30 * time.Second)
		low, high = min(low, d), max(high, d)
	}
	if low < 27*time.Second || low > 28*time.Second || high > 33*time.Second || high < 32*time.Second {
		t.Errorf("between %s and %s; want 27 s to 33 s", low, high)
	}
}

// Kubernetes has the file behind two symbolic links, and turns the middle one.
func TestAFileThatIsReplacedByTurningALinkIsSeen(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	turn := func(to, content string) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(folder, to), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(folder, to, "key"), content)
		link := filepath.Join(folder, "..new")
		if err := errors.Join(os.Symlink(to, link), os.Rename(link, filepath.Join(folder, "..data"))); err != nil {
			t.Fatal(err)
		}
	}
	turn("..1", first)
	if err := os.Symlink(filepath.Join("..data", "key"), filepath.Join(folder, "key")); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, func(r *rig) {
		r.config.Refs = map[string]Ref{"hook": Ref("file:" + filepath.Join(folder, "key"))}
	})
	eventually(t, func() (string, bool) { got := r.values("hook"); return got, strings.HasSuffix(got, "=1") }, "the first")
	turn("..2", second)
	eventually(t, func() (string, bool) {
		got := r.values("hook")
		return got, strings.Contains(got, "=2 ") && strings.HasSuffix(got, "=1")
	}, "the second, then the first")
	s, err := r.Current("hook")
	if err != nil {
		t.Fatal(err)
	}
	if a, b := s.Versions[0].ID, s.Versions[1].ID; a == b || !strings.HasPrefix(a, "file-2") {
		t.Errorf("the versions are called %s and %s", a, b)
	}
}

func TestAFileIsOneSecretWithoutItsLastLineBreak(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		content, want string
		err           error
	}{
		"plain": {"abc", "abc", nil}, "line": {"abc\n", "abc", nil}, "line of Windows": {"abc\r\n", "abc", nil},
		"two line breaks": {"abc\n\n", "abc\n", nil}, "spaces": {" abc ", " abc ", nil}, "carriage return alone": {"abc\r", "abc\r", nil},
		"empty": {"", "", ErrEmpty}, "line break": {"\n", "", ErrEmpty}, "blank": {" \t\n", "", ErrEmpty},
		"64 KiB": {strings.Repeat("x", 64<<10), strings.Repeat("x", 64<<10), nil},
	} {
		file := filepath.Join(t.TempDir(), "secret")
		write(t, file, c.content)
		s, err := Fetch(t.Context(), Config{}, Ref("file:"+file))
		if !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v", name, err, c.err)
			continue
		}
		if err == nil && string(s.Versions[0].Secret.Reveal()) != c.want {
			t.Errorf("%s: not what is in the file", name)
		}
	}
	file := filepath.Join(t.TempDir(), "secret")
	write(t, file, strings.Repeat("x", 64<<10+1))
	if _, err := Fetch(t.Context(), Config{}, Ref("file:"+file)); err == nil || !strings.Contains(err.Error(), "longer than 65536") {
		t.Errorf("longer than a secret: %v", err)
	}
	if _, err := Fetch(t.Context(), Config{}, Ref("file:"+file+"/none")); err == nil {
		t.Error("what is not there was read")
	}
}

func TestAVariableIsReadOnce(t *testing.T) {
	t.Setenv("ROLLCALL_TEST_SECRET", first)
	t.Setenv("ROLLCALL_TEST_EMPTY", "")
	r := newRig(t, func(r *rig) { r.config.Refs = map[string]Ref{"hook": "env:ROLLCALL_TEST_SECRET"} })
	r.becomes(t, "env=1")
	t.Setenv("ROLLCALL_TEST_SECRET", second)
	r.refreshed(t, "ok")
	if got := r.values("hook"); got != "env=1" {
		t.Errorf("after the variable changed: %s", got)
	}
	for ref, want := range map[Ref]error{"env:ROLLCALL_TEST_EMPTY": ErrEmpty, "env:ROLLCALL_TEST_NONE": ErrMissing} {
		if _, err := Fetch(t.Context(), Config{}, ref); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", ref, err, want)
		}
	}
}

func TestAKeyringWithoutSecretsIsReady(t *testing.T) {
	t.Parallel()
	k, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := errors.Join(k.Run(ctx), k.Ready(), k.Wait(t.Context())); err != nil {
		t.Error(err)
	}
}
