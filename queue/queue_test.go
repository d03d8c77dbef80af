package queue_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rollcallhq/rollcall/internal/testenv"
	"github.com/rollcallhq/rollcall/queue"
	"github.com/rollcallhq/rollcall/queue/queuetest"
)

func openRedis(t testing.TB, server *testenv.RedisServer, c queue.RedisConfig) *queue.Redis {
	t.Helper()
	c.Addrs = []string{server.Addr()}
	if c.Environment == "" {
		c.Environment = "test"
	}
	q, err := queue.OpenRedis(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() })
	return q
}

func openEmbedded(t testing.TB, c queue.EmbeddedConfig) *queue.Embedded {
	t.Helper()
	q, err := queue.OpenEmbedded(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() })
	return q
}

func TestRedisKeepsTheContract(t *testing.T) {
	t.Parallel()
	server, fragile := testenv.Redis(t), testenv.Redis(t) // one is restarted under the other tests' feet
	var n atomic.Int64
	config := func(s queuetest.Settings) queue.RedisConfig {
		return queue.RedisConfig{Environment: fmt.Sprint("env", n.Add(1)), Depth: s.Depth, Memory: s.Memory, Lease: s.Lease}
	}
	queuetest.Run(t, queuetest.Backend{
		Open: func(t *testing.T, s queuetest.Settings) queue.Queue {
			if strings.Contains(t.Name(), "restart") {
				return openRedis(t, fragile, queue.RedisConfig{Environment: "restart", Lease: s.Lease})
			}
			return openRedis(t, server, config(s))
		},
		Restart: func(t *testing.T, _ queue.Queue) queue.Queue {
			fragile.Kill()
			fragile.Start()
			return openRedis(t, fragile, queue.RedisConfig{Environment: "restart"})
		},
	})
}

func TestEmbeddedKeepsTheContract(t *testing.T) {
	t.Parallel()
	var paths sync.Map
	queuetest.Run(t, queuetest.Backend{
		Open: func(t *testing.T, s queuetest.Settings) queue.Queue {
			path := filepath.Join(t.TempDir(), "queue #1?.db") // a path is not a URL
			q := openEmbedded(t, queue.EmbeddedConfig{Path: path, Environment: "test", Depth: s.Depth, Memory: s.Memory, Lease: s.Lease})
			paths.Store(queue.Queue(q), path)
			return q
		},
		Restart: func(t *testing.T, q queue.Queue) queue.Queue {
			if err := q.Close(); err != nil {
				t.Fatal(err)
			}
			path, _ := paths.Load(q)
			return openEmbedded(t, queue.EmbeddedConfig{Path: path.(string), Environment: "test"})
		},
	})
}

func delivery(n int) queue.Delivery {
	return queue.Delivery{Source: "workos", ID: fmt.Sprint("event_", n), Directory: "directory_1", Origin: queue.Hook, Received: time.Now(), Body: []byte("{}")}
}

func client(t *testing.T, server *testenv.RedisServer) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: server.Addr()})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// noMarkWithoutEntry is the invariant of the script: a mark without an entry would be a lost delivery.
func noMarkWithoutEntry(t *testing.T, c *redis.Client) {
	t.Helper()
	marks, err := c.Keys(t.Context(), "*:d:*").Result()
	if err != nil {
		t.Fatal(err)
	}
	entries := map[string]bool{}
	streams, err := c.Keys(t.Context(), "*:s").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range streams {
		messages, err := c.XRange(t.Context(), s, "-", "+").Result()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range messages {
			entries[fmt.Sprint(m.Values["id"])] = true
		}
	}
	for _, mark := range marks {
		if id := mark[strings.LastIndex(mark, ":")+1:]; !entries[id] {
			t.Errorf("%s is marked as seen and is not in the queue", id)
		}
	}
}

