package handlers

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/rollcallhq/rollcall/queue"
)

// running is a set of servers that run, and how they ended.
type running struct {
	*Servers
	stop  context.CancelFunc
	end   context.CancelCauseFunc
	ended chan error
}

// run starts servers for the rig on free loopback ports.
func (r *rig) run(t testing.TB, changes ...func(*ServersConfig)) *running {
	t.Helper()
	config := ServersConfig{
		Public: "127.0.0.1:0", Receiver: r, PlainHTTP: true,
		OpsAddress: "127.0.0.1:0", Ops: NewOps(nil, r.registry), Log: zerolog.New(r.log),
	}
	for _, change := range changes {
		change(&config)
	}
	servers, err := NewServers(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := servers.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancelCause(context.WithoutCancel(t.Context()))
	stop := func() { end(nil) }
	run := &running{Servers: servers, stop: stop, end: end, ended: make(chan error, 1)}
	go func() { run.ended <- servers.Run(ctx); close(run.ended) }()
	t.Cleanup(func() {
		stop()
		for err := range run.ended {
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		}
	})
	return run
}

// post makes a signed delivery for a real server.
func (r *rig) post(t testing.TB, url string, body []byte) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/webhooks/workos", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if err := r.verifier.Sign(req.Header, body, r.key, "", r.now); err != nil {
		t.Fatal(err)
	}
	return req
}

func (r *running) url(name string) string { return "http://" + r.Addr(name).String() }

