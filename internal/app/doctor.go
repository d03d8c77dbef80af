package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/rollcallhq/rollcall/internal/config"
	"github.com/rollcallhq/rollcall/internal/provider"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/queue"
	"github.com/rollcallhq/rollcall/secrets"
)

// Finding is what the doctor says of one thing. Err is nil when all is well; its text may end with a hint. Needs names what
// it could not be examined without; another finding says what is wrong there.
type Finding struct {
	Name   string
	Detail string
	Err    error
	Needs  string
}

// needs is the error of what cannot be examined without another thing that is wrong.
type needs string

func (n needs) Error() string { return "needs " + string(n) }

// eachWithin bounds every examination.
const eachWithin = 5 * time.Second

// ends that are nearer are worth a word.
const (
	certificateSoon = 14 * 24 * time.Hour
	skewAllowed     = 2 * time.Second
	apiSkewAllowed  = 5 * time.Second // its clock comes over the internet, in whole seconds
)

// Doctor examines what a process of this configuration would need, changes nothing, and returns a finding for each.
func Doctor(ctx context.Context, c config.Config, version string) []Finding {
	d := doctor{ctx: ctx, config: c, version: version}
	d.examine("sources", d.sources)
	if c.Has(config.Receiver) {
		d.examine("certificate", d.certificate)
	}
	d.examine("ports", d.ports)
	if UsesVault(c) {
		d.examine("vault", d.vault)
	}
	for _, name := range slices.Sorted(maps.Keys(References(c))) {
		d.examine("secret "+name, func(ctx context.Context) (string, error) { return d.secret(ctx, name) })
	}
	d.examine("queue", d.queue)
	if c.Has(config.Worker) {
		d.examine("database", d.database)
		d.examine("clock", d.clock)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Sources)) {
		if c.Has(config.Worker) && c.Sources[name].API.Key != "" {
			d.examine("API of "+name, func(ctx context.Context) (string, error) { return d.api(ctx, name) })
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Sources)) {
		if c.Has(config.Worker) && c.Sources[name].Polled() {
			d.examine("log of "+name, func(ctx context.Context) (string, error) { return d.log(ctx, name) })
		}
	}
	if c.Binds() {
		d.examine("application", d.application)
	}
	return d.findings
}

// UsesVault reports whether a process of this configuration follows a reference to Vault.
func UsesVault(c config.Config) bool {
	for _, ref := range References(c) {
		if strings.HasPrefix(string(ref), "vault:") {
			return true
		}
	}
	return false
}

type doctor struct {
	ctx      context.Context
	config   config.Config
	version  string
	findings []Finding
}

func (d *doctor) examine(name string, look func(ctx context.Context) (string, error)) {
	ctx, cancel := context.WithTimeout(d.ctx, eachWithin)
	defer cancel()
	detail, err := look(ctx)
	var missing needs
	if errors.As(err, &missing) {
		d.findings = append(d.findings, Finding{Name: name, Needs: string(missing)})
		return
	}
	d.findings = append(d.findings, Finding{Name: name, Detail: detail, Err: err})
}

// unwell reports that a thing was examined already and is not well, or could not be examined.
func (d *doctor) unwell(name string) bool {
	return slices.ContainsFunc(d.findings, func(f Finding) bool { return f.Name == name && (f.Err != nil || f.Needs != "") })
}

// hinted is the error with a hint, if it has none.
func hinted(err error, hint string) error {
	if strings.Contains(err.Error(), "\nhint: ") {
		return err
	}
	return fmt.Errorf("%w\nhint: %s", err, hint)
}

func (d *doctor) sources(context.Context) (string, error) {
	if len(d.config.Sources) == 0 {
		return "", errors.New("none is configured\nhint: add one under sources; docs/CONFIG.md has the keys")
	}
	sources, err := newSources(d.config)
	var names []string
	for _, s := range sources {
		names = append(names, s.name)
	}
	return strings.Join(names, ", "), err
}

