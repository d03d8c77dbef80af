package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/rollcallhq/rollcall/internal/binder"
	"github.com/rollcallhq/rollcall/internal/config"
	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/inventory"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/store/postgres"
	"github.com/rollcallhq/rollcall/internal/store/sqlite"
	"github.com/rollcallhq/rollcall/secrets"
	"github.com/rollcallhq/rollcall/verify"
)

// OpenApplication opens the application's database: the one that application.dsn names, else Rollcall's own, with
// connections of its own. Who opened it closes its SQL.
func OpenApplication(ctx context.Context, c config.Config) (*binder.Database, error) {
	key, dsn := "application.dsn", c.Application.DSN
	own := dsn == ""
	switch {
	case own && c.Store.Backend == config.BackendSQLite:
		return openSQLite(ctx, c, c.Store.Path, true)
	case own:
		key, dsn = "store.dsn", c.Store.DSN
	}
	text, err := reveal(ctx, c, key, dsn)
	if err != nil {
		return nil, err
	}
	return ApplicationAt(ctx, c, text, own)
}

// otherConnections are those of posts, probes and lookups.
const otherConnections = 8

// ApplicationAt is OpenApplication for a DSN that is at hand.
func ApplicationAt(ctx context.Context, c config.Config, dsn string, own bool) (*binder.Database, error) {
	if path, file := strings.CutPrefix(dsn, "sqlite:"); file {
		return openSQLite(ctx, c, path, false)
	}
	db, err := postgres.OpenApplication(dsn, c.Application.Connections+otherConnections)
	if err != nil {
		return nil, err
	}
	return &binder.Database{SQL: db, Kind: binder.Postgres, Own: own, Compile: postgres.Compile, Marks: postgres.Marks()}, nil
}

func openSQLite(ctx context.Context, c config.Config, path string, own bool) (*binder.Database, error) {
	marks := "rollcall_bound"
	if own {
		marks = "bound"
	}
	db, err := sqlite.OpenApplication(ctx, path, c.Application.StatementTimeout)
	if err != nil {
		return nil, err
	}
	return &binder.Database{SQL: db, Kind: binder.SQLite, Own: own, Compile: postgres.Compile, Marks: sqlite.Marks(marks)}, nil
}

// NewBinder makes what tells the application. Its errors name what is wrong with which statement.
func NewBinder(c config.Config, s store.Store, db *binder.Database, log zerolog.Logger, r prometheus.Registerer) (*binder.Binder, error) {
	a := c.Application
	conf := binder.Config{
		Store: s, Database: db, Tenant: a.Tenant.SQL, Protected: a.Protected, Mode: store.Mode(a.Mode),
		Owners:      binder.Owners{Joiner: a.Owners.Joiner, Mover: a.Owners.Mover, Leaver: a.Owners.Leaver},
		LockTimeout: a.LockTimeout, StatementTimeout: a.StatementTimeout, Connections: a.Connections, Batch: a.Batch,
		RetryFirst: a.RetryFirst, RetryLongest: a.RetryLongest, LinkRetry: a.LinkRetry,
		Environment: c.Environment, Log: log, Registerer: r,
	}
	if a.Link != (config.Link{}) {
		conf.Link = &binder.Link{SQL: a.Link.SQL, ByEmail: a.Link.ByEmail}
	}
	for _, p := range a.Probes {
		conf.Probes = append(conf.Probes, binder.Probe{Name: p.Name, SQL: p.SQL})
	}
	for _, b := range a.Bindings {
		made := binder.Binding{Name: b.Name, On: b.Kinds(), Statements: b.SQL}
		if b.Post != "" {
			key, err := postKey(c, b)
			if err != nil {
				return nil, err
			}
			made.Post = &binder.Post{URL: b.Post, Key: key, Timeout: b.Timeout, Attempts: b.Attempts}
		}
		conf.Bindings = append(conf.Bindings, made)
	}
	made, err := binder.New(conf)
	if err != nil {
		return nil, fmt.Errorf("%w: application: %w", config.ErrInvalid, err)
	}
	return made, nil
}

// postKey returns what reads the key of a binding's posts, which may be rotated: at most once a minute.
func postKey(c config.Config, b config.Binding) (func() (*verify.Key, error), error) {
	scheme, _ := verify.Preset("standard-webhooks")
	v, err := verify.New(scheme)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex // guards key and read
	var key *verify.Key
	var read time.Time
	return func() (*verify.Key, error) {
		mu.Lock()
		defer mu.Unlock()
		if key != nil && time.Since(read) < rereadAfter {
			return key, nil
		}
		ctx, cancel := context.WithTimeout(context.Background(), revealWithin)
		defer cancel()
		snapshot, err := secrets.Fetch(ctx, SecretsConfig(c), b.Secret)
		if err == nil {
			var fresh *verify.Key
			if fresh, err = v.NewKey(snapshot.Versions[0].ID, snapshot.Versions[0].Secret.Reveal()); err == nil {
				key, read = fresh, time.Now()
			}
		}
		if key == nil { // else the last one is good for a while longer
			return nil, fmt.Errorf("the key of binding %s: %w", b.Name, err)
		}
		return key, nil
	}, nil
}

