package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/rollcallhq/rollcall/internal/app"
	"github.com/rollcallhq/rollcall/internal/config"
	"github.com/rollcallhq/rollcall/internal/simulator"
	"github.com/rollcallhq/rollcall/secrets"
)

// simulateFlags are what `rollcall simulate` is told.
type simulateFlags struct {
	sendFlags
	listen, apiKey, style, truth string
	people, groups, days         int
	minutes                      float64
	faults                       simulator.Faults
	seed                         uint64
	lag                          time.Duration
	outageAt                     string
	outageFor                    time.Duration
	keep                         bool
}

func (c *cli) simulate() *cobra.Command {
	var f simulateFlags
	cmd := &cobra.Command{
		Use:   "simulate",
		Short: "Play a provider: webhooks, events API and directory API, with a month's traffic",
		Long: `A simulated provider connects a directory, announces all that is in it, and plays
joiners, movers and leavers of many days in a few minutes. It posts signed webhooks to
--url, and answers on --listen as the provider's events API and directory API do; the
API's key is that of --api-key, or is made now and printed. What happens bears the
present time. Nothing but the URL is contacted.

With --config the secret and the URL are those of --source; --secret and --url say
otherwise. In the end it prints what it did; --truth writes who must be active then,
and in which groups. Ctrl-C or SIGTERM ends it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			return c.runSimulate(cmd.Context(), f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.source, "source", "workos", "the `source` that it is for")
	flags.StringVar(&f.url, "url", "", "where to post to, a `URL`; default https://localhost:PORT/webhooks/SOURCE")
	flags.StringVar(&f.secret, "secret", "", "`reference` to the signing secret: file:/PATH, env:NAME or vault:PATH#FIELD")
	flags.StringVar(&f.ca, "ca", "", "PEM `file` of the certificate to trust")
	flags.BoolVar(&f.insecure, "insecure", false, "trust any certificate; only for a receiver on this machine")
	flags.DurationVar(&f.timeout, "timeout", 10*time.Second, "how long to wait for an answer")
	flags.StringVar(&f.listen, "listen", "127.0.0.1:8095", "`address` of the events API and the directory API")
	flags.StringVar(&f.apiKey, "api-key", "", "`reference` to the API's key, as --secret; default one that is made now")
	flags.IntVar(&f.people, "people", 200, "how `many` people there are at the beginning")
	flags.IntVar(&f.groups, "groups", 8, "how `many` groups there are at the beginning")
	flags.IntVar(&f.days, "days", 30, "how `many` days are played")
	flags.Float64Var(&f.minutes, "minutes", 5, "`minutes` in which they are played")
	flags.Float64Var(&f.faults.Lost, "lost", 0, "`share` of the webhooks that is lost, such as 0.2")
	flags.Float64Var(&f.faults.Repeated, "repeated", 0, "`share` of the webhooks that comes twice, such as 0.1")
	flags.DurationVar(&f.faults.Reorder, "reorder", 0, "how much later a webhook may come, in simulated time, such as 3m")
	flags.StringVar(&f.outageAt, "outage-at", "", "from this `DAY/TIME` on, such as 3/14:00, webhooks are lost and the APIs answer 503")
	flags.DurationVar(&f.outageFor, "outage-for", 10*time.Minute, "how long, in simulated time")
	flags.DurationVar(&f.lag, "lag", 3*time.Second, "about how much later than its webhook the events API tells of an event")
	flags.Uint64Var(&f.seed, "seed", 0, "repeat the happenings of this `number`; 0 is new ones")
	flags.StringVar(&f.style, "style", string(simulator.StyleDeleted), "what becomes of a leaver: inactive or deleted")
	flags.StringVar(&f.truth, "truth", "", "write what must be true in the end to this `file`, as JSON")
	flags.BoolVar(&f.keep, "keep", false, "keep the APIs up afterwards, until Ctrl-C")
	return c.outputFlag(cmd)
}

// check refuses what cannot be played.
func (f simulateFlags) check() error {
	for name, n := range map[string]int{"people": f.people, "groups": f.groups} {
		if n < 0 {
			return fmt.Errorf("%w: --%s %d is negative\nhint: 0 is none", errUsage, name, n)
		}
	}
	switch {
	case f.days < 1:
		return fmt.Errorf("%w: --days %d is not 1 or more\nhint: it is how many days are played, in --minutes", errUsage, f.days)
	case !(f.minutes >= 0):
		return fmt.Errorf("%w: --minutes %g is negative\nhint: 0 plays the days at once", errUsage, f.minutes)
	case f.style != string(simulator.StyleDeleted) && f.style != string(simulator.StyleInactive):
		return fmt.Errorf("%w: --style %q is not known\nhint: there is inactive, deleted", errUsage, f.style)
	}
	if err := f.faults.Check(); err != nil {
		return fmt.Errorf("%w: %w\nhint: --lost and --repeated are shares such as 0.2, --reorder is a time such as 3m", errUsage, err)
	}
	if _, err := f.outage(); err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	return nil
}

// turn is when an outage begins or ends, from the beginning of the first day.
type turn struct {
	at   time.Duration
	down bool
}

// outage is when the outage begins and ends; nothing where there is none.
func (f simulateFlags) outage() ([]turn, error) {
	if f.outageAt == "" {
		return nil, nil
	}
	text, clock, _ := strings.Cut(f.outageAt, "/")
	day, failed := strconv.Atoi(text)
	hour, err := time.Parse("15:04", clock)
	if failed != nil || err != nil || day < 1 || day > f.days {
		return nil, fmt.Errorf("--outage-at %q is not a day of the %d and a time\nhint: it is written as 3/14:00", f.outageAt, f.days)
	}
	if f.outageFor <= 0 || f.minutes == 0 {
		return nil, fmt.Errorf("an outage of %s in %g minutes cannot be seen\nhint: --outage-for is a simulated time such as 10m, --minutes more than 0", f.outageFor, f.minutes)
	}
	begin := time.Duration(day-1)*24*time.Hour + time.Duration(hour.Hour())*time.Hour + time.Duration(hour.Minute())*time.Minute
	return []turn{{begin, true}, {begin + f.outageFor, false}}, nil
}

// pace is how much real time goes by in a simulated time.
func (f simulateFlags) pace(simulated time.Duration) time.Duration {
	return time.Duration(float64(simulated) * f.minutes / (float64(f.days) * 24 * 60))
}

// attempts are as many as WorkOS makes of a webhook.
const attempts = 6

// simulation is a provider that is played.
type simulation struct {
	*cli
	simulateFlags
	world    *simulator.World
	api      *simulator.API
	hooks    *simulator.Webhooks
	accepted atomic.Int64 // webhooks
	turns    []turn       // that are yet to come
	givenUp  atomic.Int64
	bar      *bar
}

func (c *cli) runSimulate(ctx context.Context, f simulateFlags) (err error) {
	if f.seed == 0 {
		f.seed = uint64(time.Now().UnixNano())
	}
	s := &simulation{cli: c, simulateFlags: f, bar: newBar(c.talk)}
	s.world = simulator.NewWorld(simulator.WorldConfig{Seed: f.seed, Source: f.source, Leavers: simulator.Style(f.style), Now: time.Now})
	if s.turns, err = f.outage(); err != nil {
		return err
	}
	if err := s.connect(ctx); err != nil {
		return err
	}
	stop, err := s.serve(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	stats, failed := s.play(ctx)
	if err := s.tell(stats, failed == nil); err != nil {
		return err
	}
	switch {
	case ctx.Err() != nil:
		return nil // that is how it is ended
	case failed != nil:
		failed = fmt.Errorf("%d webhooks: %w\nhint: is the receiver running at %s, with the same secret?", stats.Failed, failed, s.url)
	}
	if !f.keep {
		return failed
	}
	if failed != nil {
		report(c.talk, failed) // the log tells of them all the same
	}
	c.say("all is played; the API stays up until Ctrl-C")
	<-ctx.Done()
	return failed
}

// connect makes the webhooks' sender, and the API.
func (s *simulation) connect(ctx context.Context) error {
	f, source, conf, err := s.resolve(s.sendFlags)
	if err != nil {
		return err
	}
	s.sendFlags = f
	if _, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, http.NoBody); err != nil {
		return fmt.Errorf("%w: --url: %w\nhint: it is written https://HOST:PORT/webhooks/SOURCE", errUsage, err)
	}
	v, key, err := signer(ctx, source, conf)
	if err != nil {
		return err
	}
	client, err := s.client()
	if err != nil {
		return err
	}
	faults := s.faults
	faults.Seed, faults.Reorder = s.seed, s.pace(faults.Reorder)
	s.hooks = &simulator.Webhooks{World: s.world, Faults: faults, Sender: &simulator.Sender{
		URL: s.url, Client: client, Verifier: v, Key: key, Seed: s.seed, Concurrency: 8, Attempts: attempts,
		OnAnswer: func(a simulator.Answer) {
			if a.Accepted() {
				s.accepted.Add(1)
			} else if a.Attempt == attempts {
				s.givenUp.Add(1)
			}
		},
	}}
	if err := s.makeKey(ctx, conf); err != nil {
		return err
	}
	s.api = simulator.NewAPI(s.world, simulator.APIConfig{Key: s.apiKey, Lag: s.lag, Seed: s.seed})
	return nil
}

// makeKey replaces the reference to the API's key by the key, which is made where there is none.
func (s *simulation) makeKey(ctx context.Context, conf config.Config) error {
	if s.apiKey == "" {
		s.apiKey = "sk_simulated_" + rand.Text()
		s.say("the API's key is %s", s.apiKey)
		return nil
	}
	ref := secrets.Ref(s.apiKey)
	if err := ref.Validate(); err != nil {
		return fmt.Errorf("%w: --api-key: %w", errUsage, err)
	}
	snapshot, err := secrets.Fetch(ctx, app.SecretsConfig(conf), ref)
	if err != nil {
		return fmt.Errorf("--api-key: %w", err)
	}
	s.apiKey = string(snapshot.Versions[0].Secret.Reveal())
	return nil
}

// serve answers as the API until it is stopped.
func (s *simulation) serve(ctx context.Context) (stop func() error, err error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", s.listen)
	if err != nil {
		return nil, fmt.Errorf("the events API: %w\nhint: --listen HOST:PORT; port 0 takes one that is free", err)
	}
	server := &http.Server{Handler: s.api, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	s.say("%d people and %d groups (seed %d): webhooks to %s, events API and directory API at http://%s, %d days in %g minutes",
		s.people, s.groups, s.seed, s.url, listener.Addr(), s.days, s.minutes)
	return func() error {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err := server.Shutdown(ending)
		if served := <-ended; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, served)
		}
		return err
	}, nil
}

// delivered is how the webhooks ended.
type delivered struct {
	stats simulator.Stats
	err   error
}

// play makes all happen, and returns when each webhook was delivered, lost or given up, or the context ended.
func (s *simulation) play(ctx context.Context) (simulator.Stats, error) {
	done, ended := make(chan struct{}), make(chan delivered, 1)
	go func() {
		stats, err := s.hooks.Run(ctx, done)
		ended <- delivered{stats, err}
	}()
	tick := time.NewTicker(s.bar.every())
	defer tick.Stop()
	id := s.world.FirstSync(s.people, s.groups, 3)
	s.say("directory %s of organization %s", id, s.world.Organization(id))
	traffic := simulator.NewTraffic(s.world, s.days, simulator.PerDay(s.people), s.seed)
	for begun := time.Now(); ; {
		at, more := traffic.Next()
		if !more && len(s.turns) > 0 {
			at = s.turns[len(s.turns)-1].at
		}
		if (more || len(s.turns) > 0) && !s.reach(ctx, begun, tick.C, at) {
			break
		}
		if !more {
			close(done)
			break
		}
		traffic.Step()
	}
	for {
		select {
		case end := <-ended:
			s.show(s.days)
			s.bar.end()
			return end.stats, end.err
		case <-tick.C:
			s.show(s.days)
		}
	}
}

// reach waits until so much simulated time is over; the outage begins and ends on the way. It returns false when the context ended first.
func (s *simulation) reach(ctx context.Context, begun time.Time, tick <-chan time.Time, at time.Duration) bool {
	for len(s.turns) > 0 && s.turns[0].at <= at {
		next := s.turns[0]
		if !s.until(ctx, begun.Add(s.pace(next.at)), tick, next.at) {
			return false
		}
		s.turns = s.turns[1:]
		s.hooks.SetDown(next.down)
		s.api.SetDown(next.down)
		s.bar.end()
		if next.down {
			s.say("an outage: webhooks are lost and the APIs answer 503, for %s of simulated time", s.outageFor)
		} else {
			s.say("the outage is over")
		}
	}
	return s.until(ctx, begun.Add(s.pace(at)), tick, at)
}

// until waits for a time, and shows how far it is; false when the context ended first.
func (s *simulation) until(ctx context.Context, when time.Time, tick <-chan time.Time, at time.Duration) bool {
	timer := time.NewTimer(time.Until(when))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-tick:
			s.show(1 + int(at/(24*time.Hour)))
		case <-timer.C:
			return true
		}
	}
}

func (s *simulation) show(day int) {
	told := s.hooks.Stats()
	s.bar.show(float64(day)/float64(s.days), fmt.Sprintf("day %d of %d: %d events, %d webhooks accepted, %d lost, %d given up, %d requests to the API",
		day, s.days, told.Events, s.accepted.Load(), told.Lost, s.givenUp.Load(), s.api.Stats().Requests))
}
