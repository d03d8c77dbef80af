package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/rollcallhq/rollcall/internal/config"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/store/postgres"
	"github.com/rollcallhq/rollcall/internal/store/sqlite"
	"github.com/rollcallhq/rollcall/queue"
	"github.com/rollcallhq/rollcall/secrets"
)

// revealWithin bounds the reading of one secret.
const revealWithin = 5 * time.Second

// reveal returns the value, read from where it points to when it is a reference.
func reveal(ctx context.Context, c config.Config, key string, s config.Sensitive) (string, error) {
	ref, ok := s.Ref()
	if !ok {
		return s.Reveal(), nil
	}
	ctx, cancel := context.WithTimeout(ctx, revealWithin)
	defer cancel()
	snapshot, err := secrets.Fetch(ctx, SecretsConfig(c), ref)
	if err != nil {
		return "", fmt.Errorf("%s: %w", key, err)
	}
	return newest(snapshot), nil
}

// OpenQueue opens the configured queue. A Redis is connected to when it is first used; its password must be there.
func OpenQueue(ctx context.Context, c config.Config) (queue.Queue, error) {
	q, _, err := openQueue(ctx, c, func(err error) error { return err })
	return q, err
}

// openQueue is OpenQueue for a process, which starts while Vault is down, and reads the password again in the background.
func (a *App) openQueue(ctx context.Context) (err error) {
	a.queue, a.password, err = openQueue(ctx, a.config, func(err error) error {
		if ref, _ := a.config.Queue.Redis.Password.Ref(); ref.Kind() != "vault" {
			return err
		}
		a.log.Warn().Err(err).Msg("the queue's password cannot be read yet; deliveries are answered 503 until it can")
		return nil
	})
	return err
}

func openQueue(ctx context.Context, c config.Config, noPassword func(error) error) (queue.Queue, *latest, error) {
	if c.Queue.Backend == config.BackendEmbedded {
		q, err := queue.OpenEmbedded(queue.EmbeddedConfig{
			Path: c.Queue.Embedded.Path, Environment: c.Environment, Depth: c.Queue.Depth, Memory: c.Queue.Memory, Lease: c.Queue.Lease,
		})
		if err != nil {
			return nil, nil, err // and not q: a nil pointer in an interface is not nil
		}
		return q, nil, nil
	}
	r := c.Queue.Redis
	conf := queue.RedisConfig{
		Addrs: r.Addrs, MasterName: r.MasterName, Username: r.Username, Environment: c.Environment,
		Depth: c.Queue.Depth, Memory: c.Queue.Memory, Lease: c.Queue.Lease,
	}
	var err error
	if conf.TLS, err = clientTLS(r.TLS); err != nil {
		return nil, nil, fmt.Errorf("queue.redis.tls: %w\nhint: the files must be there, readable by this user, and PEM", err)
	}
	var password *latest
	if r.Password != "" {
		password = newLatest(c, "queue.redis.password", r.Password)
		if err := password.get(ctx); err != nil {
			if err := noPassword(err); err != nil {
				return nil, nil, err
			}
		}
		conf.Password = password.value
	}
	q, err := queue.OpenRedis(conf)
	if err != nil {
		return nil, nil, err
	}
	return q, password, nil
}

func clientTLS(c config.ClientTLS) (*tls.Config, error) {
	if !c.Enabled {
		return nil, nil
	}
	out := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName}
	if c.CACert != "" {
		pem, err := os.ReadFile(c.CACert)
		if err != nil {
			return nil, fmt.Errorf("ca_cert: %w", err)
		}
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_cert: %s holds no PEM certificate", c.CACert)
		}
	}
	if c.Cert != "" {
		pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
		if err != nil {
			return nil, fmt.Errorf("cert: %w", err)
		}
		out.Certificates = []tls.Certificate{pair}
	}
	return out, nil
}

// latest is a value that is read again now and then, as passwords are rotated.
type latest struct {
	config config.Config
	key    string
	source config.Sensitive

	mu    sync.Mutex // guards text and known
	text  string
	known bool // it was read once
}

func newLatest(c config.Config, key string, s config.Sensitive) *latest {
	return &latest{config: c, key: key, source: s}
}

const (
	rereadAfter = time.Minute
	rereadSoon  = 2 * time.Second // while it has never been read
)

// get reads it; what cannot be read stays as it was.
func (l *latest) get(ctx context.Context) error {
	text, err := reveal(ctx, l.config, l.key, l.source)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		return err
	}
	l.text, l.known = text, true
	return nil
}

// value returns what was read last, without a wait: a connection that it does not fit is refused by the server, and says so.
func (l *latest) value() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text
}

// run reads it again and again until the context ends. What cannot be read stays as it was.
func (l *latest) run(ctx context.Context, every time.Duration) error {
	for {
		wait := every
		if l.mu.Lock(); !l.known {
			wait = min(every, rereadSoon)
		}
		l.mu.Unlock()
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
			_ = l.get(ctx) // whoever connects with the old one learns it, and the log with them
		}
	}
}

// OpenStore opens the configured database. It does not look at the schema.
func OpenStore(ctx context.Context, c config.Config, version string) (store.Store, error) {
	conf := store.Config{
		Environment: c.Environment, Binary: version, Policy: policy(c), Roles: roles(c), MaxConns: c.Store.MaxConns, Timeout: c.Store.Timeout,
	}
	if c.Store.Backend == config.BackendSQLite {
		conf.DSN = c.Store.Path
		s, err := sqlite.Open(ctx, conf)
		if err != nil {
			return nil, err
		}
		return s, nil
	}
	if c.Store.DSN == "" {
		return nil, fmt.Errorf("%w: store.dsn: is empty\nhint: set PostgreSQL's URL or a reference to it", config.ErrInvalid)
	}
	var err error
	if conf.DSN, err = reveal(ctx, c, "store.dsn", c.Store.DSN); err != nil {
		return nil, err
	}
	s, err := postgres.Open(ctx, conf)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// ErrPending says that the database needs migrating.
var ErrPending = errors.New("the database has pending migrations")

// Prepared refuses a database whose schema is not this binary's.
func Prepared(ctx context.Context, s store.Store) error { return prepare(ctx, s, false) }

// Migrations returns what a backend's schema is made of, without a database.
func Migrations(backend string) []store.Migration {
	if backend == config.BackendSQLite {
		return sqlite.Migrations()
	}
	return postgres.Migrations()
}

// prepare brings the schema up to date, or refuses one that is not.
func prepare(ctx context.Context, s store.Store, migrate bool) error {
	if migrate {
		_, err := s.Migrate(ctx)
		return err
	}
	pending, err := s.Pending(ctx)
	if err != nil {
		return err
	}
	if len(pending) > 0 {
		return fmt.Errorf("%w: %d, the first is %04d_%s\nhint: run `rollcall migrate`, or set store.migrate: true", ErrPending, len(pending), pending[0].Version, pending[0].Name)
	}
	return nil
}