func (d *doctor) certificate(context.Context) (string, error) {
	t := d.config.Public.TLS
	switch {
	case d.config.Public.PlainHTTP:
		return "plain HTTP, as asked for; TLS is the load balancer's", nil
	case len(t.SelfSigned) > 0:
		return "made at start, for local use", nil
	}
	pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
		return "", fmt.Errorf("%w\nhint: public.tls.cert and key must be there and readable by this user", err)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w\nhint: both files are PEM, and the first certificate is the key's", t.Cert, err)
	}
	return certificateState(pair.Leaf, time.Now())
}

func certificateState(leaf *x509.Certificate, now time.Time) (string, error) {
	detail := fmt.Sprintf("%s, good until %s", strings.Join(leaf.DNSNames, ", "), leaf.NotAfter.UTC().Format(time.DateOnly))
	switch left := leaf.NotAfter.Sub(now); {
	case left <= 0:
		return detail, errors.New("it has ended; senders refuse it\nhint: renew it; it is read again by itself")
	case now.Before(leaf.NotBefore):
		return detail, errors.New("it is not good yet\nhint: compare this machine's clock")
	case left < certificateSoon:
		return detail, fmt.Errorf("it ends in %s\nhint: renew it; it is read again by itself", left.Round(time.Hour))
	}
	return detail, nil
}

func (d *doctor) secret(ctx context.Context, name string) (string, error) {
	ref := References(d.config)[name]
	snapshot, err := secrets.Fetch(ctx, SecretsConfig(d.config), ref)
	if err != nil && ref.Kind() == "vault" && d.noVault(err) {
		return "", needs("vault")
	}
	if err != nil {
		return "", hinted(err, "store the secret there, as its owner's console shows it")
	}
	name, _ = strings.CutPrefix(name, "sources.")
	source, signs := d.config.Sources[name]
	if !signs {
		return "readable", nil
	}
	v, err := NewVerifier(source)
	if err != nil {
		return "", err
	}
	for _, version := range snapshot.Versions {
		if _, err := v.NewKey(version.ID, version.Secret.Reveal()); err != nil {
			return "", fmt.Errorf("version %s: %w\nhint: store it as the sender's console shows it", version.ID, err)
		}
	}
	return fmt.Sprintf("%d usable, the newest is %s", len(snapshot.Versions), snapshot.Versions[0].ID), nil
}

// noVault reports that an error of reading a secret is what was found of Vault itself: nobody could ask it, or log in.
func (d *doctor) noVault(err error) bool {
	i := slices.IndexFunc(d.findings, func(f Finding) bool { return f.Name == "vault" && f.Err != nil })
	if i < 0 {
		return false
	}
	found := d.findings[i].Err
	for _, state := range []error{secrets.ErrUnreachable, secrets.ErrSealed} {
		if errors.Is(found, state) && errors.Is(err, state) {
			return true
		}
	}
	return strings.HasPrefix(found.Error(), err.Error())
}

func (d *doctor) vault(ctx context.Context) (string, error) {
	c := SecretsConfig(d.config)
	c.Refs = References(d.config)
	return c.Vault.Address, secrets.Check(ctx, c)
}

func (d *doctor) queue(ctx context.Context) (string, error) {
	if d.config.Queue.Backend == config.BackendEmbedded {
		return d.embedded(ctx)
	}
	if d.unwell("secret queue.redis.password") {
		return "", needs("its password")
	}
	q, err := OpenQueue(ctx, d.config)
	if err != nil {
		return "", err
	}
	defer func() { _ = q.Close() }()
	stats, err := q.Stats(ctx)
	if err != nil {
		return "", fmt.Errorf("%w\nhint: are queue.redis.addrs, username and password right, and the server up?", err)
	}
	found, err := q.Durability(ctx)
	if err != nil {
		return "", err
	}
	detail := fmt.Sprintf("%d waiting, durability %s", stats.Depth(), found.Class)
	if found.Class != queue.Fsynced {
		if refused := unaccepting(d.config); len(refused) > 0 {
			return detail, weakQueue(found, refused)
		}
	}
	if found.Detail != "" {
		return detail, fmt.Errorf("%s\nhint: mend it in redis.conf, so that it stays", found.Detail)
	}
	return detail, nil
}

