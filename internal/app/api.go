package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/rs/zerolog"

	"github.com/rollcallhq/rollcall/internal/config"
	"github.com/rollcallhq/rollcall/internal/provider"
	"github.com/rollcallhq/rollcall/secrets"
)

// ErrNoAPI says that a source's provider cannot be asked, because of what is configured.
var ErrNoAPI = errors.New("the provider's API cannot be asked")

// API returns what asks the provider of a source, the same for everybody in this process, so that they share its limits; nil when no
// key is configured, and in a process that is no worker.
func (a *App) API(source string) provider.API { return a.apis[source] }

// apiKey is the name in the keyring of a source's key. No source is called so.
func apiKey(source string) string { return source + ".api" }

// newAPIs makes what asks the providers whose keys are configured. Only workers ask.
func (a *App) newAPIs() (map[string]provider.API, error) {
	apis := map[string]provider.API{}
	if !a.config.Has(config.Worker) {
		return apis, nil
	}
	for _, s := range a.sources {
		if s.config.API.Key == "" {
			continue
		}
		conf := apiConfig(s, a.version, a.log)
		conf.Key = func() (string, error) {
			held, err := a.ring.Current(apiKey(s.name))
			if err != nil {
				return "", err
			}
			return newest(held), nil
		}
		conf.Refused = func() { a.ring.Suspect(apiKey(s.name)) }
		var err error
		if apis[s.name], err = s.provider.API(conf); err != nil {
			return nil, fmt.Errorf("source %q: %w", s.name, err)
		}
	}
	return apis, nil
}

func apiConfig(s *source, version string, log zerolog.Logger) provider.APIConfig {
	return provider.APIConfig{
		URL: s.config.API.URL, Options: provider.Options{Source: s.name, Attributes: s.config.Attributes},
		UserAgent: strings.TrimSuffix("rollcall/"+version, "/"), Log: log,
	}
}

func newest(s *secrets.Snapshot) string { return string(s.Versions[0].Secret.Reveal()) }

func (a *App) closeAPIs() error {
	var errs []error
	for _, api := range a.apis {
		errs = append(errs, closeAPI(api))
	}
	return errors.Join(errs...)
}

// closeAPI gives back the connections of what has some.
func closeAPI(api provider.API) error {
	if c, ok := api.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// OpenAPI returns what asks the provider of a source, for a command that ends soon: its key is read now, once. Call the function when
// it is not needed any more. An error is ErrNoAPI when there is nothing to ask, or nobody who may.
func OpenAPI(ctx context.Context, c config.Config, name string) (provider.API, func() error, error) {
	conf, ok := c.Sources[name]
	switch {
	case !ok:
		return nil, nil, fmt.Errorf("%w: no source is called %q\nhint: there is %s", ErrNoAPI, name, strings.Join(slices.Sorted(maps.Keys(c.Sources)), ", "))
	case !c.Has(config.Worker):
		return nil, nil, fmt.Errorf("%w: this configuration is no worker's\nhint: receivers hold no keys of APIs; run it where the workers run", ErrNoAPI)
	case conf.API.Key == "":
		return nil, nil, fmt.Errorf("%w: sources.%s.api.key is not set\nhint: set it to a reference to the provider's API key: vault:PATH#FIELD, file:/PATH or env:NAME", ErrNoAPI, name)
	}
	s, err := newSource(name, conf)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: sources.%s: %w", config.ErrInvalid, name, err)
	}
	key, err := reveal(ctx, c, "sources."+name+".api.key", config.Sensitive(conf.API.Key))
	if err != nil {
		return nil, nil, err
	}
	api := apiConfig(s, "", zerolog.Nop())
	api.Key = func() (string, error) { return key, nil }
	out, err := s.provider.API(api)
	if err != nil {
		return nil, nil, fmt.Errorf("source %q: %w", name, err)
	}
	return out, func() error { return closeAPI(out) }, nil
}