// roles returns the mapping of groups and slugs to the application's roles.
func roles(c config.Config) directory.Roles {
	rules := make([]directory.RoleRule, 0, len(c.Application.Roles))
	for _, r := range c.Application.Roles {
		rules = append(rules, directory.RoleRule{Role: r.Role, Groups: r.Groups, Slugs: r.Slugs, Directories: r.Directories})
	}
	return directory.NewRoles(rules...)
}

// tell binds until the context ends. The database it needs is the worker's; it waits for it as long as it takes.
func (a *App) tell(ctx context.Context) error {
	s := a.store.wait(ctx)
	if s == nil {
		return nil
	}
	db, err := a.openApplication(ctx)
	if db == nil || err != nil {
		return err
	}
	defer func() { _ = db.SQL.Close() }()
	b, err := NewBinder(a.config, s, db, a.log, a.registry)
	if err != nil {
		return err
	}
	a.binder.Store(b)
	return b.Run(ctx)
}

// changed tells whoever binds that there is something to bind.
func (a *App) changed() {
	if b := a.binder.Load(); b != nil {
		b.Wake()
	}
}

// fares reports which bindings do not take effect.
func (a *App) fares(context.Context) error {
	b := a.binder.Load()
	if b == nil {
		return errors.New("nothing is bound yet; the log says why")
	}
	var wrong []string
	for _, s := range b.Status() {
		if s.State != binder.StateOK {
			wrong = append(wrong, fmt.Sprintf("%s is %s: %s", s.Name, s.State, s.Error))
		}
	}
	if len(wrong) > 0 {
		return errors.New(strings.Join(wrong, "; "))
	}
	return nil
}

// CheckApplication reports which of the application's statements, a rehearsal's too, cannot be compiled, without opening anything.
func CheckApplication(c config.Config) error {
	if !c.Application.Configured() {
		return nil
	}
	kind := binder.Postgres
	if _, file := c.Application.DSN.File(); file || c.Application.DSN == "" && c.Store.Backend == config.BackendSQLite {
		kind = binder.SQLite
	}
	c.Application.Bindings = append(slices.Clone(c.Application.Bindings), signIn(c)...)
	_, err := NewBinder(c, nil, &binder.Database{Kind: kind, Compile: postgres.Compile}, zerolog.Nop(), nil)
	return err
}

// PrepareApplication prepares every statement on the application's database, without running it, and returns those it does not
// take. Its error says that the database could not be asked.
func PrepareApplication(ctx context.Context, c config.Config) ([]binder.Problem, error) {
	if !c.Application.Configured() {
		return nil, nil
	}
	db, err := OpenApplication(ctx, c)
	if err != nil {
		return nil, err
	}
	defer func() { _ = db.SQL.Close() }()
	b, err := NewBinder(c, nil, db, zerolog.Nop(), nil)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, eachWithin)
	defer cancel()
	if err := db.SQL.PingContext(ctx); err != nil {
		return nil, fmt.Errorf("reach the application's database: %w", err)
	}
	problems := append(b.Prepare(ctx), PrepareInventory(ctx, c, db)...)
	if err := b.Markable(ctx); err != nil {
		problems = append(problems, binder.Problem{Binding: "table of marks", Statement: 1, Message: err.Error()})
	}
	return problems, nil
}

// PrepareInventory returns the statements of the inventory that the application's database does not take, or that lack a
// column, without running them.
func PrepareInventory(ctx context.Context, c config.Config, db *binder.Database) (problems []binder.Problem) {
	ctx, cancel := context.WithTimeout(ctx, eachWithin)
	defer cancel()
	a := inventory.Application{DB: db.SQL, Kind: db.Kind, Accounts: c.Application.Inventory.Accounts, Memberships: c.Application.Inventory.Memberships}
	for _, f := range a.Prepare(ctx, c.Application.Tenant.SQL != "") {
		problems = append(problems, binder.Problem{Binding: f.Statement, Message: f.Message})
	}
	return problems
}

// openApplication opens the application's database, waiting for its address as long as it takes; nil when the context ended.
func (a *App) openApplication(ctx context.Context) (*binder.Database, error) {
	for {
		db, err := OpenApplication(ctx, a.config)
		if err == nil || errors.Is(err, config.ErrInvalid) {
			return db, err
		}
		a.log.Warn().Err(err).Msg("the application's database cannot be used yet; changes wait")
		select {
		case <-ctx.Done():
			return nil, nil
		case <-time.After(openAgain):
		}
	}
}

const openAgain = 5 * time.Second

// Inventory opens the application's database with the statements that say who is in it. Whoever called it calls done.
func Inventory(ctx context.Context, c config.Config) (a inventory.Application, done func() error, err error) {
	db, err := OpenApplication(ctx, c)
	if err != nil {
		return a, nil, err
	}
	a = inventory.Application{
		DB: db.SQL, Kind: db.Kind, Accounts: c.Application.Inventory.Accounts, Memberships: c.Application.Inventory.Memberships, Protected: c.Application.Protected,
	}
	if c.Application.Tenant.SQL != "" {
		b, err := NewBinder(c, nil, db, zerolog.Nop(), nil)
		if err != nil {
			return a, nil, errors.Join(err, db.SQL.Close())
		}
		a.Tenant = b.Tenant
	}
	return a, db.SQL.Close, nil
}