func (d *doctor) embedded(ctx context.Context) (string, error) {
	path := d.config.Queue.Embedded.Path
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return "embedded, made at the first start", nil
	}
	stats, err := queue.ReadStats(ctx, path)
	return fmt.Sprintf("embedded, %d waiting, durability %s", stats.Depth(), queue.Fsynced), err
}

// withStore opens the database, unless it is a file that is not there yet.
func (d *doctor) withStore(ctx context.Context, do func(store.Store) (string, error)) (string, error) {
	if path := d.config.Store.Path; d.config.Store.Backend == config.BackendSQLite {
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			return "", fmt.Errorf("%s is not there\nhint: run `rollcall migrate`, or set store.migrate: true", path)
		}
	}
	s, err := OpenStore(ctx, d.config, d.version)
	if err != nil {
		return "", err
	}
	defer func() { _ = s.Close() }()
	return do(s)
}

func (d *doctor) database(ctx context.Context) (string, error) {
	if d.unwell("secret store.dsn") {
		return "", needs("its address")
	}
	return d.withStore(ctx, func(s store.Store) (string, error) {
		if err := s.Check(ctx); err != nil {
			return d.config.Store.Backend, err
		}
		if err := prepare(ctx, s, false); err != nil {
			return d.config.Store.Backend, err
		}
		return d.config.Store.Backend + ", schema up to date", nil
	})
}

// application prepares every statement of the application's.
func (d *doctor) application(ctx context.Context) (string, error) {
	for _, secret := range []string{"secret application.dsn", "secret store.dsn"} {
		if d.unwell(secret) {
			return "", needs("its address")
		}
	}
	problems, err := PrepareApplication(ctx, d.config)
	if err != nil {
		return "", hinted(err, "is application.dsn right, and the server up?")
	}
	detail := fmt.Sprintf("%d bindings and %d probes fit its database", len(d.config.Application.Bindings), len(d.config.Application.Probes))
	if len(problems) > 0 {
		return "", fmt.Errorf("%w\nhint: mend the statement or the schema; until then its changes wait", problems[0])
	}
	return detail, nil
}

func (d *doctor) clock(ctx context.Context) (string, error) {
	var before, after, theirs time.Time
	_, err := d.withStore(ctx, func(s store.Store) (_ string, err error) {
		before = time.Now()
		theirs, err = s.Clock(ctx)
		after = time.Now()
		return "", err
	})
	if err != nil && d.unwell("database") {
		return "", needs("the database")
	}
	if err != nil {
		return "", hinted(err, "is store.dsn right, and the server up?")
	}
	skew := theirs.Sub(before.Add(after.Sub(before) / 2)).Abs()
	detail := fmt.Sprintf("%s from the database's", skew.Round(time.Millisecond))
	if skew > skewAllowed {
		return detail, errors.New("signatures are judged by this clock\nhint: run NTP on both machines")
	}
	return detail, nil
}

// api asks a provider for one event, which shows whether it takes the key, and what its clock says.
func (d *doctor) api(ctx context.Context, source string) (detail string, err error) {
	if d.unwell("secret sources." + source + ".api") {
		return "", needs("its key")
	}
	api, done, err := OpenAPI(ctx, d.config, source)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, done()) }()
	before := time.Now()
	page, err := api.Page(ctx, provider.LogQuery{Since: before.Add(-time.Minute), Limit: 1})
	if err != nil {
		return "", hinted(err, "can this machine reach the API? its address is sources."+source+".api.url")
	}
	if page.Date.IsZero() {
		return "takes the key", nil
	}
	after := time.Now()
	skew := page.Date.Sub(before.Add(after.Sub(before) / 2)).Abs()
	detail = fmt.Sprintf("takes the key, its clock is %s from ours", skew.Round(time.Second))
	if skew > apiSkewAllowed {
		return detail, errors.New("what it lists is dated by both clocks\nhint: run NTP on this machine")
	}
	return detail, nil
}
