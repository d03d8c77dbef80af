package handlers

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	stdlog "log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rs/zerolog"
)

// ErrNoDrain makes the end skip DrainDelay when it is the cause that Run's context is cancelled with: the process cannot go
// on meanwhile, so that load balancers are better off with a closed port.
var ErrNoDrain = errors.New("the end does not wait for load balancers")

// Timeouts bound what a client may take its time for. Zero takes the default.
type Timeouts struct {
	ReadHeader time.Duration // from the connection's first byte to the end of the headers; 5 s
	Read       time.Duration // of the whole request; 15 s
	Body       time.Duration // from the headers' end to the body's, of senders' requests; 5 s, at most what ReadHeader leaves of Read
	Write      time.Duration // from the headers' end to the answer's; 30 s
	Idle       time.Duration // between two requests; 120 s, more than load balancers keep a connection
}

// MaxHeaderBytes bounds a request's line and headers.
const MaxHeaderBytes = 16 << 10

// What one HTTP/2 connection of a sender may have going at once, and the room for its frames: without a bound one
// connection could keep hundreds of bodies open.
const (
	maxStreams    = 64
	maxFrameBytes = 16 << 10
)

// ServersConfig says what listens where. An empty address does not listen. Zero durations take the defaults.
type ServersConfig struct {
	Public      string       // address for senders, host:port
	Receiver    http.Handler // what answers there
	Certificate *Certificate // its TLS
	PlainHTTP   bool         // serve senders without TLS; for a load balancer that has it, and nothing else

	OpsAddress string
	Ops        *Ops // made unready when the end begins; may be nil when OpsAddress is empty

	AdminAddress string // loopback
	Admin        http.Handler

	DrainDelay time.Duration // from unready to not listening: time for load balancers to notice; may be 0
	Shutdown   time.Duration // for requests under way to end; 20 s
	Timeouts   Timeouts
	Log        zerolog.Logger
}

// Servers are the process's listeners: senders', operators', administrators'.
type Servers struct {
	config   ServersConfig
	servers  []*server
	draining atomic.Bool
}

// server is one listener and what answers there.
type server struct {
	name     string
	address  string
	http     *http.Server
	listener net.Listener
	lasts    bool // until the others have ended
}

// NewServers checks the configuration. Nothing listens yet.
func NewServers(c ServersConfig) (*Servers, error) {
	c.Timeouts = Timeouts{
		ReadHeader: cmp.Or(c.Timeouts.ReadHeader, 5*time.Second), Read: cmp.Or(c.Timeouts.Read, 15*time.Second), Body: cmp.Or(c.Timeouts.Body, 5*time.Second),
		Write: cmp.Or(c.Timeouts.Write, 30*time.Second), Idle: cmp.Or(c.Timeouts.Idle, 120*time.Second),
	}
	c.Timeouts.Body = min(c.Timeouts.Body, c.Timeouts.Read-c.Timeouts.ReadHeader)
	c.Shutdown = cmp.Or(c.Shutdown, 20*time.Second)
	switch {
	case c.Public != "" && c.Receiver == nil || c.OpsAddress != "" && c.Ops == nil || c.AdminAddress != "" && c.Admin == nil:
		return nil, errors.New("servers: an address has nothing that answers there")
	case c.Public != "" && c.Certificate == nil && !c.PlainHTTP:
		return nil, errors.New("public listener: no certificate\nhint: name a certificate and its key, or ask for plain HTTP if a load balancer in front has TLS")
	case c.Certificate != nil && c.PlainHTTP:
		return nil, errors.New("public listener: it has a certificate, and plain HTTP is asked for\nhint: leave one of them out")
	case c.AdminAddress != "" && !loopback(c.AdminAddress):
		return nil, fmt.Errorf("admin listener: %s is not a loopback address\nhint: use 127.0.0.1 or [::1]", c.AdminAddress)
	}
	s := &Servers{config: c}
	if c.Public != "" {
		public := s.server("public", c.Public, s.closing(bodyWithin(c.Timeouts.Body, c.Receiver)))
		if c.Certificate != nil {
			public.http.TLSConfig = c.Certificate.TLS()
		}
		s.servers = append(s.servers, public)
	}
	if c.AdminAddress != "" {
		s.servers = append(s.servers, s.server("admin", c.AdminAddress, c.Admin))
	}
	if c.OpsAddress != "" {
		ops := s.server("ops", c.OpsAddress, c.Ops)
		ops.lasts = true
		s.servers = append(s.servers, ops)
	}
	return s, nil
}

func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	return err == nil && (host == "localhost" || net.ParseIP(host).IsLoopback())
}

func (s *Servers) server(name, address string, handler http.Handler) *server {
	t := s.config.Timeouts
	return &server{name: name, address: address, http: &http.Server{
		Handler: handler, MaxHeaderBytes: MaxHeaderBytes,
		ReadHeaderTimeout: t.ReadHeader, ReadTimeout: t.Read, WriteTimeout: t.Write, IdleTimeout: t.Idle,
		HTTP2:    &http.HTTP2Config{MaxConcurrentStreams: maxStreams, MaxReadFrameSize: maxFrameBytes},
		ErrorLog: stdlog.New(serverLog{s.config.Log.With().Str("listener", name).Logger()}, "", 0),
	}}
}

