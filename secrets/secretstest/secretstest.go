// Package secretstest is a Vault for tests: plain HTTP, in memory, with as much of it as secrets uses, and out of order
// now and then unless told to be calm. What it answers is compared with a real one in test/vault.
package secretstest

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Mount is where its KV version 2 engine is.
const Mount = "kv"

// Vault is the server. Its methods may be called by many goroutines at once.
type Vault struct {
	URL    string
	RoleID string // of its only AppRole, at auth/approle

	server *httptest.Server

	// mu guards what follows.
	mu       sync.Mutex
	now      func() time.Time
	secrets  map[string]*secret
	tokens   map[string]*token
	secretID string
	ttl      time.Duration
	maxTTL   time.Duration
	mood     mood
	calls    []string
}

// mood is how it behaves.
type mood struct {
	calm      bool
	sealed    bool
	down      bool
	throttled bool
	latency   time.Duration
	forbidden map[string]bool
}

type secret struct {
	created  time.Time
	updated  time.Time
	custom   map[string]string
	versions []*version // the first is number 1
}

type version struct {
	data      map[string]any
	created   time.Time
	deletion  time.Time
	destroyed bool
}

type token struct {
	made      time.Time
	ends      time.Time // zero if it does not
	renewable bool
	role      bool // made by a login
}

// New starts one, which the test's end stops. It is unsealed, has no secrets, and gives tokens of an hour.
func New(t testing.TB) *Vault {
	t.Helper()
	v := &Vault{
		RoleID: rand.Text(), secretID: rand.Text(), now: time.Now, ttl: time.Hour, maxTTL: 24 * time.Hour,
		secrets: map[string]*secret{}, tokens: map[string]*token{}, mood: mood{forbidden: map[string]bool{}},
	}
	v.server = httptest.NewServer(http.HandlerFunc(v.serve))
	v.URL = v.server.URL
	t.Cleanup(v.server.Close)
	return v
}

// Calm stops it from being out of order by itself. The test says then what goes wrong.
func (v *Vault) Calm() *Vault {
	v.change(func() { v.mood.calm = true })
	return v
}

// Clock makes it take the time from now.
func (v *Vault) Clock(now func() time.Time) { v.change(func() { v.now = now }) }

// Seal makes every call fail until Unseal.
func (v *Vault) Seal() { v.change(func() { v.mood.sealed = true }) }

// Unseal ends Seal.
func (v *Vault) Unseal() { v.change(func() { v.mood.sealed = false }) }

// Down makes it close every connection without a word, or ends that.
func (v *Vault) Down(down bool) { v.change(func() { v.mood.down = down }) }

// Throttle makes it answer 429, or ends that.
func (v *Vault) Throttle(on bool) { v.change(func() { v.mood.throttled = on }) }

// Latency makes it wait before each answer.
func (v *Vault) Latency(d time.Duration) { v.change(func() { v.mood.latency = d }) }

// Forbid makes it refuse a path such as "kv/data/app", or ends that: a policy that is not right.
func (v *Vault) Forbid(path string, on bool) { v.change(func() { v.mood.forbidden[path] = on }) }

// Lives sets the life of the tokens to come.
func (v *Vault) Lives(ttl, maxTTL time.Duration) { v.change(func() { v.ttl, v.maxTTL = ttl, maxTTL }) }

// SecretID returns the secret id of the AppRole that is good now.
func (v *Vault) SecretID() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.secretID
}

// NewSecretID makes another, and the one before invalid.
func (v *Vault) NewSecretID() string {
	v.change(func() { v.secretID = rand.Text() })
	return v.SecretID()
}

// Token makes a token without a role. With a life of 0 it has no end.
func (v *Vault) Token(life time.Duration, renewable bool) string {
	v.mu.Lock()
	defer v.mu.Unlock()
	t := &token{made: v.now(), renewable: renewable}
	if life > 0 {
		t.ends = v.now().Add(life)
	}
	return v.keep(t)
}

// RevokeAll makes all tokens invalid.
func (v *Vault) RevokeAll() { v.change(func() { clear(v.tokens) }) }

// Tokens returns how many tokens are valid.
func (v *Vault) Tokens() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	n := 0
	for _, t := range v.tokens {
		if t.valid(v.now()) {
			n++
		}
	}
	return n
}

// Calls returns what was asked for, such as "GET kv/data/app?version=1", oldest first.
func (v *Vault) Calls() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.calls)
}

// Put writes a version and returns its number.
func (v *Vault) Put(path string, data map[string]any) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	s, now := v.secrets[path], v.now().UTC()
	if s == nil {
		s = &secret{created: now}
		v.secrets[path] = s
	}
	s.updated = now
	s.versions = append(s.versions, &version{data: maps.Clone(data), created: now})
	return len(s.versions)
}

