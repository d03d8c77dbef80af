package handlers

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"github.com/rollcallhq/rollcall/secrets"
	"github.com/rollcallhq/rollcall/verify"
)

// ring is a keyring whose one snapshot the test replaces.
type ring struct {
	snapshot *secrets.Snapshot
	err      error
}

func (r *ring) Current(string) (*secrets.Snapshot, error) { return r.snapshot, r.err }

const (
	goodSecret  = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3"
	otherSecret = "whsec_ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4"
	badSecret   = "whsec_this is not the base64 that the scheme wants"
)

func snapshotOf(versions ...secrets.Version) *secrets.Snapshot {
	return &secrets.Snapshot{Versions: versions, Fetched: time.Now()}
}

// version makes a secret the only way there is: it is fetched.
func version(t *testing.T, id, text string) secrets.Version {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	fetched, err := secrets.Fetch(t.Context(), secrets.Config{}, secrets.Ref("file:"+file))
	if err != nil {
		t.Fatal(err)
	}
	return secrets.Version{ID: id, Secret: fetched.Versions[0].Secret}
}

func standardWebhooks(t *testing.T) *verify.Verifier {
	t.Helper()
	scheme, _ := verify.Preset("standard-webhooks")
	v, err := verify.New(scheme)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func versionsOf(keys []*verify.Key) (out []string) {
	for _, key := range keys {
		out = append(out, key.Version())
	}
	return out
}

func TestKeysFollowTheSnapshot(t *testing.T) {
	t.Parallel()
	v := standardWebhooks(t)
	r := &ring{snapshot: snapshotOf(version(t, "3", goodSecret), version(t, "2", otherSecret))}
	keys := Keys(r, "workos", v, zerolog.Nop())
	first, err := keys()
	if diff := cmp.Diff([]string{"3", "2"}, versionsOf(first)); diff != "" || err != nil {
		t.Fatalf("keys: %v\n%s", err, diff)
	}
	again, _ := keys()
	if first[0] != again[0] {
		t.Error("the keys of one snapshot were made twice")
	}
	h := http.Header{}
	if err := v.Sign(h, []byte("{}"), newKey(t, v, "sender's", otherSecret), "msg_1", time.Now()); err != nil {
		t.Fatal(err)
	}
	result, err := v.Verify(h, []byte("{}"), first, time.Now())
	if err != nil || result.KeyVersion != "2" || result.KeyIndex != 1 {
		t.Errorf("signed with the previous key: %+v, %v", result, err)
	}

	r.snapshot = snapshotOf(version(t, "4", goodSecret))
	if got, err := keys(); err != nil || !cmp.Equal(versionsOf(got), []string{"4"}) {
		t.Errorf("after a rotation: %v, %v", versionsOf(got), err)
	}
	r.err = errors.New("older than max_stale")
	if got, err := keys(); !errors.Is(err, r.err) || got != nil {
		t.Errorf("the keyring has none: %v, %v; keys from before must not do", got, err)
	}
}

func TestAVersionThatEndsIsNoKeyAnyMore(t *testing.T) {
	t.Parallel()
	ended, ending := version(t, "1", otherSecret), version(t, "2", otherSecret)
	ended.Expires, ending.Expires = time.Now().Add(-time.Second), time.Now().Add(50*time.Millisecond)
	keys := Keys(&ring{snapshot: snapshotOf(version(t, "3", goodSecret), ending, ended)}, "workos", standardWebhooks(t), zerolog.Nop())
	eventually(t, "only version 3 is left", func() bool {
		got, err := keys()
		return err == nil && cmp.Equal(versionsOf(got), []string{"3"})
	})
}

func TestAVersionThatCannotBeAKeyIsLeftOutAndLoggedOnce(t *testing.T) {
	t.Parallel()
	log := &logBuffer{}
	r := &ring{snapshot: snapshotOf(version(t, "3", badSecret), version(t, "2", goodSecret))}
	keys := Keys(r, "workos", standardWebhooks(t), zerolog.New(log))
	var running sync.WaitGroup
	for range 8 {
		running.Go(func() {
			if got, err := keys(); err != nil || !cmp.Equal(versionsOf(got), []string{"2"}) {
				t.Errorf("keys: %v, %v", versionsOf(got), err)
			}
		})
	}
	running.Wait()
	r.snapshot = snapshotOf(r.snapshot.Versions...)
	if _, err := keys(); err != nil {
		t.Error(err)
	}
	if lines := log.lines(t); len(lines) != 1 || lines[0]["key_version"] != "3" {
		t.Errorf("log: %s", log)
	}
	if strings.Contains(log.String(), "not the base64") {
		t.Errorf("the secret is in the log: %s", log)
	}

	r.snapshot = snapshotOf(version(t, "5", badSecret))
	got, err := keys()
	if len(got) != 0 || !errors.Is(err, verify.ErrSecretForm) || strings.Contains(err.Error(), "not the base64") {
		t.Errorf("no version is usable: %v, %v", got, err)
	}
}
