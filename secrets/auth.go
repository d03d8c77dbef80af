package secrets

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/api/auth/approle"
)

// Auth is how to log in to Vault. Secrets are not in it, only where they are.
type Auth struct {
	Method string // "approle", "token_file" or "token"; empty means what is set, in this order

	Token     Ref    // env: or file: of a token; empty means env:VAULT_TOKEN
	TokenFile string // where an agent keeps a token; read again when it changes and when Vault refuses the token

	Mount        string // of the AppRole method; empty means "approle"
	RoleID       string
	RoleIDFile   string
	SecretID     Ref    // env: or file:; read at every login
	SecretIDFile string // the same as SecretID with file:
}

// method makes tokens.
type method interface {
	login(ctx context.Context, client *api.Client) (*token, error)
}

// token is what a login gives. It is never changed.
type token struct {
	value     Secret
	own       bool          // made by this login, to be given back
	renewable bool          // by us
	ttl       time.Duration // at the login; 0 when it has no end, or none is known
}

// same says whether two logins gave one token.
func (t *token) same(other *token) bool {
	return t != nil && other != nil && t.value.Equal(other.value)
}

// text is the token as Vault wants it.
func (t *token) text() string { return string(t.value.value()) }

// secret is the token in the form that a watcher takes.
func (t *token) secret() *api.Secret {
	return &api.Secret{Auth: &api.SecretAuth{
		ClientToken: t.text(), Renewable: t.renewable, LeaseDuration: int(t.ttl / time.Second),
	}}
}

func (c Config) method() (method, error) {
	a := c.Vault.Auth
	name := a.Method
	if name == "" {
		name = a.configured()
	}
	switch name {
	case "approle":
		return a.appRole()
	case "token_file":
		return a.tokenFile()
	case "token":
		return a.staticToken()
	default:
		return nil, errors.New("vault: auth.method is none of approle, token_file, token")
	}
}

// configured guesses the method from what is set.
func (a Auth) configured() string {
	switch {
	case a.RoleID != "" || a.RoleIDFile != "":
		return "approle"
	case a.TokenFile != "":
		return "token_file"
	default:
		return "token"
	}
}

// place returns where one of Vault's own secrets is: in a file or the environment.
func (a Auth) place(setting string, ref Ref) (place, error) {
	p, err := ref.parse()
	if err != nil || p.kind == "vault" {
		return place{}, fmt.Errorf("vault: auth.%s: %w\nhint: use file:/PATH or env:NAME", setting, ErrRef)
	}
	return p, nil
}

// text reads the place as one line.
func (p place) text(ctx context.Context) (string, error) {
	plain := Config{}.withDefaults()
	var o origin = &envOrigin{name: p.name, config: plain}
	if p.kind == "file" {
		o = &fileOrigin{path: p.path, config: plain}
	}
	a := o.read(ctx)
	if a.err != nil {
		return "", a.err
	}
	return strings.TrimSpace(string(a.versions[0].Secret.value())), nil
}

type appRole struct {
	mount      string
	roleID     string
	roleIDFile *place // nil when roleID is set
	secretID   place
}

func (a Auth) appRole() (method, error) {
	m := appRole{mount: a.Mount, roleID: a.RoleID}
	if m.mount == "" {
		m.mount = "approle"
	}
	if !plainPath(m.mount) {
		return nil, errors.New("vault: auth.mount is not the mount of an AppRole method")
	}
	switch {
	case a.RoleID == "" && a.RoleIDFile == "":
		return nil, errors.New("vault: approle: no role id\nhint: set secrets.vault.auth.role_id or role_id_file")
	case a.RoleID != "" && a.RoleIDFile != "":
		return nil, errors.New("vault: approle: both role_id and role_id_file are set\nhint: leave one of them out")
	case a.SecretID == "" && a.SecretIDFile == "":
		return nil, errors.New("vault: approle: no secret id\nhint: set secrets.vault.auth.secret_id_file to the file that holds it")
	case a.SecretID != "" && a.SecretIDFile != "":
		return nil, errors.New("vault: approle: both secret_id and secret_id_file are set\nhint: leave one of them out")
	}
	if a.RoleIDFile != "" {
		p, err := a.place("role_id_file", Ref("file:"+a.RoleIDFile))
		if err != nil {
			return nil, err
		}
		m.roleIDFile = &p
	}
	setting, ref := "secret_id", a.SecretID
	if a.SecretIDFile != "" {
		setting, ref = "secret_id_file", Ref("file:"+a.SecretIDFile)
	}
	p, err := a.place(setting, ref)
	m.secretID = p
	return m, err
}