func TestRedisOutOfMemoryRefusesAndMarksNothing(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	q, c := openRedis(t, server, queue.RedisConfig{}), client(t, server)
	// The limit is drawn tighter step by step, so that some step hits it before, between and after the script's writes.
	for n := range 200 {
		used, err := c.Info(t.Context(), "memory").Result()
		if err != nil {
			t.Fatal(err)
		}
		var bytes int64
		for line := range strings.Lines(used) {
			if v, ok := strings.CutPrefix(strings.TrimSpace(line), "used_memory:"); ok {
				_, _ = fmt.Sscan(v, &bytes)
			}
		}
		if err := c.ConfigSet(t.Context(), "maxmemory", fmt.Sprint(bytes+int64(200*(100-n)))).Err(); err != nil {
			t.Fatal(err)
		}
		d := delivery(n)
		d.Body = []byte(strings.Repeat("x", 1000))
		result, err := q.Enqueue(t.Context(), d)
		if err == nil && result != queue.Accepted || err != nil && !errors.Is(err, queue.ErrUnavailable) {
			t.Fatalf("Enqueue(%d) = %v, %v, want accepted or unavailable", n, result, err)
		}
		if err := c.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
			t.Fatal(err)
		}
		if n == 199 && err == nil {
			t.Fatal("the limit was never hit: the test shows nothing")
		}
	}
	noMarkWithoutEntry(t, c)
}

func TestAnEntryThatCannotBeAddedIsNotMarked(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(ctx context.Context, c *redis.Client, stream string) error{
		"a string stands where the stream should": func(ctx context.Context, c *redis.Client, stream string) error {
			return c.Set(ctx, stream, "x", 0).Err()
		},
		"the stream has no id left": func(ctx context.Context, c *redis.Client, stream string) error { // its length can be told: only XADD fails
			return c.XAdd(ctx, &redis.XAddArgs{Stream: stream, ID: "18446744073709551615-18446744073709551615", Values: []string{"id", "last"}}).Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testenv.Redis(t)
			q, c, d := openRedis(t, server, queue.RedisConfig{}), client(t, server), delivery(1)
			stream := fmt.Sprintf("rc:{test:%d}:s", d.Partition())
			if err := spoil(t.Context(), c, stream); err != nil {
				t.Fatal(err)
			}
			if got, err := q.Enqueue(t.Context(), d); !errors.Is(err, queue.ErrUnavailable) {
				t.Errorf("Enqueue() = %v, %v, want ErrUnavailable", got, err)
			}
			if marks, err := c.Keys(t.Context(), "*:d:*").Result(); err != nil || len(marks) > 0 {
				t.Errorf("marked as seen: %q, %v, want nothing", marks, err)
			}
			if err := c.Del(t.Context(), stream).Err(); err != nil {
				t.Fatal(err)
			}
			if got, err := q.Enqueue(t.Context(), d); err != nil || got != queue.Accepted {
				t.Errorf("Enqueue() when the stream is well = %v, %v, want accepted", got, err)
			}
		})
	}
}

func TestRedisThatForgotItsScriptsOrEverythingGoesOn(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	q, c := openRedis(t, server, queue.RedisConfig{}), client(t, server)
	for n, forget := range []func() error{
		func() error { return nil },
		func() error { return c.ScriptFlush(t.Context()).Err() },
		func() error { return c.FlushAll(t.Context()).Err() },
	} {
		if err := forget(); err != nil {
			t.Fatal(err)
		}
		if got, err := q.Enqueue(t.Context(), delivery(n)); err != nil || got != queue.Accepted {
			t.Errorf("Enqueue() = %v, %v, want accepted", got, err)
		}
		noMarkWithoutEntry(t, c)
	}
}

func TestRedisReplicaThatMayNotWriteIsUnavailable(t *testing.T) {
	t.Parallel()
	primary, replica := testenv.Redis(t), testenv.Redis(t)
	host, port, _ := strings.Cut(primary.Addr(), ":")
	if err := client(t, replica).ReplicaOf(t.Context(), host, port).Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := openRedis(t, replica, queue.RedisConfig{}).Enqueue(t.Context(), delivery(1)); !errors.Is(err, queue.ErrUnavailable) {
		t.Errorf("Enqueue() to a replica = %v, want ErrUnavailable", err)
	}
}

