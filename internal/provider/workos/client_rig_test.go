package workos_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcallhq/rollcall/internal/provider"
	"github.com/rollcallhq/rollcall/internal/provider/workos"
)

const apiKey = "sk_test_c0ffee"

// sim is a server of the API in a bubble of its own time: a whole HTTP server whose connections are pipes.
type sim struct {
	*workos.Client
	t       *testing.T
	http    *http.Client // for other clients of the server
	key     string
	refused int

	mu    sync.Mutex // guards asked
	asked []asked
}

// asked is a request as it came.
type asked struct {
	at   time.Time
	line string // path?query
	*http.Request
}

// simulate runs the test in a bubble, with a client whose requests the handler answers.
func simulate(t *testing.T, handler http.HandlerFunc, test func(t *testing.T, s *sim)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &sim{t: t, key: apiKey}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.mu.Lock()
			s.asked = append(s.asked, asked{time.Now(), r.URL.RequestURI(), r})
			s.mu.Unlock()
			handler(w, r)
		})}
		l := &pipes{connections: make(chan net.Conn), closed: make(chan struct{})}
		var serving sync.WaitGroup
		serving.Go(func() { _ = server.Serve(l) })
		transport := &http.Transport{DialContext: l.dial}
		s.http = &http.Client{Transport: transport}
		s.Client = newClient(t, provider.APIConfig{
			URL: "http://127.0.0.1:1", Key: func() (string, error) { return s.key, nil }, Refused: func() { s.refused++ },
			Options: options, HTTP: s.http, UserAgent: "rollcall/v0",
		})
		test(t, s)
		transport.CloseIdleConnections()
		_ = server.Close()
		serving.Wait()
	})
}

func newClient(t testing.TB, c provider.APIConfig) *workos.Client {
	t.Helper()
	client, err := workos.NewClient(c)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func (s *sim) requests() []asked {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// pipes is a listener in memory.
type pipes struct {
	connections chan net.Conn
	closed      chan struct{}
	once        sync.Once
}

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p.connections <- far:
		return near, nil
	case <-p.closed:
	case <-ctx.Done():
	}
	_, _ = near.Close(), far.Close()
	return nil, errors.New("connection refused")
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.connections:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// inTurn answers one request after another, the last one ever after.
func inTurn(handlers ...http.HandlerFunc) http.HandlerFunc {
	var mu sync.Mutex
	return func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		next := handlers[0]
		if len(handlers) > 1 {
			handlers = handlers[1:]
		}
		mu.Unlock()
		next(w, r)
	}
}

// says answers with a status, a body, and headers as NAME: VALUE.
func says(status int, body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for _, h := range headers {
			name, value, _ := strings.Cut(h, ": ")
			w.Header().Set(name, value)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// file is a payload of testdata.
func file(t testing.TB, name string) string {
	t.Helper()
	body, err := os.ReadFile("testdata/api/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// list is a page of a listing; after is JSON.
func list(after string, items ...string) string {
	return fmt.Sprintf(`{"object":"list","data":[%s],"list_metadata":{"before":null,"after":%s}}`, strings.Join(items, ","), after)
}

// ofDirectory is a user or group as it is listed.
func ofDirectory(id string) string {
	return fmt.Sprintf(`{"id":%q,"directory_id":%q,"idp_id":%q,"state":"active","name":"N"}`, id, directoryID, "idp-"+id)
}

// event is one of the log.
func event(id, created string) string {
	return fmt.Sprintf(`{"id":%q,"event":"dsync.user.created","created_at":%q,"data":{%s}}`, id, created, person)
}

// everyUser lists a directory and returns the ids.
func (s *sim) everyUser() (ids []string, err error) {
	err = s.Users(s.t.Context(), directoryID, func(_ context.Context, p provider.ListedPage) error {
		for _, item := range p.Items {
			ids = append(ids, item.User.ID)
		}
		return nil
	})
	return ids, err
}
