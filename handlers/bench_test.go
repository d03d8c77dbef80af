package handlers

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/rollcallhq/rollcall/internal/testenv"
	"github.com/rollcallhq/rollcall/queue"
	"github.com/rollcallhq/rollcall/verify"
)

// loadEnv, when it is set, makes the test binary the benchmarks' load generator, so that their CPU time is the server's.
const loadEnv = "ROLLCALL_TEST_LOAD"

const (
	loadConnections = 32
	loadBody        = 1024
)

func TestMain(m *testing.M) {
	if os.Getenv(loadEnv) == "" {
		os.Exit(m.Run())
	}
	if err := generateLoad(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// BenchmarkReceive is the whole way of a delivery over loopback: echo, verification, ids, queue, metrics, log line.
func BenchmarkReceive(b *testing.B) {
	overQueues(b, func(b *testing.B, q Enqueuer) http.Handler {
		null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = null.Close() })
		return newRig(b, func(c *ReceiverConfig) {
			c.Queue, c.Now, c.Log, c.Registerer = q, time.Now, zerolog.New(null), prometheus.NewRegistry()
		})
	})
}

// BenchmarkBareHandler is the least that a receiver can be: net/http, HMAC, freshness, the id, the same queue.
func BenchmarkBareHandler(b *testing.B) {
	overQueues(b, func(_ *testing.B, q Enqueuer) http.Handler { return bareHandler(q) })
}

func overQueues(b *testing.B, handler func(*testing.B, Enqueuer) http.Handler) {
	b.Run("queue=none", func(b *testing.B) { load(b, handler(b, nowhere{})) })
	b.Run("queue=redis", func(b *testing.B) {
		server := testenv.Redis(b, "appendfsync everysec")
		q, err := queue.OpenRedis(queue.RedisConfig{Addrs: []string{server.Addr()}, Environment: "bench", Depth: 1 << 40})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = q.Close() })
		load(b, handler(b, q))
	})
}

type nowhere struct{}

func (nowhere) Enqueue(context.Context, queue.Delivery) (queue.Result, error) {
	return queue.Accepted, nil
}

func bareHandler(q Enqueuer) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /webhooks/workos", func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, DefaultBodyLimit))
		if err != nil {
			http.Error(w, "body", http.StatusBadRequest)
			return
		}
		stamp, signature, _ := strings.Cut(strings.TrimPrefix(req.Header.Get("WorkOS-Signature"), "t="), ", v1=")
		mac := hmac.New(sha256.New, []byte(testSecret))
		mac.Write([]byte(stamp + "."))
		mac.Write(body)
		claimed, _ := hex.DecodeString(signature)
		millis, _ := strconv.ParseInt(stamp, 10, 64)
		if !hmac.Equal(mac.Sum(nil), claimed) || time.Since(time.UnixMilli(millis)).Abs() > 3*time.Minute {
			http.Error(w, "signature", http.StatusUnauthorized)
			return
		}
		var event struct {
			ID        string `json:"id"`
			Event     string `json:"event"`
			Directory string `json:"directory_id"`
		}
		if err := json.Unmarshal(body, &event); err != nil {
			http.Error(w, "json", http.StatusBadRequest)
			return
		}
		if _, err := q.Enqueue(req.Context(), queue.Delivery{
			Source: "workos", ID: event.ID, Directory: event.Directory, Origin: queue.Hook, Received: time.Now(),
			KeyVersion: "7", SignedAt: time.UnixMilli(millis), Body: body,
		}); err != nil {
			http.Error(w, "queue", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, "{}")
	})
	return mux
}

// load runs b.N deliveries through the handler behind plain HTTP, sent by another process.
func load(b *testing.B, handler http.Handler) {
	servers, err := NewServers(ServersConfig{Public: "127.0.0.1:0", Receiver: handler, PlainHTTP: true, Log: zerolog.Nop()})
	if err != nil {
		b.Fatal(err)
	}
	if err := servers.Listen(b.Context()); err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- servers.Run(ctx) }()
	run := fmt.Sprintf("%d.%d", b.N, time.Now().UnixNano())
	generator := exec.CommandContext(ctx, os.Args[0], servers.Addr("public").String(), strconv.Itoa(b.N), run)
	generator.Env = append(os.Environ(), loadEnv+"=1")
	var out bytes.Buffer
	generator.Stdout, generator.Stderr = &out, os.Stderr
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuTime(b)
	err = generator.Run()
	cpu := cpuTime(b) - before
	b.StopTimer()
	if err != nil {
		b.Fatalf("load generator: %v", err)
	}
	b.ReportMetric(float64(cpu.Nanoseconds())/1e3/float64(b.N), "cpu-µs/op")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
	p99, err := strconv.ParseFloat(strings.TrimSpace(out.String()), 64)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(p99, "p99-ms")
	stop()
	if err := <-ended; err != nil {
		b.Error(err)
	}
}

// cpuTime is what this process, without its children, has used.
func cpuTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// generateLoad sends count signed deliveries, each with an id of its own, over 32 connections, and prints the 99th
// percentile of their times in milliseconds.
func generateLoad(address, count, run string) error {
	total, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	scheme, _ := verify.Preset("workos")
	v, err := verify.New(scheme)
	if err != nil {
		return err
	}
	key, err := v.NewKey("7", []byte(testSecret))
	if err != nil {
		return err
	}
	results := make([][]time.Duration, loadConnections)
	failures := make([]error, loadConnections)
	var sending sync.WaitGroup
	for i := range loadConnections {
		sending.Go(func() {
			share := total / loadConnections
			if i < total%loadConnections {
				share++
			}
			results[i], failures[i] = sendMany(address, fmt.Sprintf("%s.%d", run, i), share, v, key)
		})
	}
	sending.Wait()
	for _, err := range failures {
		if err != nil {
			return err
		}
	}
	all := slices.Concat(results...)
	slices.Sort(all)
	fmt.Println(float64(all[len(all)*99/100].Microseconds()) / 1e3)
	return nil
}

func sendMany(address, run string, count int, v *verify.Verifier, key *verify.Key) ([]time.Duration, error) {
	if count == 0 {
		return nil, nil
	}
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	reader, took := bufio.NewReader(conn), make([]time.Duration, 0, count)
	var request bytes.Buffer
	h := http.Header{}
	for i := range count {
		body := fmt.Appendf(nil, `{"id":"event_%s.%d","event":"dsync.user.created","directory_id":"directory_%d","pad":"`, run, i, i%64)
		body = append(append(body, bytes.Repeat([]byte("x"), loadBody-len(body)-2)...), `"}`...)
		if err := v.Sign(h, body, key, "", time.Now()); err != nil {
			return nil, err
		}
		request.Reset()
		fmt.Fprintf(&request, "POST /webhooks/workos HTTP/1.1\r\nHost: localhost\r\nUser-Agent: load\r\nContent-Type: application/json\r\n"+
			"WorkOS-Signature: %s\r\nContent-Length: %d\r\n\r\n", h.Get("WorkOS-Signature"), len(body))
		request.Write(body)
		begun := time.Now()
		if _, err := conn.Write(request.Bytes()); err != nil {
			return nil, err
		}
		if err := readSuccess(reader); err != nil {
			return nil, err
		}
		took = append(took, time.Since(begun))
	}
	return took, nil
}

// readSuccess reads an answer that says 200 and has a Content-Length.
func readSuccess(r *bufio.Reader) error {
	length := 0
	for first := true; ; first = false {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200")) {
			return fmt.Errorf("answer %q", line)
		}
		if len(line) == 2 {
			_, err = r.Discard(length)
			return err
		}
		if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return err
			}
		}
	}
}
