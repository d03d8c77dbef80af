package app

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/rollcallhq/rollcall/handlers"
	"github.com/rollcallhq/rollcall/internal/config"
	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/provider"
	"github.com/rollcallhq/rollcall/internal/provider/workos"
	"github.com/rollcallhq/rollcall/internal/worker"
	"github.com/rollcallhq/rollcall/queue"
	"github.com/rollcallhq/rollcall/secrets"
	"github.com/rollcallhq/rollcall/verify"
)

// providers are all that a source can name.
var providers = map[string]func() provider.Provider{"workos": workos.Provider}

// source is a configured sender with what is worked out once.
type source struct {
	name     string
	config   config.Source
	provider provider.Provider
	verifier *verify.Verifier

	// Of a receiver: what signs its deliveries now, and whom to tell that a signature did not match.
	keys    func() ([]*verify.Key, error)
	suspect func()
}

// CheckSources reports what is wrong with the sources of a configuration, without opening anything.
func CheckSources(c config.Config) error {
	if len(c.Sources) == 0 {
		return fmt.Errorf("%w: no source is configured\nhint: add one under sources; `rollcall config reference` has its keys", config.ErrInvalid)
	}
	sources, err := newSources(c)
	if err != nil {
		return err
	}
	if _, err := handlers.NewReceiver(handlers.ReceiverConfig{Queue: nowhere{}, Sources: received(sources)}); err != nil {
		return fmt.Errorf("%w: %w\nhint: `rollcall config reference` explains every key of a source", config.ErrInvalid, err)
	}
	return nil
}

// nowhere is the queue of a receiver that is only made to see whether it can be.
type nowhere struct{}

func (nowhere) Enqueue(context.Context, queue.Delivery) (queue.Result, error) {
	return 0, queue.ErrUnavailable
}

// hooked are the sources that send webhooks.
func hooked(sources []*source) (out []*source) {
	for _, s := range sources {
		if s.config.Webhooks() {
			out = append(out, s)
		}
	}
	return out
}

// received returns the sources as the receiver wants them.
func received(sources []*source) (out []handlers.Source) {
	for _, s := range hooked(sources) {
		out = append(out, handlers.Source{
			Name: s.name, Paths: s.config.Paths, ContentTypes: s.config.ContentTypes, Verifier: s.verifier, Provider: s.provider,
			Keys: func() ([]*verify.Key, error) { return s.keys() }, Suspect: func() { s.suspect() },
		})
	}
	return out
}

func newSources(c config.Config) ([]*source, error) {
	var out []*source
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(c.Sources)) {
		s, err := newSource(name, c.Sources[name])
		if err != nil {
			errs = append(errs, fmt.Errorf("%w: sources.%s: %w", config.ErrInvalid, name, err))
			continue
		}
		out = append(out, s)
	}
	return out, errors.Join(errs...)
}

func newSource(name string, c config.Source) (*source, error) {
	newProvider, ok := providers[c.Provider]
	if !ok {
		return nil, fmt.Errorf("provider: %q is not known\nhint: there is %s", c.Provider, strings.Join(slices.Sorted(maps.Keys(providers)), ", "))
	}
	v, err := NewVerifier(c)
	if err != nil {
		return nil, err
	}
	if err := c.Secret.Validate(); err != nil && c.Webhooks() {
		return nil, fmt.Errorf("secret: %w", err)
	}
	if c.API.Key != "" && newProvider().API == nil {
		return nil, fmt.Errorf("api.key: the provider %s cannot be asked\nhint: leave out the section api", c.Provider)
	}
	return &source{name: name, config: c, provider: newProvider(), verifier: v}, nil
}

// NewVerifier returns the verifier of a source: its scheme, else its provider's, with its own tolerances.
func NewVerifier(c config.Source) (*verify.Verifier, error) {
	name := c.Scheme
	if newProvider, ok := providers[c.Provider]; ok && name == "" {
		name = newProvider().Scheme
	}
	scheme, ok := verify.Preset(name)
	if !ok {
		return nil, fmt.Errorf("%w: scheme: %q is not known\nhint: there is %s", config.ErrInvalid, name, strings.Join(verify.Presets(), ", "))
	}
	if c.Verify.Tolerance > 0 {
		scheme.Timestamp.Tolerance = c.Verify.Tolerance
	}
	if c.Verify.Future > 0 {
		scheme.Timestamp.Future = c.Verify.Future
	}
	return verify.New(scheme)
}

