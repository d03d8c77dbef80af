package vault

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/secrets/secretstest"
)

// both are the real Vault and the fake, in the same state.
type both struct {
	real *server
	fake *secretstest.Vault
}

// call is one request, to be made of both.
type call struct {
	method, path string
	body         func(v who) any
	token        func(v who) string // nil means none

	// partly allows that the fake leaves fields out that are of no use to secrets.
	partly bool
}

// who is one of both, with what a request to it needs.
type who struct {
	address, root, roleID, secretID string
}

func (w who) do(t *testing.T, c call) (status int, body []byte) {
	t.Helper()
	var content io.Reader
	if c.body != nil {
		text, err := json.Marshal(c.body(w))
		if err != nil {
			t.Fatal(err)
		}
		content = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(t.Context(), c.method, w.address+"/v1/"+c.path, content)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Vault-Request", "true")
	if c.token != nil {
		req.Header.Set("X-Vault-Token", c.token(w))
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }() // it was only read
	body, err = io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, body
}

// login returns a token of the role.
func (w who) login(t *testing.T) string {
	t.Helper()
	status, body := w.do(t, login)
	var answer struct {
		Auth struct {
			Token string `json:"client_token"`
		} `json:"auth"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || status != http.StatusOK {
		t.Fatalf("login: status %d, %v: %s", status, err, body)
	}
	return answer.Auth.Token
}

var login = call{method: "PUT", path: "auth/approle/login", body: func(w who) any {
	return map[string]string{"role_id": w.roleID, "secret_id": w.secretID}
}}

// shape returns a line for each field: its place, its type, and its value where that is the same everywhere.
func shape(t *testing.T, body []byte) []string {
	t.Helper()
	var lines []string
	if len(body) == 0 {
		return nil
	}
	var v any
	if err := json.Unmarshal(body, &v); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	lines = walk("", v, lines)
	slices.Sort(lines)
	return lines
}

func walk(at string, v any, lines []string) []string {
	switch v := v.(type) {
	case map[string]any:
		for name, inner := range v {
			lines = walk(at+"/"+name, inner, lines)
		}
		return append(lines, at+" object")
	case []any:
		for _, inner := range v {
			lines = walk(at+"/*", inner, lines)
		}
		return append(lines, at+" list")
	case string:
		return append(lines, at+" "+kindOf(v))
	default:
		if at == "/data/ttl" { // it runs
			v = "seconds"
		}
		return append(lines, fmt.Sprintf("%s %v", at, v))
	}
}

// kindOf leaves short texts and errors as they are: those are the same everywhere.
func kindOf(text string) string {
	if _, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return "time"
	}
	if len(text) > 20 && !strings.Contains(text, " ") {
		return "id"
	}
	return fmt.Sprintf("%q", text)
}

func (b both) compare(t *testing.T, name string, real, fake who, c call) {
	t.Helper()
	status, body := real.do(t, c)
	fakeStatus, fakeBody := fake.do(t, c)
	if status != fakeStatus {
		t.Errorf("%s: %s %s: status %d, the fake's %d\n%s\n%s", name, c.method, c.path, status, fakeStatus, body, fakeBody)
		return
	}
	want, got := shape(t, body), shape(t, fakeBody)
	if c.partly {
		want = slices.DeleteFunc(want, func(line string) bool { return !slices.Contains(got, line) })
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: %s %s: - Vault, + the fake\n%s", name, c.method, c.path, diff)
	}
}

func TestTheFakeAnswersAsVaultDoes(t *testing.T) {
	t.Parallel()
	b := both{startVault(t), secretstest.New(t).Calm()}
	rules := `path "kv/data/app/*" { capabilities = ["read"] }
path "kv/metadata/app/*" { capabilities = ["read"] }
path "kv/data/app/forbidden" { capabilities = ["deny"] }
path "auth/token/renew-self" { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
path "auth/token/lookup-self" { capabilities = ["read"] }
`
	roleID, secretID := b.real.AppRole(t, "rollcall", rules, time.Hour, 24*time.Hour)
	b.fake.Forbid("kv/data/app/forbidden", true)
	real := who{b.real.Address, b.real.RootToken, roleID, secretID}
	fake := who{b.fake.URL, b.fake.Token(0, false), b.fake.RoleID, b.fake.SecretID()}
	tokens := map[string]string{real.address: real.login(t), fake.address: fake.login(t)}
	token := func(w who) string { return tokens[w.address] }

	for n := range 4 {
		fields := map[string]any{"key": fmt.Sprint("value ", n), "number": n}
		b.real.Put(t, "app/many", fields)
		b.fake.Put("app/many", fields)
	}
	b.real.Delete(t, "app/many", 2, 3)
	b.fake.Delete("app/many", 2, 3)
	b.real.Destroy(t, "app/many", 1, 3)
	b.fake.Destroy("app/many", 1, 3)
	b.real.Custom(t, "app/many", map[string]any{"grace": "1h"})
	b.fake.Custom("app/many", map[string]string{"grace": "1h"})
	b.real.Put(t, "app/deleted", map[string]any{"key": "value"})
	b.fake.Put("app/deleted", map[string]any{"key": "value"})
	b.real.Delete(t, "app/deleted", 1)
	b.fake.Delete("app/deleted", 1)

	with := func(method, path string) call { return call{method: method, path: path, token: token} }
	versions := func(path string) call { // who wrote and deleted them is left out
		return call{method: "GET", path: "kv/metadata/" + path, token: token, partly: true}
	}
	wrongSecret := call{method: "PUT", path: login.path, body: func(w who) any {
		return map[string]string{"role_id": w.roleID, "secret_id": "wrong"}
	}}
	wrongRole := call{method: "PUT", path: login.path, body: func(w who) any {
		return map[string]string{"role_id": "wrong", "secret_id": w.secretID}
	}}
	health := call{method: "GET", path: "sys/health", partly: true}
	lookup := call{method: "GET", path: "auth/token/lookup-self", token: token, partly: true}
	noRole := func(c call) call { c.token = func(who) string { return "hvs.nobody-made-this" }; return c }

	for _, c := range []struct {
		name string
		call call
	}{
		{"the current version", with("GET", "kv/data/app/many")},
		{"a version", with("GET", "kv/data/app/many?version=4")},
		{"a destroyed version", with("GET", "kv/data/app/many?version=1")},
		{"a deleted version", with("GET", "kv/data/app/many?version=2")},
		{"a version that was deleted and destroyed", with("GET", "kv/data/app/many?version=3")},
		{"a version that never was", with("GET", "kv/data/app/many?version=9")},
		{"a current version that is deleted", with("GET", "kv/data/app/deleted")},
		{"a path that never was", with("GET", "kv/data/app/none")},
		{"the versions", versions("app/many")},
		{"the versions of what is deleted", versions("app/deleted")},
		{"the versions of what never was", versions("app/none")},
		{"what the policy forbids", with("GET", "kv/data/app/forbidden")},
		{"a token that is none", noRole(with("GET", "kv/data/app/many"))},
		{"a login", login},
		{"a login with a wrong secret id", wrongSecret},
		{"a login with a wrong role id", wrongRole},
		{"a renewal", with("PUT", "auth/token/renew-self")},
		{"looking a token up", lookup},
		{"health", health},
		{"giving a token back", with("PUT", "auth/token/revoke-self")},
		{"a token that was given back", with("GET", "kv/data/app/many")},
	} {
		b.compare(t, c.name, real, fake, c.call)
	}
	b.real.write(t, "sys/quotas/rate-limit/kv", map[string]any{"path": "kv/", "rate": 1, "interval": "1h"})
	real.do(t, with("GET", "kv/data/app/many")) // the only one that it lets pass
	b.fake.Throttle(true)
	b.compare(t, "a read above the quota", real, fake, with("GET", "kv/data/app/many"))
	b.fake.Throttle(false)
	b.real.Seal(t)
	b.fake.Seal()
	b.compare(t, "a read while sealed", real, fake, with("GET", "kv/data/app/many"))
	b.compare(t, "a login while sealed", real, fake, login)
	b.compare(t, "health while sealed", real, fake, health)
}