func TestRedisDownOrHungIsUnavailableWithinASecondAndComesBack(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	q := openRedis(t, server, queue.RedisConfig{})
	attempt := func(n int) error {
		ctx, cancel := context.WithTimeout(t.Context(), 800*time.Millisecond) // as the edge does
		defer cancel()
		began := time.Now()
		_, err := q.Enqueue(ctx, delivery(n))
		if took := time.Since(began); took > time.Second {
			t.Errorf("Enqueue() took %s, want less than a second", took)
		}
		return err
	}
	comesBack := func(n int) {
		t.Helper()
		for began := time.Now(); attempt(n) != nil; {
			if time.Since(began) > 20*time.Second {
				t.Fatal("the queue did not come back")
			}
		}
	}
	comesBack(1)
	for what, step := range map[string]struct{ fail, mend func() }{
		"stopped": {server.Stop, server.Start},
		"hung":    {server.Pause, server.Resume},
	} {
		step.fail()
		for n := range 12 {
			if err := attempt(100 + n); !errors.Is(err, queue.ErrUnavailable) {
				t.Errorf("%s: Enqueue() = %v, want ErrUnavailable", what, err)
			}
		}
		step.mend()
		comesBack(2)
	}
}

func TestRedisThatKeepsFailingIsNotAskedForASecond(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	q := openRedis(t, server, queue.RedisConfig{})
	if _, err := q.Enqueue(t.Context(), delivery(0)); err != nil {
		t.Fatal(err)
	}
	server.Pause()
	attempt := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		_, err := q.Enqueue(ctx, delivery(1))
		return err
	}
	for n := range 5 {
		if err := attempt(); !errors.Is(err, queue.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("attempt %d at a hung Redis = %v, want its time-out", n+1, err)
		}
	}
	server.Resume()
	if err := attempt(); !errors.Is(err, queue.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("attempt 6 = %v, want a refusal at once, though Redis is back", err)
	}
	for began := time.Now(); attempt() != nil; {
		if time.Since(began) > 20*time.Second {
			t.Fatal("it is never asked again")
		}
	}
}

func TestEmbeddedQueueThatIsPartlyFullTakesWhatItCan(t *testing.T) {
	t.Parallel()
	q := openEmbedded(t, queue.EmbeddedConfig{Path: filepath.Join(t.TempDir(), "queue.db"), Depth: 10})
	var full, accepted atomic.Int64
	var wg sync.WaitGroup
	for n := range 200 { // they share transactions: those that find no room must cost the others nothing
		wg.Go(func() {
			d := delivery(n)
			if n%20 > 0 {
				d.Directory = "directory_2" // of another partition
			}
			switch _, err := q.Enqueue(t.Context(), d); {
			case err == nil:
				accepted.Add(1)
			case errors.Is(err, queue.ErrFull):
				full.Add(1)
			default:
				t.Errorf("Enqueue(%d) = %v, want nil or ErrFull", n, err)
			}
		})
	}
	wg.Wait()
	s, err := q.Stats(t.Context())
	if err != nil || s.Depth() != 20 || accepted.Load() != 20 || full.Load() != 180 {
		t.Errorf("%d accepted, %d refused, %d queued, %v; want 20 (10 of each partition), 180 and 20", accepted.Load(), full.Load(), s.Depth(), err)
	}
}