// Delete deletes versions of the path; it can be undone, but not here.
func (v *Vault) Delete(path string, numbers ...int) {
	v.each(path, numbers, func(x *version) { x.deletion = v.now().UTC() })
}

// DeleteAt sets the time from which versions are deleted, as delete_version_after does.
func (v *Vault) DeleteAt(path string, at time.Time, numbers ...int) {
	v.each(path, numbers, func(x *version) { x.deletion = at })
}

// Destroy destroys versions of the path.
func (v *Vault) Destroy(path string, numbers ...int) {
	v.each(path, numbers, func(x *version) { x.destroyed, x.data = true, nil })
}

// Forget removes the path with all its versions and metadata.
func (v *Vault) Forget(path string) { v.change(func() { delete(v.secrets, path) }) }

// Custom sets the path's custom metadata.
func (v *Vault) Custom(path string, custom map[string]string) {
	v.change(func() { v.secrets[path].custom = custom })
}

func (v *Vault) change(what func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	what()
}

func (v *Vault) each(path string, numbers []int, what func(*version)) {
	v.change(func() {
		for _, n := range numbers {
			what(v.secrets[path].versions[n-1])
		}
	})
}

func (v *Vault) keep(t *token) string {
	value := "hvs." + rand.Text()
	v.tokens[value] = t
	return value
}

func (t *token) valid(now time.Time) bool { return t != nil && (t.ends.IsZero() || now.Before(t.ends)) }

func (t *token) left(now time.Time) int {
	if t.ends.IsZero() {
		return 0
	}
	return int(t.ends.Sub(now).Round(time.Second) / time.Second)
}

func (v *Vault) serve(w http.ResponseWriter, req *http.Request) {
	path := strings.TrimPrefix(req.URL.Path, "/v1/")
	body, err := io.ReadAll(req.Body) // whole, so that the server sees when the client goes
	if err != nil {
		return
	}
	v.mu.Lock()
	call := req.Method + " " + path
	if req.URL.RawQuery != "" {
		call += "?" + req.URL.RawQuery
	}
	v.calls = append(v.calls, call)
	number, m := len(v.calls), v.mood
	v.mu.Unlock()

	if !pass(req, m.latency) || m.down {
		panic(http.ErrAbortHandler)
	}
	if m.disturbs(w, path, number) {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case path == "sys/health":
		v.health(w)
	case v.mood.sealed:
		refuse(w, http.StatusServiceUnavailable, "Vault is sealed")
	case path == "auth/approle/login":
		v.login(w, body)
	default:
		v.authorised(w, req, path)
	}
}

// pass waits; false means that nobody waits for the answer any more.
func pass(req *http.Request, latency time.Duration) bool {
	timer := time.NewTimer(latency)
	defer timer.Stop()
	select {
	case <-req.Context().Done():
		return false
	case <-timer.C:
		return true
	}
}

// disturbs answers in the place of Vault, every now and then unless calm: with a lost connection, too many requests, a
// fault, a page of some proxy.
func (m mood) disturbs(w http.ResponseWriter, path string, number int) bool {
	if m.throttled {
		refuse(w, http.StatusTooManyRequests, overQuota(path))
		return true
	}
	if m.calm {
		return false
	}
	switch number % 11 {
	case 2:
		panic(http.ErrAbortHandler)
	case 4:
		refuse(w, http.StatusTooManyRequests, overQuota(path))
	case 6:
		refuse(w, http.StatusInternalServerError, "internal error")
	case 8:
		w.WriteHeader(http.StatusBadGateway)
		_, _ = w.Write([]byte("<html>Bad Gateway</html>"))
	default:
		return false
	}
	return true
}

func overQuota(path string) string {
	return fmt.Sprintf("request path %q: rate limit quota exceeded", path)
}

func (v *Vault) health(w http.ResponseWriter) {
	status := http.StatusOK
	if v.mood.sealed {
		status = http.StatusServiceUnavailable
	}
	answer(w, status, map[string]any{"initialized": true, "sealed": v.mood.sealed, "standby": v.mood.sealed})
}

func (v *Vault) login(w http.ResponseWriter, body []byte) {
	var given struct {
		RoleID   string `json:"role_id"`
		SecretID string `json:"secret_id"`
	}
	if err := json.Unmarshal(body, &given); err != nil || given.RoleID != v.RoleID || given.SecretID != v.secretID {
		refuse(w, http.StatusBadRequest, "invalid role or secret ID")
		return
	}
	t := &token{made: v.now(), ends: v.now().Add(min(v.ttl, v.maxTTL)), renewable: true, role: true}
	v.grant(w, "", v.keep(t), t)
}

