package app

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/rs/zerolog"

	"github.com/rollcallhq/rollcall/internal/config"
	"github.com/rollcallhq/rollcall/internal/testenv"
	"github.com/rollcallhq/rollcall/queue"
)

// withRedis is a process on a Redis.
func withRedis(t testing.TB, redis *testenv.RedisServer) config.Config {
	t.Helper()
	c := testConfig(t)
	c.Queue.Backend, c.Queue.Redis.Addrs = "redis", []string{redis.Addr()}
	return c
}

// set changes a setting of a running Redis.
func set(t testing.TB, redis *testenv.RedisServer, setting string) {
	t.Helper()
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(t.Context(), "tcp", redis.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := fmt.Fprintf(conn, "CONFIG SET %s\r\n", setting); err != nil {
		t.Fatal(err)
	}
	if answer, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.HasPrefix(answer, "+OK") {
		t.Fatalf("CONFIG SET %s: %q, %v", setting, answer, err)
	}
}

func TestAWeakQueueRefusesToStartUnlessEverySourceAcceptsIt(t *testing.T) {
	t.Parallel()
	for class, settings := range map[queue.Class][]string{
		queue.Everysec: {"appendfsync everysec"}, queue.Memory: {"appendonly no"},
	} {
		t.Run(string(class), func(t *testing.T) {
			t.Parallel()
			c := withRedis(t, testenv.Redis(t, settings...))
			accepting, refusing := c.Sources["workos"], c.Sources["workos"]
			accepting.AcceptLoss = true
			c.Sources = map[string]config.Source{"b": refusing, "a": accepting, "workos": refusing}
			wants(t, "one source accepts", refusal(t, c),
				"the queue is of class "+string(class)+": deliveries of b, workos that were answered 200 could be lost", "\nhint: set appendonly yes, appendfsync always")
			c.Sources = map[string]config.Source{"a": accepting, "workos": accepting}
			p := run(t, c).ready()
			until(t, "deliveries are accepted", func() bool { _, status := p.deliver("dsync.user.created"); return status == http.StatusOK })
			if _, text := p.get("/metrics"); !strings.Contains(text, `rollcall_queue_durability{class="`+string(class)+`"} 1`) {
				t.Error("the metric does not say the class")
			}
		})
	}
}

func TestNothingIsPromisedBeforeTheQueueIsKnown(t *testing.T) {
	t.Parallel()
	g := newGate(nil, testConfig(t), zerolog.Nop(), prometheus.NewRegistry())
	if _, err := g.Enqueue(t.Context(), queue.Delivery{ID: "a"}); !errors.Is(err, queue.ErrUnavailable) || !errors.Is(err, errNotYetKnown) {
		t.Errorf("Enqueue = %v, want ErrUnavailable", err)
	}
	if err := g.begun(t.Context()); !errors.Is(err, errNotYetKnown) {
		t.Errorf("begun() = %v, want the process unready: a load balancer sends nothing yet", err)
	}
}

func TestAQueueThatBecomesWeakerIsAnAlarmAndNothingElse(t *testing.T) {
	t.Parallel()
	redis := testenv.Redis(t)
	c := withRedis(t, redis)
	q, err := OpenQueue(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = q.Close() }()
	log := &logged{}
	g := newGate(q, c, zerolog.New(log), prometheus.NewRegistry())
	g.every = 10 * time.Millisecond
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- g.run(ctx) }()
	is := func(class queue.Class) func() bool {
		return func() bool { return testutil.ToFloat64(g.class.WithLabelValues(string(class))) == 1 }
	}
	until(t, "the queue is known", is(queue.Fsynced))
	for n, step := range []struct {
		setting string
		class   queue.Class
		log     string
	}{
		{"appendfsync everysec", queue.Everysec, `"level":"error","error":"the queue is of class everysec`},
		{"appendfsync always", queue.Fsynced, `"level":"info","durability":"fsynced"`},
		{"maxmemory-policy volatile-lru", queue.Fsynced, `"level":"warn","durability":"fsynced","detail":"maxmemory-policy`},
		{"appendonly no", queue.Memory, `"level":"error","error":"the queue is of class memory`},
	} {
		set(t, redis, step.setting)
		until(t, step.setting+" is noticed", is(step.class))
		until(t, step.setting+" is logged", func() bool { return strings.Contains(log.String(), step.log) })
		d := queue.Delivery{Source: "workos", ID: fmt.Sprint(n), Origin: queue.Hook, Received: time.Now(), Body: []byte("{}")}
		if _, err := g.Enqueue(t.Context(), d); err != nil {
			t.Errorf("after %s: Enqueue = %v, want it taken", step.setting, err)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("run = %v, want nil when the context ends", err)
	}
	if n := strings.Count(log.String(), "\n"); n != 5 {
		t.Errorf("the log has %d lines, want one for each change:\n%s", n, log)
	}
}

func TestAProcessStartsWhileVaultHasTheQueuesPasswordAndIsDown(t *testing.T) {
	t.Parallel()
	c := withRedis(t, testenv.Redis(t, "requirepass right"))
	c.Secrets.Vault.Address, c.Secrets.Vault.Auth.Method, c.Secrets.Vault.Auth.Token = "http://127.0.0.1:1", "token", write(t, "token", "t")
	c.Queue.Redis.Password = "vault:app/redis#password"
	if _, err := OpenQueue(t.Context(), c); err == nil || !strings.Contains(err.Error(), "queue.redis.password: ") {
		t.Errorf("OpenQueue = %v, want an error: a command cannot wait for Vault", err)
	}
	p := run(t, c).ready()
	if _, status := p.deliver("dsync.user.created"); status != http.StatusServiceUnavailable {
		t.Errorf("a delivery is answered %d, want 503", status)
	}
	wants(t, "the log", p.log.String(), "the queue's password cannot be read yet")
	if err := p.end(); err != nil {
		t.Errorf("Run = %v", err)
	}
}

func TestTheQueuesPasswordIsReadAgainInTheBackgroundAndNeverByWhoConnects(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "password")
	l := newLatest(testConfig(t), "queue.redis.password", config.Sensitive("file:"+file))
	if err := l.get(t.Context()); err == nil {
		t.Error("get() of a file that is not there = nil, want an error")
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.run(ctx, 10*time.Millisecond) }()
	for _, password := range []string{"first", "second"} {
		if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		until(t, "the password is "+password, func() bool { return l.value() == password })
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := l.get(t.Context()); err == nil || l.value() != "second" {
		t.Errorf("value() = %q after %v, want the last that could be read", l.value(), err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("run() = %v", err)
	}
}