func TestDurabilityIsFoundOut(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		config []string
		want   queue.Class
		detail string
	}{
		"always":             {nil, queue.Fsynced, ""},
		"everysec":           {[]string{"appendfsync everysec"}, queue.Everysec, ""},
		"no fsync":           {[]string{"appendfsync no"}, queue.Memory, ""},
		"no file":            {[]string{"appendonly no"}, queue.Memory, ""},
		"evicting":           {[]string{"maxmemory-policy allkeys-lru"}, queue.Memory, "deliveries away; set it to noeviction"},
		"evicting marks":     {[]string{"maxmemory-policy volatile-ttl"}, queue.Fsynced, "no deliveries; set it to noeviction"},
		"everysec, marks":    {[]string{"appendfsync everysec", "maxmemory-policy volatile-lru"}, queue.Everysec, "noeviction"},
		"no CONFIG":          {[]string{"rename-command CONFIG hidden"}, queue.Unknown, "+config|get"},
		"no CONFIG, no file": {[]string{"rename-command CONFIG hidden", "appendonly no"}, queue.Memory, "appendonly"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := openRedis(t, testenv.Redis(t, c.config...), queue.RedisConfig{}).Durability(t.Context())
			if err != nil || got.Class != c.want || !strings.Contains(got.Detail, c.detail) || c.detail == "" && got.Detail != "" {
				t.Errorf("Durability() = %+v, %v, want %s and %q", got, err, c.want, c.detail)
			}
		})
	}
}

func TestAFailoverThatMayLoseIsTold(t *testing.T) {
	t.Parallel()
	primary, replica := testenv.Redis(t), testenv.Redis(t)
	host, port, _ := strings.Cut(primary.Addr(), ":")
	if err := client(t, replica).ReplicaOf(t.Context(), host, port).Err(); err != nil {
		t.Fatal(err)
	}
	q := openRedis(t, primary, queue.RedisConfig{})
	const warning = "min-replicas-to-write is 0"
	until(t, func() error {
		got, err := q.Durability(t.Context())
		if err == nil && (got.Class != queue.Fsynced || !strings.Contains(got.Detail, warning)) {
			err = fmt.Errorf("Durability() = %+v, want fsynced and %q", got, warning)
		}
		return err
	})
	if err := client(t, primary).ConfigSet(t.Context(), "min-replicas-to-write", "1").Err(); err != nil {
		t.Fatal(err)
	}
	if got, err := q.Durability(t.Context()); err != nil || got != (queue.Durability{Class: queue.Fsynced}) {
		t.Errorf("Durability() with a replica that must write = %+v, %v, want fsynced and no detail", got, err)
	}
}

