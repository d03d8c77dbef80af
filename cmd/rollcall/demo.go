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
	"path/filepath"
	"strings"
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
		RunE: func(cmd *cobra.Command, _ []string) error { return c.runDemo(cmd.Context(), f) },
	}
	flags := cmd.Flags()
	flags.Uint64Var(&f.seed, "seed", 0, "repeat the story of this `number`; 0 is a new one")
	flags.IntVar(&f.things, "happenings", 30, "how many things happen")
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
}

func (c *cli) runDemo(ctx context.Context, f demoFlags) (err error) {
	dir, err := os.MkdirTemp("", "rollcall-demo-")
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if f.seed == 0 {
		f.seed = uint64(time.Now().UnixNano())
	}
	d := &demo{cli: c, demoFlags: f, dir: dir}
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
	c.Sources = map[string]config.Source{"workos": {Provider: "workos", Secret: secrets.Ref("file:" + secret), OnDeleted: "hold"}}
	d.config = c
	return nil
}

// run starts the service, tells the story, and ends both.
func (d *demo) run(ctx context.Context, o app.Options) (err error) {
	if d.app, err = app.New(ctx, o); err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- d.app.Run(running) }()
	err = d.story(running, ended)
	if ctx.Err() != nil {
		err = nil // Ctrl-C
	}
	stop()
	return errors.Join(err, <-ended)
}

func (d *demo) story(ctx context.Context, ended chan error) (err error) {
	if err := d.connect(ctx, ended); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.store.Close()) }()
	d.show("Rollcall %s answers at %s, in %s\n", version, d.url(), d.dir)
	directory, begin := simulator.New(simulator.Config{Seed: d.seed, People: 5, Groups: 3, Now: time.Now})
	d.show("A directory of 5 people and 3 groups is connected (seed %d). Deliveries come signed, twice, and out of order.\n\n", d.seed)
	if err := d.send(ctx, begin); err != nil {
		return err
	}
	d.show("\nNow people join, move and leave.\n\n")
	for range d.things {
		if err := d.send(ctx, directory.Step()); err != nil {
			return err
		}
	}
	if err := d.settle(ctx); err != nil {
		return err
	}
	if err := d.compare(ctx, directory.Expected()); err != nil {
		return err
	}
	if d.keep {
		return d.stay(ctx)
	}
	return nil
}

