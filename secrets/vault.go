package secrets

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
)

// DefaultTimeout bounds each call to Vault.
const DefaultTimeout = 5 * time.Second

// Vault is how a Vault is reached. What is empty here is taken from the environment's VAULT_ variables, as every Vault
// client does; what is set here wins over them.
type Vault struct {
	Address   string // https://host:8200
	Namespace string // of Vault Enterprise
	Mount     string // of the KV version 2 engine for references that name none; empty means "kv"
	CACert    string // PEM file
	Timeout   time.Duration
	Auth      Auth
}

// vault is a client, and the way to log in. It holds no token.
type vault struct {
	client *api.Client
	health *api.Client // without a namespace: sys/health exists only at the root
	method method
}

func newVault(c Config) (*vault, error) {
	client, err := newClient(c.Vault)
	if err != nil {
		return nil, err
	}
	m, err := c.method()
	if err != nil {
		return nil, err
	}
	return &vault{client: client, health: client.WithNamespace(""), method: m}, nil
}

func newClient(v Vault) (*api.Client, error) {
	config := api.DefaultConfig()
	if config.Error != nil {
		return nil, fmt.Errorf("vault: the environment's VAULT_ variables: %w", config.Error)
	}
	if v.Address != "" {
		u, err := url.Parse(v.Address)
		if err != nil || u.Host == "" && u.Scheme != "unix" || u.User != nil {
			return nil, errors.New("vault: the address is not a URL such as https://vault.example.com:8200")
		}
		config.Address, config.AgentAddress = v.Address, ""
	}
	if v.CACert != "" {
		if err := config.ConfigureTLS(&api.TLSConfig{CACert: v.CACert}); err != nil {
			return nil, fmt.Errorf("vault: ca_cert: %w\nhint: it is a PEM file, readable by this user", err)
		}
	}
	switch {
	case v.Timeout > 0:
		config.Timeout = v.Timeout
	case os.Getenv(api.EnvVaultClientTimeout) == "":
		config.Timeout = DefaultTimeout
	}
	config.MaxRetries = 0 // trying again is for the loops here: they know for how long it is worth it
	client, err := api.NewClient(config)
	if err != nil {
		return nil, fmt.Errorf("vault: %w", err)
	}
	client.ClearToken() // the environment's is taken by the token method alone
	if v.Namespace != "" {
		client.SetNamespace(v.Namespace)
	}
	client.AddHeader("User-Agent", "rollcall")
	return client, nil
}

// with returns a client that uses the token, and shares the connections.
func (v *vault) with(t *token) *api.Client {
	client := v.client.WithNamespace(v.client.Namespace())
	client.SetToken(t.text())
	return client
}

// revoke gives a token back that was made for this process. What comes of it changes nothing.
func (v *vault) revoke(ctx context.Context, t *token) {
	if t == nil || !t.own {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), DefaultTimeout)
	defer cancel()
	_ = v.with(t).Auth().Token().RevokeSelfWithContext(ctx, "") // it ends by itself too
}

// once is a user of Vault that logs in, does one thing, and gives its token back.
type once struct{ vault *vault }

func (o once) do(ctx context.Context, work func(context.Context, *api.Client) error) error {
	t, err := o.vault.method.login(ctx, o.vault.client)
	if err != nil {
		return err
	}
	defer o.vault.revoke(ctx, t)
	return work(ctx, o.vault.with(t))
}

// holder is a user of Vault that has a token.
type holder struct {
	vault *vault
	token *token
}

func (h holder) do(ctx context.Context, work func(context.Context, *api.Client) error) error {
	return work(ctx, h.vault.with(h.token))
}

// sealedOrDown asks Vault how it is. It needs no token.
func (v *vault) sealedOrDown(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, v.client.ClientTimeout())
	defer cancel()
	resp, err := v.health.Logical().ReadRawWithDataWithContext(ctx, "sys/health", map[string][]string{
		"standbyok": {"true"}, "perfstandbyok": {"true"},
	})
	if resp != nil {
		defer func() { _ = resp.Body.Close() }() // it is not read
		switch resp.StatusCode {
		case http.StatusNotImplemented:
			return fmt.Errorf("vault: %w: not initialised\nhint: run `vault operator init`, or is it another Vault?", ErrUnreachable)
		case http.StatusServiceUnavailable:
			return fmt.Errorf("vault: %w\n%s", ErrSealed, sealedHint)
		}
	}
	var answered *api.ResponseError
	if err == nil || errors.As(err, &answered) {
		return nil
	}
	return explain(err, "asking for the health of", v.client.Address())
}

const sealedHint = "hint: unseal it with `vault operator unseal`; a running process goes on with the keys it has"

// explain says what went wrong with a call, for an operator, with one of the package's errors to tell it by. It never
// repeats what was sent.
func explain(err error, doing, path string) error {
	var answered *api.ResponseError
	if errors.As(err, &answered) {
		return explainAnswer(answered, doing, path)
	}
	hint := "hint: is secrets.vault.address right, and the server up?"
	var unknown x509.UnknownAuthorityError
	var wrongName x509.HostnameError
	switch {
	case errors.As(err, &unknown):
		hint = "hint: name the authority's PEM file as secrets.vault.ca_cert"
	case errors.As(err, &wrongName):
		hint = "hint: secrets.vault.address must use a name that is in the server's certificate"
	case errors.Is(err, context.DeadlineExceeded):
		err = context.DeadlineExceeded
	}
	return fmt.Errorf("vault: %s %s: %w: %w\n%s", doing, path, ErrUnreachable, err, hint)
}

func explainAnswer(a *api.ResponseError, doing, path string) error {
	switch said := strings.Join(a.Errors, "; "); {
	case a.StatusCode == http.StatusForbidden:
		return fmt.Errorf("vault: %w %s %s\nhint: the token needs \"read\" on that path; `rollcall vault policy` prints the policy", ErrDenied, doing, path)
	case a.StatusCode == http.StatusNotFound:
		return fmt.Errorf("vault: %s %s: %w", doing, path, ErrMissing)
	case a.StatusCode == http.StatusTooManyRequests:
		return fmt.Errorf("vault: %s %s: %w\nhint: raise the quota, or secrets.refresh", doing, path, ErrThrottled)
	case a.StatusCode == http.StatusServiceUnavailable && strings.Contains(said, "sealed"):
		return fmt.Errorf("vault: %s %s: %w\n%s", doing, path, ErrSealed, sealedHint)
	case a.StatusCode >= 500:
		return fmt.Errorf("vault: %s %s: %w: status %d", doing, path, ErrUnreachable, a.StatusCode)
	case a.RawError:
		return fmt.Errorf("vault: %s %s: status %d, and not in Vault's words\nhint: is secrets.vault.address a Vault?", doing, path, a.StatusCode)
	default:
		return fmt.Errorf("vault: %s %s: status %d: %s", doing, path, a.StatusCode, short(said))
	}
}

// short makes one line of what a server said, of a bounded length.
func short(said string) string {
	said = strings.Join(strings.Fields(said), " ")
	if len(said) > 200 {
		said = strings.ToValidUTF8(said[:200], "") + "…"
	}
	return said
}
