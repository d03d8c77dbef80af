package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/rollcallhq/rollcall/handlers"
	"github.com/rollcallhq/rollcall/internal/app"
	"github.com/rollcallhq/rollcall/internal/config"
	"github.com/rollcallhq/rollcall/internal/simulator"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/secrets"
	"github.com/rollcallhq/rollcall/verify"
)

// demoFlags are what `rollcall demo` is told.
type demoFlags struct {
	seed   uint64
	things int
	keep   bool
	fast   bool
}

func (c *cli) demo() *cobra.Command {
	var f demoFlags
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See the main job: a small directory, a real receiver, a database that follows",
		Long: `Runs the whole service in this process on embedded defaults: HTTPS with a certificate
made now, a signing secret made now, the queue and the database in files of a temporary
folder. A small simulated directory lets people join, move and leave, and tells of it
by signed deliveries that come twice and out of order. In the end the database is
compared with the directory. Nothing else is needed, and nothing is left behind.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.things < 0 {
				return fmt.Errorf("%w: --happenings %d is negative\nhint: 0 connects the directory, and nothing more happens", errUsage, f.things)
			}
			return c.runDemo(cmd.Context(), f)
		},
	}
	flags := cmd.Flags()
	flags.Uint64Var(&f.seed, "seed", 0, "repeat the happenings of this `number`, in another order of arrival; 0 is new ones")
	flags.IntVar(&f.things, "happenings", 30, "how `many` things happen")
	flags.BoolVar(&f.keep, "keep", false, "stay up afterwards, until Ctrl-C, and say how to look around")
	flags.BoolVar(&f.fast, "fast", false, "make no pauses for reading")
	return cmd
}

// demo is the service and the directory, both running.
type demo struct {
	*cli
	demoFlags
	dir    string
	config config.Config
	app    *app.App
	store  store.Store
	sender *simulator.Sender

	seen     map[string]bool         // the events that were accepted; the sender's own while it sends
	compared bool                    // the story came to its end
	giveUp   context.CancelCauseFunc // ends all when nobody reads any more
}

// errUnfinished says that a demonstration did not come to its end.
var errUnfinished = errors.New("stopped before the end; nothing was compared")

// runDemo leaves nothing behind, even when its reader goes away: it takes the failed write for the end.
func (c *cli) runDemo(ctx context.Context, f demoFlags) (err error) {
	signal.Ignore(syscall.SIGPIPE)
	dir, err := os.MkdirTemp("", "rollcall-demo-")
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if f.seed == 0 {
		f.seed = uint64(time.Now().UnixNano())
	}
	d := &demo{cli: c, demoFlags: f, dir: dir, seen: map[string]bool{}}
	if err := d.configure(); err != nil {
		return err
	}
	logFile, err := os.Create(filepath.Join(dir, "rollcall.log"))
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	defer func() { err = errors.Join(err, logFile.Close()) }()
	return d.run(ctx, app.Options{Config: d.config, Version: version, Log: app.NewLog(d.config.Log, logFile)})
}

// configure makes the secret, the certificate and the configuration.
func (d *demo) configure() error {
	secret := filepath.Join(d.dir, "webhook-secret")
	if err := os.WriteFile(secret, []byte(rand.Text()), 0o600); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	cert, key, err := handlers.WriteSelfSigned(d.dir, []string{"localhost", "127.0.0.1"})
	if err != nil {
		return err
	}
	c := config.Default()
	c.Environment = "demo"
	c.Public.Address, c.Public.TLS, c.Public.DrainDelay = "127.0.0.1:0", config.TLS{Cert: cert, Key: key}, 0
	c.Ops.Address, c.Admin.Address = "127.0.0.1:0", "127.0.0.1:0"
	c.Queue.Embedded.Path = filepath.Join(d.dir, "queue.db")
	c.Store.Path, c.Store.Migrate = filepath.Join(d.dir, "rollcall.db"), true
	c.Sources = map[string]config.Source{"workos": {Provider: "workos", Secret: secrets.Ref("file:" + secret), OnDeleted: config.Hold}}
	d.config = c
	return nil
}

// run starts the service, tells the story, and ends both.
func (d *demo) run(ctx context.Context, o app.Options) (err error) {
	if d.app, err = app.New(ctx, o); err != nil {
		return err
	}
	running, giveUp := context.WithCancelCause(ctx)
	d.giveUp = giveUp
	ended := make(chan error, 1)
	go func() { ended <- d.app.Run(running) }()
	err = d.story(running, ended)
	if running.Err() != nil && !errors.Is(err, errCheck) {
		err = d.interrupted(ctx, context.Cause(running))
	}
	giveUp(nil)
	return errors.Join(err, <-ended)
}

// interrupted is nil for the Ctrl-C that ends a demonstration that is only kept up.
func (d *demo) interrupted(ctx context.Context, cause error) error {
	switch {
	case d.compared && ctx.Err() != nil:
		return nil
	case d.compared:
		return fmt.Errorf("demo: %w\nhint: all was well, but nobody read it", cause)
	case ctx.Err() == nil:
		return fmt.Errorf("%w: %w\nhint: let it write to its end; --fast makes no pauses", errUnfinished, cause)
	default:
		return fmt.Errorf("%w\nhint: let it run to its end; --fast makes no pauses", errUnfinished)
	}
}

// connect waits until the service is ready and has made its tables, and makes the sender and a view of the database.
func (d *demo) connect(ctx context.Context, ended chan error) error {
	if err := await(ctx, ended, func() bool { return d.app.Ready(ctx) == nil }); err != nil {
		return err
	}
	d.config.Public.Address, d.config.Ops.Address = d.app.Addr("public").String(), d.app.Addr("ops").String()
	var err error
	if d.store, err = app.OpenStore(ctx, d.config, version); err != nil {
		return err
	}
	if err := await(ctx, ended, func() bool { return app.Prepared(ctx, d.store) == nil }); err != nil {
		return err
	}
	return d.makeSender(ctx)
}

// await waits until something is done, as long as the service runs.
func await(ctx context.Context, ended chan error, done func() bool) error {
	for !done() {
		select {
		case err := <-ended:
			ended <- nil
			return errors.Join(errors.New("demo: the service ended before it was ready"), err)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

func (d *demo) makeSender(ctx context.Context) error {
	source := d.config.Sources["workos"]
	v, err := app.NewVerifier(source)
	if err != nil {
		return err
	}
	snapshot, err := secrets.Fetch(ctx, app.SecretsConfig(d.config), source.Secret)
	if err != nil {
		return err
	}
	key, err := v.NewKey("demo", snapshot.Versions[0].Secret.Reveal())
	if err != nil {
		return err
	}
	return d.senderFor(v, key)
}

func (d *demo) senderFor(v *verify.Verifier, key *verify.Key) error {
	pem, err := os.ReadFile(d.config.Public.TLS.Cert)
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	d.sender = &simulator.Sender{
		URL: d.url(), Verifier: v, Key: key, Seed: d.seed, Repeat: 0.25, Window: 3, Attempts: 50,
		Client: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
			TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}, ForceAttemptHTTP2: true,
		}},
	}
	return nil
}

func (d *demo) url() string { return "https://" + d.config.Public.Address + "/webhooks/workos" }

// stay keeps the service up and says how to look around.
func (d *demo) stay(ctx context.Context) error {
	file, draft := filepath.Join(d.dir, "rollcall.yaml"), filepath.Join(d.dir, "draft")
	if err := os.WriteFile(draft, []byte(d.config.Redacted()), 0o600); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	if err := os.Rename(draft, file); err != nil { // whoever waits for it finds it whole
		return fmt.Errorf("demo: %w", err)
	}
	who, err := d.somebody(ctx)
	if err != nil {
		return err
	}
	binary, err := os.Executable()
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	d.show(`
It stays up until Ctrl-C. Look around in another terminal:

  export ROLLCALL_CONFIG=%[1]s
  %[2]s accounts list
  %[2]s accounts show %[3]s
  %[2]s events list
  %[2]s send dsync.user.created --ca %[4]s
  curl 'http://%[5]s/readyz?verbose'
`, file, binary, who, d.config.Public.TLS.Cert, d.config.Ops.Address)
	<-ctx.Done()
	return nil
}

// somebody is the address of one of the accounts.
func (d *demo) somebody(ctx context.Context) (string, error) {
	rows, err := d.store.Accounts(ctx, store.AccountFilter{Limit: 1})
	if err != nil || len(rows) == 0 {
		return "WHO", err
	}
	return rows[0].Email, nil
}