func newClient(t testing.TB, config *tls.Config) *http.Client {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func (r *rig) send(t testing.TB, client *http.Client, req *http.Request) *http.Response {
	t.Helper()
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	return res
}

func TestDeliveriesComeOverHTTP2AndACertificateIsReloaded(t *testing.T) {
	t.Parallel()
	rig := newRig(t)
	certificate, dir := loadTest(t, rig.log)
	run := rig.run(t, func(c *ServersConfig) { c.Certificate, c.PlainHTTP = certificate, false })
	url := "https://" + run.Addr("public").String()
	trusting := func() *http.Client {
		pemBytes, err := os.ReadFile(dir + "/cert.pem")
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(pemBytes)
		return newClient(t, &tls.Config{RootCAs: roots})
	}
	old := trusting()
	res := rig.send(t, old, rig.post(t, url, eventBody("event_1")))
	if res.StatusCode != 200 || res.ProtoMajor != 2 {
		t.Errorf("status %d over %s", res.StatusCode, res.Proto)
	}
	if _, _, err := WriteSelfSigned(dir, []string{"127.0.0.1"}); err != nil {
		t.Fatal(err)
	}
	if res := rig.send(t, trusting(), rig.post(t, url, eventBody("event_2"))); res.StatusCode != 200 {
		t.Errorf("with the new certificate: status %d", res.StatusCode)
	}
	if res := rig.send(t, old, rig.post(t, url, eventBody("event_3"))); res.StatusCode != 200 {
		t.Errorf("over a connection from before: status %d", res.StatusCode)
	}
	_, err := tls.Dial("tcp", run.Addr("public").String(), &tls.Config{MaxVersion: tls.VersionTLS11, InsecureSkipVerify: true})
	if err == nil {
		t.Error("TLS 1.1 is spoken")
	}
}

func TestBodiesAreLimitedWhateverTheyDeclare(t *testing.T) {
	t.Parallel()
	rig := newRig(t)
	run := rig.run(t)
	client := newClient(t, nil)

	endless := rig.post(t, run.url("public"), eventBody("event_1"))
	endless.Body, endless.ContentLength, endless.GetBody = io.NopCloser(io.LimitReader(zeros{}, DefaultBodyLimit+1)), -1, nil
	if res := rig.send(t, client, endless); res.StatusCode != 413 {
		t.Errorf("chunked, a byte over the limit: status %d", res.StatusCode)
	}

	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := io.Copy(z, io.LimitReader(zeros{}, 64<<20)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	bomb := rig.post(t, run.url("public"), packed.Bytes())
	bomb.Header.Set("Content-Encoding", "gzip")
	if res := rig.send(t, client, bomb); res.StatusCode != 415 {
		t.Errorf("gzip: status %d", res.StatusCode)
	}

	large := rig.post(t, run.url("public"), eventBody("event_1"))
	large.Header.Set("WorkOS-Signature", "t=1"+strings.Repeat(", v1=00", 10_000))
	if res := rig.send(t, client, large); res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("70 KB of headers: status %d", res.StatusCode)
	}
	if n := len(rig.enqueued.all()); n != 0 {
		t.Errorf("%d were queued", n)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestASlowSenderIsCutOff(t *testing.T) {
	t.Parallel()
	rig := newRig(t)
	run := rig.run(t, func(c *ServersConfig) {
		c.Timeouts = Timeouts{ReadHeader: 100 * time.Millisecond, Read: 200 * time.Millisecond, Body: time.Hour}
	})
	for name, c := range map[string]struct{ text, want string }{
		"headers that never end": {"POST /webhooks/workos HTTP/1.1\r\nHost: x\r\nX-Slow: ", ""},
		"a body that never comes": {
			"POST /webhooks/workos HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nWorkOS-Signature: " + wrongSignature + "\r\nContent-Length: 10\r\n\r\n{", "HTTP/1.1 503",
		},
	} {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", run.Addr("public").String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, c.text); err != nil {
			t.Fatal(err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(conn) // ends when the server closes
		if err != nil || !strings.HasPrefix(string(answer), c.want) || c.want == "" && strings.Contains(string(answer), "200") {
			t.Errorf("%s: %q, %v", name, answer, err)
		}
		_ = conn.Close()
	}
}

func TestDrainingLosesNoRequest(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}), make(chan struct{})
	rig := newRig(t)
	rig.enqueued.do = func(_ context.Context, d queue.Delivery) (queue.Result, error) {
		if d.ID == "event_slow" {
			entered <- struct{}{}
			<-leave
		}
		return queue.Accepted, nil
	}
	run := rig.run(t, func(c *ServersConfig) { c.DrainDelay = 500 * time.Millisecond })
	client := newClient(t, nil)
	slow := make(chan error, 1)
	req := rig.post(t, run.url("public"), eventBody("event_slow"))
	go func() {
		res, err := client.Do(req)
		if err == nil && res.StatusCode != 200 {
			err = fmt.Errorf("status %d", res.StatusCode)
		}
		if res != nil {
			err = errors.Join(err, res.Body.Close())
		}
		slow <- err
	}()
	<-entered
	ready := func() int {
		res := rig.send(t, client, must(http.NewRequestWithContext(t.Context(), http.MethodGet, run.url("ops")+"/readyz", nil)))
		return res.StatusCode
	}
	if status := ready(); status != 200 {
		t.Fatalf("/readyz before: %d", status)
	}

	run.stop()
	eventually(t, "unready", func() bool { return ready() == 503 })
	res := rig.send(t, client, rig.post(t, run.url("public"), eventBody("event_late")))
	if res.StatusCode != 200 || !res.Close {
		t.Errorf("a delivery while draining: status %d, connection closed: %v", res.StatusCode, res.Close)
	}
	eventually(t, "new connections are refused", func() bool {
		conn, err := net.Dial("tcp", run.Addr("public").String())
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	if status := ready(); status != 503 {
		t.Errorf("/readyz while a request is under way: %d", status)
	}
	close(leave)
	if err := <-slow; err != nil {
		t.Errorf("the request under way: %v", err)
	}
	if err := <-run.ended; err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestAnEndThatNobodyAskedForDoesNotWaitForLoadBalancers(t *testing.T) {
	t.Parallel()
	run := newRig(t).run(t, func(c *ServersConfig) { c.DrainDelay = time.Minute })
	run.end(fmt.Errorf("the worker: %w", ErrNoDrain))
	select {
	case err := <-run.ended:
		if err != nil {
			t.Errorf("Run: %v, want nil: its own end was an orderly one", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("after 20s Run still waits")
	}
}

func TestARequestThatNeverEndsIsCutOffAndTold(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}), make(chan struct{})
	rig := newRig(t)
	rig.enqueued.do = func(context.Context, queue.Delivery) (queue.Result, error) {
		entered <- struct{}{}
		<-leave
		return queue.Accepted, nil
	}
	servers, err := NewServers(ServersConfig{
		Public: "127.0.0.1:0", Receiver: rig, PlainHTTP: true, Shutdown: 50 * time.Millisecond, Log: zerolog.Nop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := servers.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- servers.Run(ctx) }()
	gone := make(chan error)
	req := rig.post(t, "http://"+servers.Addr("public").String(), eventBody("event_1"))
	client := newClient(t, nil)
	go func() {
		res, err := client.Do(req)
		if err == nil {
			err = errors.Join(fmt.Errorf("answered %d", res.StatusCode), res.Body.Close())
		}
		gone <- err
	}()
	<-entered
	stop()
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "public listener: requests were cut off") {
		t.Errorf("Run: %v", err)
	}
	if err := <-gone; err == nil || strings.Contains(err.Error(), "answered") {
		t.Errorf("the request: %v", err)
	}
	close(leave)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestAListenerThatFailsNamesItself(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	rig := newRig(t)
	servers, err := NewServers(ServersConfig{
		Public: "127.0.0.1:0", Receiver: rig, PlainHTTP: true, OpsAddress: taken.Addr().String(), Ops: NewOps(nil, rig.registry), Log: zerolog.Nop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	err = servers.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "ops listener") || !strings.Contains(err.Error(), "hint: another process has that port") {
		t.Errorf("Run: %v", err)
	}
}

func TestServersThatWouldBeUnsafeAreRefused(t *testing.T) {
	t.Parallel()
	nothing := http.NotFoundHandler()
	certificate, _ := loadTest(t, &logBuffer{})
	for name, c := range map[string]struct {
		config ServersConfig
		ok     bool
	}{
		"plain HTTP, not asked for":    {ServersConfig{Public: ":0", Receiver: nothing}, false},
		"plain HTTP, asked for":        {ServersConfig{Public: ":0", Receiver: nothing, PlainHTTP: true}, true},
		"TLS":                          {ServersConfig{Public: ":0", Receiver: nothing, Certificate: certificate}, true},
		"both":                         {ServersConfig{Public: ":0", Receiver: nothing, Certificate: certificate, PlainHTTP: true}, false},
		"admin on this machine":        {ServersConfig{AdminAddress: "127.0.0.1:0", Admin: nothing}, true},
		"admin on this machine, IPv6":  {ServersConfig{AdminAddress: "[::1]:0", Admin: nothing}, true},
		"admin everywhere":             {ServersConfig{AdminAddress: ":0", Admin: nothing}, false},
		"admin on a network":           {ServersConfig{AdminAddress: "10.0.0.1:0", Admin: nothing}, false},
		"operators' without a handler": {ServersConfig{OpsAddress: ":0"}, false},
	} {
		if _, err := NewServers(c.config); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSendersMeetNoOperatorsPaths(t *testing.T) {
	t.Parallel()
	rig := newRig(t)
	for _, path := range []string{"/metrics", "/readyz", "/livez", "/"} {
		if w := get(rig, path); w.Code != 404 {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}

func TestKeepAliveConnectionsAreUsedAgain(t *testing.T) {
	t.Parallel()
	rig := newRig(t)
	run := rig.run(t)
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", run.Addr("public").String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	reader := bufio.NewReader(conn)
	for i := range 3 {
		req := rig.post(t, run.url("public"), eventBody(fmt.Sprint("event_", i)))
		if err := req.Write(conn); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(reader, req)
		if err != nil || res.StatusCode != 200 || res.Close {
			t.Fatalf("delivery %d: %v, %v", i, res, err)
		}
		if body := readAll(t, res); body != "{}" {
			t.Errorf("body %q", body)
		}
	}
}