// unusable reports that waiting does not mend a secret: it was read and could not protect, or it is a variable that this
// process was not given.
func unusable(ref secrets.Ref, err error) bool {
	if ref.Kind() == "env" && errors.Is(err, secrets.ErrMissing) {
		return true
	}
	return errors.Is(err, secrets.ErrEmpty) || errors.Is(err, verify.ErrEmptySecret) || errors.Is(err, verify.ErrShortSecret) || errors.Is(err, verify.ErrSecretForm)
}

func (a *App) workerSources() map[string]worker.Source {
	out := map[string]worker.Source{}
	for _, s := range a.sources {
		out[s.name] = worker.Source{Provider: s.provider, Attributes: s.config.Attributes}
	}
	return out
}

// policy says what the end of a source's directory means.
func policy(c config.Config) func(string) directory.Decision {
	return func(name string) directory.Decision {
		if c.Sources[name].OnDeleted == config.Deprovision {
			return directory.DecisionDeprovision
		}
		return directory.DecisionKeep
	}
}

// SecretsConfig is the configuration's part for package secrets, without references.
func SecretsConfig(c config.Config) secrets.Config {
	v := c.Secrets.Vault
	return secrets.Config{
		Refresh: c.Secrets.Refresh, Grace: c.Secrets.Grace, MaxStale: c.Secrets.MaxStale,
		Vault: secrets.Vault{
			Address: v.Address, Namespace: v.Namespace, Mount: v.Mount, CACert: v.CACert,
			Auth: secrets.Auth{
				Method: v.Auth.Method, Token: v.Auth.Token, TokenFile: v.Auth.TokenFile, Mount: v.Auth.Mount,
				RoleID: v.Auth.RoleID, RoleIDFile: v.Auth.RoleIDFile, SecretIDFile: v.Auth.SecretIDFile,
			},
		},
	}
}

// References returns every reference that a process of this configuration follows, by what it is for. A worker needs no
// signing secrets, and a receiver no database and no keys of APIs.
func References(c config.Config) map[string]secrets.Ref {
	refs := map[string]secrets.Ref{}
	add := func(key string, s config.Sensitive) {
		if ref, ok := s.Ref(); ok {
			refs[key] = ref
		}
	}
	if c.Has(config.Receiver) {
		for name, s := range c.Sources {
			if s.Webhooks() {
				refs["sources."+name] = s.Secret
			}
		}
	}
	if c.Has(config.Worker) {
		for name, s := range c.Sources {
			if s.API.Key != "" {
				refs["sources."+name+".api"] = s.API.Key
			}
		}
	}
	if c.Queue.Backend == config.BackendRedis {
		add("queue.redis.password", c.Queue.Redis.Password)
	}
	if c.Has(config.Worker) && c.Store.Backend == config.BackendPostgres {
		add("store.dsn", c.Store.DSN)
	}
	if c.Binds() {
		add("application.dsn", c.Application.DSN)
		for _, b := range c.Application.Bindings {
			if b.Post != "" {
				refs["application.bindings."+b.Name] = b.Secret
			}
		}
	}
	return refs
}

// newKeyring keeps the receiver's signing secrets and the worker's keys of APIs; nil when the process needs none of them.
func newKeyring(c config.Config, log zerolog.Logger, r prometheus.Registerer) (*secrets.Keyring, error) {
	conf := SecretsConfig(c)
	conf.Refs, conf.Log, conf.Registerer = map[string]secrets.Ref{}, log, r
	for name, s := range c.Sources {
		if c.Has(config.Receiver) && s.Webhooks() {
			conf.Refs[name] = s.Secret
		}
		if c.Has(config.Worker) && s.API.Key != "" {
			conf.Refs[apiKey(name)] = s.API.Key
		}
	}
	if len(conf.Refs) == 0 {
		return nil, nil
	}
	return secrets.New(conf)
}