// connect waits until the service is ready, and makes the sender and a view of the database.
func (d *demo) connect(ctx context.Context, ended chan error) error {
	for ready := false; !ready; {
		select {
		case err := <-ended:
			ended <- nil
			return errors.Join(errors.New("demo: the service ended before it was ready"), err)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
			ready = d.app.Ready(ctx) == nil
		}
	}
	d.config.Public.Address, d.config.Ops.Address = d.app.Addr("public").String(), d.app.Addr("ops").String()
	var err error
	if d.store, err = app.OpenStore(ctx, d.config, version); err != nil {
		return err
	}
	return d.makeSender(ctx)
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

// send delivers what happened and shows each arrival and what it did.
func (d *demo) send(ctx context.Context, deliveries []simulator.Delivery) error {
	d.sender.OnAnswer = func(a simulator.Answer) {
		d.arrived(ctx, a)
		if !d.fast {
			pause(ctx, 120*time.Millisecond)
		}
	}
	_, err := d.sender.Send(ctx, deliveries)
	return err
}

// arrived prints a delivery's line when its event is in the ledger.
func (d *demo) arrived(ctx context.Context, a simulator.Answer) {
	if !a.Accepted() {
		d.show("%s  %d  %-24s not accepted, it is sent again\n", time.Now().Format("15:04:05.000"), a.Status, a.Delivery.Type)
		return
	}
	what := "repeated: it is known already, nothing is done"
	if !a.Repeat {
		what = d.effect(ctx, a.Delivery)
	}
	d.show("%s  %d  %-24s %s\n                    %s\n", time.Now().Format("15:04:05.000"), a.Status, a.Delivery.Type, a.Delivery.Summary, what)
}

// effect waits for the event's line in the ledger and says what came of it.
func (d *demo) effect(ctx context.Context, delivery simulator.Delivery) string {
	for ctx.Err() == nil {
		e, err := d.store.Event(ctx, "workos", delivery.ID)
		if errors.Is(err, store.ErrNotFound) {
			pause(ctx, 5*time.Millisecond)
			continue
		}
		if err != nil {
			return err.Error()
		}
		changes, err := d.store.Changes(ctx, store.ChangeFilter{Source: "workos", Event: delivery.ID, Limit: 100})
		if err != nil {
			return err.Error()
		}
		return effectOf(e, changes)
	}
	return ""
}

func effectOf(e store.Entry, changes []store.ChangeRow) string {
	if e.Outcome == store.Superseded {
		return "superseded: something newer was known already, nothing is done"
	}
	var parts []string
	for _, ch := range changesOf(changes) {
		part := ch.Kind
		if group := groupOf(ch); group != "" {
			part += " " + group
		}
		parts = append(parts, part)
	}
	if len(parts) == 0 {
		return string(e.Outcome) + ", nobody's access changes by it"
	}
	return fmt.Sprintf("%s after %s", strings.Join(parts, ", "), e.Folded.Sub(e.Received).Round(time.Millisecond))
}

// settle waits until nothing is left to be done.
func (d *demo) settle(ctx context.Context) error {
	for {
		waiting, _, err := askQueue(ctx, d.config)
		if err != nil {
			return err
		}
		summary, err := d.store.Summary(ctx)
		if err != nil {
			return err
		}
		if waiting.Depth() == 0 && summary.Expansions == 0 {
			return nil
		}
		if pause(ctx, 20*time.Millisecond); ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// compare says whether the database is what the directory means.
func (d *demo) compare(ctx context.Context, want simulator.Expectation) error {
	dump, err := d.store.Dump(ctx)
	if err != nil {
		return err
	}
	summary, err := d.store.Summary(ctx)
	if err != nil {
		return err
	}
	if diff := want.Diff(dump); len(diff) > 0 {
		d.show("\nThe database differs from the directory:\n  %s\n", strings.Join(diff, "\n  "))
		return errCheck
	}
	slowest, leavers, err := d.leavers(ctx)
	if err != nil {
		return err
	}
	d.show("\nThe database equals the directory: %d accounts (%d active), %d group memberships, %d changes by %d events.\n",
		summary.Accounts, summary.ActiveAccounts, summary.Grants, summary.Changes, summary.Events[store.Applied]+summary.Events[store.Superseded])
	if leavers > 0 {
		d.show("%d times somebody lost access; the slowest was gone %s after the delivery arrived.\n", leavers, slowest.Round(time.Millisecond))
	}
	return nil
}

// leavers counts deactivations and returns the longest time from an arrival to the commit of its deactivation.
func (d *demo) leavers(ctx context.Context) (slowest time.Duration, n int, err error) {
	changes, err := d.store.Changes(ctx, store.ChangeFilter{Limit: 1_000_000})
	if err != nil {
		return 0, 0, err
	}
	for _, ch := range changes {
		if ch.Kind != "account.deactivated" {
			continue
		}
		e, err := d.store.Event(ctx, ch.Source, ch.Event)
		if err != nil {
			return 0, 0, err
		}
		n, slowest = n+1, max(slowest, ch.At.Sub(e.Received))
	}
	return slowest, n, nil
}

// stay keeps the service up and says how to look around.
func (d *demo) stay(ctx context.Context) error {
	file := filepath.Join(d.dir, "rollcall.yaml")
	if err := os.WriteFile(file, []byte(d.config.Redacted()), 0o600); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	d.show(`
It stays up until Ctrl-C. Look around in another terminal:

  export ROLLCALL_CONFIG=%s
  %s accounts list
  %s events list
  %s send dsync.user.created --ca %s
  curl http://%s/readyz?verbose
`, file, os.Args[0], os.Args[0], os.Args[0], d.config.Public.TLS.Cert, d.config.Ops.Address)
	<-ctx.Done()
	return nil
}

func (d *demo) show(format string, args ...any) {
	for i, a := range args {
		if s, ok := a.(string); ok {
			args[i] = printable(s)
		}
	}
	_, _ = fmt.Fprintf(d.out, format, args...)
}

// pause waits, or returns when the context ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