// grant answers with a token, as logins and renewals do.
func (v *Vault) grant(w http.ResponseWriter, mountType, value string, t *token) {
	auth := map[string]any{
		"client_token": value, "accessor": rand.Text(), "policies": []string{"rollcall"}, "token_policies": []string{"rollcall"},
		"metadata": nil, "lease_duration": t.left(v.now()), "renewable": t.renewable, "entity_id": "", "token_type": "service",
		"orphan": t.role, "mfa_requirement": nil, "num_uses": 0,
	}
	if t.role {
		auth["entity_id"], auth["metadata"] = rand.Text(), map[string]string{"role_name": "rollcall"}
	}
	body := envelope(nil, mountType)
	body["auth"] = auth
	answer(w, http.StatusOK, body)
}

func (v *Vault) authorised(w http.ResponseWriter, req *http.Request, path string) {
	value := req.Header.Get("X-Vault-Token")
	t := v.tokens[value]
	if !t.valid(v.now()) {
		refuse(w, http.StatusForbidden, "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n")
		return
	}
	if v.mood.forbidden[path] {
		refuse(w, http.StatusForbidden, "1 error occurred:\n\t* permission denied\n\n")
		return
	}
	data, isData := strings.CutPrefix(path, Mount+"/data/")
	metadata, isMetadata := strings.CutPrefix(path, Mount+"/metadata/")
	switch {
	case path == "auth/token/renew-self":
		v.renew(w, value, t)
	case path == "auth/token/revoke-self":
		delete(v.tokens, value)
		w.WriteHeader(http.StatusNoContent)
	case path == "auth/token/lookup-self":
		v.lookup(w, value, t)
	case isData:
		v.data(w, req, data)
	case isMetadata:
		v.metadata(w, metadata)
	default:
		refuse(w, http.StatusNotFound)
	}
}

func (v *Vault) renew(w http.ResponseWriter, value string, t *token) {
	if !t.renewable {
		refuse(w, http.StatusBadRequest, "lease is not renewable")
		return
	}
	t.ends = v.now().Add(v.ttl)
	if last := t.made.Add(v.maxTTL); t.ends.After(last) {
		t.ends = last
	}
	v.grant(w, "token", value, t)
}

func (v *Vault) lookup(w http.ResponseWriter, value string, t *token) {
	data := map[string]any{"id": value, "ttl": t.left(v.now()), "renewable": t.renewable, "type": "service"}
	answer(w, http.StatusOK, envelope(data, "token"))
}

func (v *Vault) data(w http.ResponseWriter, req *http.Request, path string) {
	s := v.secrets[path]
	if s == nil {
		refuse(w, http.StatusNotFound)
		return
	}
	number, _ := strconv.Atoi(req.URL.Query().Get("version"))
	if number == 0 {
		number = len(s.versions)
	}
	if number > len(s.versions) {
		refuse(w, http.StatusNotFound)
		return
	}
	x, status, mountType := s.versions[number-1], http.StatusOK, Mount
	metadata := x.metadata()
	metadata["version"], metadata["custom_metadata"] = number, s.custom
	data := map[string]any{"data": x.data, "metadata": metadata}
	if x.destroyed || !x.deletion.IsZero() && !v.now().Before(x.deletion) {
		status, mountType, data["data"] = http.StatusNotFound, "", nil
	}
	answer(w, status, envelope(data, mountType))
}

func (x *version) metadata() map[string]any {
	m := map[string]any{"created_time": x.created, "deletion_time": "", "destroyed": x.destroyed}
	if !x.deletion.IsZero() {
		m["deletion_time"] = x.deletion
	}
	return m
}

func (v *Vault) metadata(w http.ResponseWriter, path string) {
	s := v.secrets[path]
	if s == nil {
		refuse(w, http.StatusNotFound)
		return
	}
	versions := map[string]any{}
	for i, x := range s.versions {
		versions[strconv.Itoa(i+1)] = x.metadata()
	}
	answer(w, http.StatusOK, envelope(map[string]any{
		"cas_required": false, "created_time": s.created, "current_version": len(s.versions), "custom_metadata": s.custom,
		"delete_version_after": "0s", "max_versions": 0, "oldest_version": 0, "updated_time": s.updated, "versions": versions,
	}, Mount))
}

func envelope(data any, mountType string) map[string]any {
	return map[string]any{
		"request_id": rand.Text(), "lease_id": "", "renewable": false, "lease_duration": 0, "data": data,
		"wrap_info": nil, "warnings": nil, "auth": nil, "mount_type": mountType,
	}
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // whoever is gone does not need it
}

func refuse(w http.ResponseWriter, status int, errors ...string) {
	answer(w, status, map[string]any{"errors": append([]string{}, errors...)})
}