func TestAQuestionWithoutAnAnswerIsNotUnknownDurability(t *testing.T) {
	t.Parallel()
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	go func() {
		for {
			conn, err := server.Accept()
			if err != nil {
				return
			}
			go answerPings(conn)
		}
	}()
	q, err := queue.OpenRedis(queue.RedisConfig{Addrs: []string{server.Addr().String()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if got, err := q.Durability(ctx); !errors.Is(err, queue.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Durability() of a Redis that hangs at CONFIG = %+v, %v, want ErrUnavailable by a time-out", got, err)
	}
}

// answerPings is a Redis that knows nothing of connections' settings, answers pings, and hangs at all else.
func answerPings(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		switch strings.ToLower(lines.Text()) {
		case "hello", "client":
			_, _ = fmt.Fprint(conn, "-ERR unknown command\r\n")
		case "ping":
			_, _ = fmt.Fprint(conn, "+PONG\r\n")
		}
	}
}

// until waits for something to become true.
func until(t *testing.T, is func() error) {
	t.Helper()
	for began := time.Now(); ; {
		err := is()
		if err == nil {
			return
		}
		if time.Since(began) > 20*time.Second {
			t.Fatal(err)
		}
	}
}

// cluster starts two masters that share the slots.
func cluster(t *testing.T) [2]*testenv.RedisServer {
	t.Helper()
	var nodes [2]*testenv.RedisServer
	var buses [2]string
	for i := range nodes {
		bus, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_, buses[i], _ = net.SplitHostPort(bus.Addr().String())
		_ = bus.Close()
		nodes[i] = testenv.Redis(t, "cluster-enabled yes", "cluster-port "+buses[i])
		if err := client(t, nodes[i]).ClusterAddSlotsRange(t.Context(), 8192*i, 8192*i+8191).Err(); err != nil {
			t.Fatal(err)
		}
	}
	host, port, _ := strings.Cut(nodes[1].Addr(), ":")
	if err := client(t, nodes[0]).Do(t.Context(), "CLUSTER", "MEET", host, port, buses[1]).Err(); err != nil {
		t.Fatal(err)
	}
	for _, node := range nodes {
		until(t, func() error {
			info, err := client(t, node).ClusterInfo(t.Context()).Result()
			if err == nil && (!strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_size:2")) {
				err = errors.New(info)
			}
			return err
		})
	}
	return nodes
}

func openCluster(t *testing.T, nodes [2]*testenv.RedisServer) *queue.Redis {
	t.Helper()
	q, err := queue.OpenRedis(queue.RedisConfig{Addrs: []string{nodes[0].Addr(), nodes[1].Addr()}, Environment: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() })
	return q
}

func TestOfAClusterTheWeakestMasterCounts(t *testing.T) {
	t.Parallel()
	nodes := cluster(t)
	q := openCluster(t, nodes)
	for n, step := range []struct {
		node           int
		setting, value string
		want           queue.Class
		detail         []string // "" is none
	}{
		{0, "appendfsync", "always", queue.Fsynced, nil},
		{0, "appendfsync", "everysec", queue.Everysec, []string{"weaker than the other masters: " + nodes[0].Addr()}},
		{1, "maxmemory-policy", "allkeys-lru", queue.Memory, []string{"weaker than the other masters: " + nodes[1].Addr(), "noeviction"}},
		{1, "maxmemory-policy", "noeviction", queue.Everysec, []string{nodes[0].Addr()}},
		{1, "appendfsync", "everysec", queue.Everysec, nil},
	} {
		if err := client(t, nodes[step.node]).ConfigSet(t.Context(), step.setting, step.value).Err(); err != nil {
			t.Fatal(err)
		}
		got, err := q.Durability(t.Context())
		if err != nil || got.Class != step.want || step.detail == nil && got.Detail != "" {
			t.Errorf("step %d: Durability() = %+v, %v, want %s and %q", n, got, err, step.want, step.detail)
		}
		for _, detail := range step.detail {
			if !strings.Contains(got.Detail, detail) {
				t.Errorf("step %d: Detail = %q, want %q", n, got.Detail, detail)
			}
		}
	}
	nodes[1].Kill()
	if got, err := q.Durability(t.Context()); !errors.Is(err, queue.ErrUnavailable) {
		t.Errorf("Durability() without one master = %+v, %v, want ErrUnavailable", got, err)
	}
}

func TestAClusterForgetsOnAllItsMasters(t *testing.T) {
	t.Parallel()
	nodes := cluster(t)
	q := openCluster(t, nodes)
	fill := func(want queue.Result) {
		t.Helper()
		for n := range 60 {
			d := delivery(n)
			d.Directory = fmt.Sprint("directory_", n)
			if got, err := q.Enqueue(t.Context(), d); err != nil || got != want {
				t.Fatalf("Enqueue(%d) = %v, %v, want %v", n, got, err, want)
			}
		}
	}
	fill(queue.Accepted)
	fill(queue.Duplicate)
	for i, node := range nodes {
		if marks, err := client(t, node).Keys(t.Context(), "*:d:*").Result(); err != nil || len(marks) == 0 {
			t.Fatalf("node %d has %d marks, %v: the test shows nothing", i, len(marks), err)
		}
	}
	if n, err := q.Forget(t.Context()); err != nil || n != 60 {
		t.Fatalf("Forget() = %d, %v, want 60", n, err)
	}
	fill(queue.Accepted)
	if s, err := q.Stats(t.Context()); err != nil || s.Depth() != 120 {
		t.Errorf("%d entries wait, %v, want what was there twice: 120", s.Depth(), err)
	}
}

func TestForgettingLeavesOtherEnvironmentsAndOtherKeysAlone(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	other, c := openRedis(t, server, queue.RedisConfig{Environment: "star and b"}), client(t, server)
	if _, err := other.Enqueue(t.Context(), delivery(1)); err != nil {
		t.Fatal(err)
	}
	if err := c.Set(t.Context(), "somebody:d:else", "1", 0).Err(); err != nil {
		t.Fatal(err)
	}
	q := openRedis(t, server, queue.RedisConfig{Environment: "*[b]"}) // matches the other, were it a pattern
	const many = 2500                                                 // more than a page of SCAN
	for n := range many {
		if _, err := q.Enqueue(t.Context(), delivery(n)); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := q.Forget(t.Context()); err != nil || n != many {
		t.Errorf("Forget() = %d, %v, want %d", n, err, many)
	}
	if got, err := other.Enqueue(t.Context(), delivery(1)); err != nil || got != queue.Duplicate {
		t.Errorf("Enqueue() to another environment = %v, %v, want a duplicate still", got, err)
	}
	if n, err := c.Exists(t.Context(), "somebody:d:else").Result(); err != nil || n != 1 {
		t.Errorf("somebody else's key: %d, %v, want it to be there", n, err)
	}
}

func TestEmbeddedQueueIsOneProcessAndOneEnvironments(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "queue.db")
	first := openEmbedded(t, queue.EmbeddedConfig{Path: path, Environment: "production"})
	if _, err := queue.OpenEmbedded(queue.EmbeddedConfig{Path: path, Environment: "production"}); err == nil || !strings.Contains(err.Error(), "hint:") {
		t.Errorf("a second OpenEmbedded() = %v, want a refusal with a hint", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := queue.OpenEmbedded(queue.EmbeddedConfig{Path: path, Environment: "staging"}); err == nil || !strings.Contains(err.Error(), `"production"`) {
		t.Errorf("OpenEmbedded() of another environment = %v, want a refusal that names it", err)
	}
	if _, err := first.Enqueue(t.Context(), delivery(1)); !errors.Is(err, queue.ErrUnavailable) {
		t.Errorf("Enqueue() after Close() = %v, want ErrUnavailable", err)
	}
}

func TestPartitionsNeverChange(t *testing.T) {
	t.Parallel()
	// Deliveries that wait in a queue are found by the next binary only where this one put them.
	for directory, want := range map[string]int{"": 6, "directory_1": 5, "directory_2": 4, "directory_01ECAZ4NV9QMV47GW873HDCX74": 6} {
		if got := (queue.Delivery{Source: "workos", Directory: directory}).Partition(); got != want {
			t.Errorf("Partition(%q) = %d, want %d", directory, got, want)
		}
	}
}

func benchmarkEnqueue(b *testing.B, q queue.Queue) {
	var n atomic.Int64
	body := []byte(strings.Repeat("x", 1024))
	b.SetParallelism(16) // of two processors: 32 senders
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			d := delivery(int(n.Add(1)))
			d.Directory, d.Body = fmt.Sprint("directory_", n.Load()%20), body
			if _, err := q.Enqueue(context.Background(), d); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "deliveries/s")
}

func BenchmarkEnqueueRedis(b *testing.B) {
	for _, fsync := range []string{"always", "everysec"} {
		b.Run(fsync, func(b *testing.B) {
			benchmarkEnqueue(b, openRedis(b, testenv.Redis(b, "appendfsync "+fsync), queue.RedisConfig{Depth: 1 << 40}))
		})
	}
}

func BenchmarkEnqueueEmbedded(b *testing.B) {
	benchmarkEnqueue(b, openEmbedded(b, queue.EmbeddedConfig{Path: filepath.Join(b.TempDir(), "queue.db"), Depth: 1 << 40}))
}
