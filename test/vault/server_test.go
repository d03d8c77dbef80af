package vault

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	kv "github.com/hashicorp/vault-plugin-secrets-kv"
	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/builtin/credential/approle"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/internalshared/configutil"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/vault"

	"github.com/rollcallhq/rollcall/secrets"
)

// server is a real Vault of the test's own, unsealed, with a KV version 2 engine at kv/ and AppRole at auth/approle.
type server struct {
	Address   string      // URL
	RootToken string      //
	Root      *api.Client // with the root token

	core    *vault.Core
	keys    [][]byte
	handler http.Handler
	serving *http.Server // nil while it is stopped
	served  chan error
}

// startVault starts one, which the test's end stops.
func startVault(t *testing.T) *server {
	t.Helper()
	core, keys, root := vault.TestCoreUnsealedWithConfig(t, &vault.CoreConfig{
		LogicalBackends:    map[string]logical.Factory{"kv": kv.Factory},
		CredentialBackends: map[string]logical.Factory{"approle": approle.Factory},
	})
	s := &server{RootToken: root, core: core, keys: keys}
	s.handler = vaulthttp.Handler.Handler(&vault.HandlerProperties{Core: core, ListenerConfig: &configutil.Listener{Address: "127.0.0.1"}})
	s.Start(t)
	t.Cleanup(func() { s.Stop(t) })
	s.Root = s.client(t, root)
	if err := s.Root.Sys().Mount("kv", &api.MountInput{Type: "kv", Options: map[string]string{"version": "2"}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Root.Sys().EnableAuthWithOptions("approle", &api.EnableAuthOptions{Type: "approle"}); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *server) client(t *testing.T, token string) *api.Client {
	t.Helper()
	config := api.DefaultConfig()
	config.Address = s.Address
	client, err := api.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	client.SetToken(token)
	return client
}

// Start listens again, at the same address.
func (s *server) Start(t *testing.T) {
	t.Helper()
	if s.serving != nil {
		return
	}
	address := "127.0.0.1:0"
	if s.Address != "" {
		address = strings.TrimPrefix(s.Address, "http://")
	}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s.Address = "http://" + listener.Addr().String()
	s.serving = &http.Server{Handler: s.handler, ReadHeaderTimeout: time.Minute}
	s.served = make(chan error, 1)
	go func() { s.served <- s.serving.Serve(listener) }()
}

// Stop closes the port and all connections. The Vault behind it keeps what it has.
func (s *server) Stop(t *testing.T) {
	t.Helper()
	if s.serving == nil {
		return
	}
	err := s.serving.Close()
	if serving := <-s.served; !errors.Is(serving, http.ErrServerClosed) {
		err = errors.Join(err, serving)
	}
	if err != nil {
		t.Error(err)
	}
	s.serving = nil
}

// Seal makes every call fail until Unseal.
func (s *server) Seal(t *testing.T) {
	t.Helper()
	if err := s.core.Seal(s.RootToken); err != nil {
		t.Fatal(err)
	}
}

// Unseal ends Seal.
func (s *server) Unseal(t *testing.T) {
	t.Helper()
	for _, key := range s.keys {
		if _, err := vault.TestCoreUnseal(s.core, vault.TestKeyCopy(key)); err != nil {
			t.Fatal(err)
		}
	}
}

// Put writes a version of a secret in kv/ and returns its number.
func (s *server) Put(t *testing.T, path string, fields map[string]any) int {
	t.Helper()
	for {
		written, err := s.Root.KVv2("kv").Put(t.Context(), path, fields)
		if err == nil {
			return written.VersionMetadata.Version
		}
		if !strings.Contains(err.Error(), "Upgrading from non-versioned") { // a new engine says so for a moment
			t.Fatal(err)
		}
		select {
		case <-t.Context().Done():
			t.Fatal(err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Delete deletes versions.
func (s *server) Delete(t *testing.T, path string, versions ...int) {
	t.Helper()
	if err := s.Root.KVv2("kv").DeleteVersions(t.Context(), path, versions); err != nil {
		t.Fatal(err)
	}
}

// Destroy destroys versions.
func (s *server) Destroy(t *testing.T, path string, versions ...int) {
	t.Helper()
	if err := s.Root.KVv2("kv").Destroy(t.Context(), path, versions); err != nil {
		t.Fatal(err)
	}
}

// Custom sets the custom metadata of a secret.
func (s *server) Custom(t *testing.T, path string, custom map[string]any) {
	t.Helper()
	if err := s.Root.KVv2("kv").PutMetadata(t.Context(), path, api.KVMetadataPutInput{CustomMetadata: custom}); err != nil {
		t.Fatal(err)
	}
}

// Policy writes a policy.
func (s *server) Policy(t *testing.T, name, rules string) {
	t.Helper()
	if err := s.Root.Sys().PutPolicy(name, rules); err != nil {
		t.Fatal(err)
	}
}

// AppRole makes a role with the policy of its name, whose tokens live for ttl and with renewals for maxTTL.
func (s *server) AppRole(t *testing.T, name, rules string, ttl, maxTTL time.Duration) (roleID, secretID string) {
	t.Helper()
	s.Policy(t, name, rules)
	role := "auth/approle/role/" + name
	s.write(t, role, map[string]any{
		"token_policies": name, "token_no_default_policy": true, "token_ttl": ttl.String(), "token_max_ttl": maxTTL.String(),
	})
	id, err := s.Root.Logical().ReadWithContext(t.Context(), role+"/role-id")
	if err != nil {
		t.Fatal(err)
	}
	return id.Data["role_id"].(string), s.SecretID(t, name)
}

// SecretID makes another secret id for the role.
func (s *server) SecretID(t *testing.T, role string) string {
	t.Helper()
	return s.write(t, "auth/approle/role/"+role+"/secret-id", nil).Data["secret_id"].(string)
}

func (s *server) write(t *testing.T, path string, data map[string]any) *api.Secret {
	t.Helper()
	answer, err := s.Root.Logical().WriteWithContext(t.Context(), path, data)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// RevokeLogins makes all tokens invalid that logins of AppRole made.
func (s *server) RevokeLogins(t *testing.T) {
	t.Helper()
	if err := s.Root.Sys().RevokePrefixWithContext(t.Context(), "auth/approle/login"); err != nil {
		t.Fatal(err)
	}
}

// Config is a configuration of secrets that reaches the Vault with a role of the least rights. The secret id is in a file.
func (s *server) Config(t *testing.T, refs map[string]secrets.Ref, ttl, maxTTL time.Duration) secrets.Config {
	t.Helper()
	c := secrets.Config{Refs: refs}
	roleID, secretID := s.AppRole(t, "rollcall", secrets.Policy(c), ttl, maxTTL)
	file := filepath.Join(t.TempDir(), "secret-id")
	if err := os.WriteFile(file, []byte(secretID+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.Vault = secrets.Vault{Address: s.Address, Auth: secrets.Auth{RoleID: roleID, SecretIDFile: file}}
	return c
}

// within is a context for one thing that takes no longer.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