func (m appRole) login(ctx context.Context, client *api.Client) (*token, error) {
	roleID := m.roleID
	if m.roleIDFile != nil {
		var err error
		if roleID, err = m.roleIDFile.text(ctx); err != nil {
			return nil, fmt.Errorf("vault: role id: %w", err)
		}
	}
	secretID, err := m.secretID.text(ctx)
	if err != nil {
		return nil, fmt.Errorf("vault: secret id: %w", err)
	}
	auth, err := approle.NewAppRoleAuth(roleID, &approle.SecretID{FromString: secretID}, approle.WithMountPath(m.mount))
	if err != nil {
		return nil, errors.New("vault: approle: role id or secret id cannot be used")
	}
	answer, err := auth.Login(ctx, client)
	var answered *api.ResponseError
	switch {
	case errors.As(err, &answered) && (answered.StatusCode == http.StatusBadRequest || answered.StatusCode == http.StatusForbidden):
		return nil, fmt.Errorf("vault: %w logging in at auth/%s\nhint: role id and secret id must be the role's, and the secret id neither used up nor expired nor bound to another address", ErrDenied, m.mount)
	case err != nil:
		return nil, explain(err, "logging in at", "auth/"+m.mount)
	case answer == nil || answer.Auth == nil || answer.Auth.ClientToken == "":
		return nil, fmt.Errorf("vault: logging in at auth/%s: the answer holds no token", m.mount)
	}
	return &token{
		value: newSecret([]byte(answer.Auth.ClientToken)), own: true, renewable: answer.Auth.Renewable,
		ttl: time.Duration(answer.Auth.LeaseDuration) * time.Second,
	}, nil
}

// given is a token that somebody else made.
type given struct {
	where place
	renew bool // nobody else does
}

func (a Auth) tokenFile() (method, error) {
	p, err := a.place("token_file", Ref("file:"+a.TokenFile))
	return given{where: p}, err
}

func (a Auth) staticToken() (method, error) {
	ref := a.Token
	if ref == "" {
		ref = Ref("env:" + api.EnvVaultToken)
	}
	p, err := a.place("token", ref)
	return given{where: p, renew: true}, err
}

// login reads the token and asks Vault how long it lives. A token that may not ask is taken as it is.
func (m given) login(ctx context.Context, client *api.Client) (*token, error) {
	value, err := m.where.text(ctx)
	if err != nil {
		return nil, fmt.Errorf("vault: token: %w", err)
	}
	t := &token{value: newSecret([]byte(value))}
	asking := client.WithNamespace(client.Namespace())
	asking.SetToken(value)
	answer, err := asking.Auth().Token().LookupSelfWithContext(ctx)
	var answered *api.ResponseError
	switch {
	case errors.As(err, &answered) && answered.StatusCode == http.StatusForbidden:
		if strings.Contains(strings.Join(answered.Errors, " "), "invalid token") {
			return nil, fmt.Errorf("vault: %w: the token is revoked, has ended, or was never one\nhint: put a new one where it is read from", ErrDenied)
		}
		return t, nil
	case err != nil:
		return nil, explain(err, "looking up", "the token")
	}
	if answer != nil {
		t.ttl, t.renewable = seconds(answer.Data["ttl"]), m.renew && answer.Data["renewable"] == true
	}
	return t, nil
}

// seconds reads a number of Vault's JSON; what is none is zero.
func seconds(v any) time.Duration {
	number, _ := v.(json.Number)
	n, _ := number.Int64()
	return time.Duration(n) * time.Second
}

// token reads the token again, without asking Vault. It is for noticing that a file has changed.
func (m given) token(ctx context.Context) (string, error) { return m.where.text(ctx) }