// bodyWithin gives a request's body its own time, so that one that stalls is cut off long before the connection would be.
// A limit that is not above 0 is none: the server's for the whole request holds.
func bodyWithin(limit time.Duration, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if limit > 0 && req.ContentLength != 0 {
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(limit)) // every server's writer has deadlines
		}
		next.ServeHTTP(w, req)
	})
}

// closing asks clients, once the process drains, to take their next request elsewhere.
func (s *Servers) closing(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if s.draining.Load() {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, req)
	})
}

// Listen opens all listeners, or none. Run does it when nobody has.
func (s *Servers) Listen(ctx context.Context) error {
	for i, one := range s.servers {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", one.address)
		if err != nil {
			for _, open := range s.servers[:i] {
				err = errors.Join(err, open.listener.Close())
			}
			return fmt.Errorf("listen, %s listener: %w%s", one.name, err, ListenHint(err))
		}
		one.listener = l
	}
	return nil
}

// ListenHint is what to do about an address that cannot be listened on, a line of its own.
func ListenHint(err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "\nhint: another process has that port; stop it or choose another address"
	case errors.Is(err, syscall.EACCES):
		return "\nhint: ports below 1024 need a privilege; choose another port"
	default:
		return "\nhint: an address is host:port, and the host one of this machine's, or empty"
	}
}

// Addr returns where "public", "ops" or "admin" listens, or nil when it does not (yet).
func (s *Servers) Addr(name string) net.Addr {
	for _, one := range s.servers {
		if one.name == name && one.listener != nil {
			return one.listener.Addr()
		}
	}
	return nil
}

// Run serves until the context ends or a listener fails, and returns when all has ended: nil after an orderly end. The
// end is unready at once; not listening to senders after DrainDelay, unless the context's cause is ErrNoDrain; what is
// under way is answered, within Shutdown; the operators' listener last.
func (s *Servers) Run(ctx context.Context) error {
	if len(s.servers) > 0 && s.servers[0].listener == nil {
		if err := s.Listen(ctx); err != nil {
			return err
		}
	}
	failed := make(chan error, len(s.servers))
	var serving sync.WaitGroup
	for _, one := range s.servers {
		s.config.Log.Info().Str("listener", one.name).Stringer("address", one.listener.Addr()).Bool("tls", one.http.TLSConfig != nil).Msg("listening")
		serving.Go(func() {
			if err := one.serve(); err != nil {
				failed <- err
			}
		})
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	asked := err == nil && !errors.Is(context.Cause(ctx), ErrNoDrain)
	err = errors.Join(err, s.end(context.WithoutCancel(ctx), asked))
	serving.Wait()
	return err
}

func (o *server) serve() error {
	serve := o.http.Serve
	if o.http.TLSConfig != nil {
		serve = func(l net.Listener) error { return o.http.ServeTLS(l, "", "") }
	}
	if err := serve(o.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve, %s listener: %w", o.name, err)
	}
	return nil
}

// end stops everything in order. Only an end that was asked for waits for the load balancers.
func (s *Servers) end(ctx context.Context, asked bool) error {
	s.draining.Store(true)
	if s.config.Ops != nil {
		s.config.Ops.Drain()
	}
	delay := s.config.DrainDelay
	if !asked {
		delay = 0
	}
	s.config.Log.Info().Dur("delay", delay).Msg("draining")
	<-time.After(delay)
	ctx, cancel := context.WithTimeout(ctx, s.config.Shutdown)
	defer cancel()
	return errors.Join(s.shut(ctx, false), s.shut(ctx, true))
}

// shut ends the listeners side by side; what is still under way when the context ends is cut off.
func (s *Servers) shut(ctx context.Context, lasts bool) error {
	results := make([]error, len(s.servers))
	var ending sync.WaitGroup
	for i, one := range s.servers {
		if one.lasts != lasts {
			continue
		}
		ending.Go(func() {
			if err := one.http.Shutdown(ctx); err != nil {
				results[i] = errors.Join(fmt.Errorf("shut down, %s listener: requests were cut off: %w", one.name, err), one.http.Close())
			}
		})
	}
	ending.Wait()
	return errors.Join(results...)
}

// serverLog takes what net/http has to say. Failed handshakes are the internet's noise.
type serverLog struct{ log zerolog.Logger }

// Write implements io.Writer.
func (l serverLog) Write(line []byte) (int, error) {
	level := zerolog.WarnLevel
	if bytes.HasPrefix(line, []byte("http: TLS handshake error")) {
		level = zerolog.DebugLevel
	}
	l.log.WithLevel(level).Msg(string(bytes.TrimSpace(line)))
	return len(line), nil
}
