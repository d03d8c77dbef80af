package queue

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

//go:embed lua/enqueue.lua
var enqueueLua string

//go:embed lua/ack.lua
var ackLua string

//go:embed lua/renew.lua
var renewLua string

//go:embed lua/release.lua
var releaseLua string

// Scripts are found by their SHA and sent again when the server has forgotten them.
var (
	enqueueScript = redis.NewScript(enqueueLua)
	ackScript     = redis.NewScript(ackLua)
	renewScript   = redis.NewScript(renewLua)
	releaseScript = redis.NewScript(releaseLua)
)

// The client would print to standard error on its own account; what it has to say comes back as errors.
func init() { redis.SetLogger(quiet{}) }

type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// RedisConfig says where a Redis is. Zero durations and depths take the defaults.
type RedisConfig struct {
	Addrs       []string // host:port; several are a Cluster's nodes, or Sentinels when MasterName is set
	MasterName  string   // of a Sentinel setup
	Username    string
	Password    func() string // asked at every connection, so that it may change; nil is none
	TLS         *tls.Config   // nil is plain
	Environment string        // first part of every key: two environments on one server never meet

	Depth  int64         // entries a partition, at most; 0 is 50,000, about 60 MB of 1 KB bodies
	Memory time.Duration // that ids are remembered; 0 is 24 h
	Lease  time.Duration // 0 is 10 s
}

// Redis is a queue in Redis 6.2 or newer, Valkey, a Cluster of it or behind Sentinel. All keys of a partition share a
// hash slot:
//
//	rc:{ENV:n}:s              the partition, a stream
//	rc:{ENV:n}:d:SOURCE:ID    an id seen
//	rc:{ENV:n}:l              the lease, a string that holds its holder's token
type Redis struct {
	config  RedisConfig
	client  redis.UniversalClient
	breaker breaker
}

// OpenRedis makes the client; it connects when it is first used.
func OpenRedis(c RedisConfig) (*Redis, error) {
	if len(c.Addrs) == 0 {
		return nil, errors.New("open redis: no address\nhint: set queue.redis.addrs to host:port")
	}
	if c.Depth == 0 {
		c.Depth = defaultDepth
	}
	if c.Memory == 0 {
		c.Memory = defaultMemory
	}
	if c.Lease == 0 {
		c.Lease = defaultLease
	}
	options := &redis.UniversalOptions{
		Addrs: c.Addrs, MasterName: c.MasterName, TLSConfig: c.TLS, Username: c.Username,
		DialTimeout: 500 * time.Millisecond, ReadTimeout: time.Second, WriteTimeout: time.Second, PoolTimeout: 700 * time.Millisecond,
		MaxRetries: 1, MinRetryBackoff: 8 * time.Millisecond, MaxRetryBackoff: 50 * time.Millisecond, DialerRetries: 1,
		ContextTimeoutEnabled: true, DisableIdentity: true, MinIdleConns: 2,
	}
	if c.Password != nil {
		options.CredentialsProvider = func() (string, string) { return c.Username, c.Password() }
	}
	return &Redis{config: c, client: redis.NewUniversalClient(options)}, nil
}

// Close ends the connections.
func (q *Redis) Close() error { return q.client.Close() }

func (q *Redis) key(partition int, suffix string) string {
	return "rc:{" + q.config.Environment + ":" + strconv.Itoa(partition) + "}:" + suffix
}

// Enqueue implements Queue.
func (q *Redis) Enqueue(ctx context.Context, d Delivery) (Result, error) {
	if err := q.breaker.allow(time.Now()); err != nil {
		return 0, fmt.Errorf("enqueue %s: %w: %w", d.ID, ErrUnavailable, err)
	}
	n := d.Partition()
	keys := []string{q.key(n, "d:"+d.Source+":"+d.ID), q.key(n, "s")}
	args := append([]any{q.config.Depth, int64(q.config.Memory.Seconds()), flag(d.Force)}, fields(d)...)
	result, err := enqueueScript.Run(ctx, q.client, keys, args...).Int()
	q.breaker.report(err, time.Now())
	switch {
	case err != nil:
		return 0, fmt.Errorf("enqueue %s: %w: %w", d.ID, ErrUnavailable, err)
	case result == -1:
		return 0, fmt.Errorf("enqueue %s: %w: partition %d holds %d entries", d.ID, ErrFull, n, q.config.Depth)
	case result == 0:
		return Duplicate, nil
	default:
		return Accepted, nil
	}
}

func fields(d Delivery) []any {
	return []any{
		"src", d.Source, "id", d.ID, "dir", d.Directory, "o", string(d.Origin), "r", d.Received.UnixMicro(),
		"k", d.KeyVersion, "t", unixMilli(d.SignedAt), "f", flag(d.Force), "b", d.Body,
	}
}

func flag(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

func unixMilli(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMilli(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// delivery is the inverse of fields. A field that is not there is empty.
func delivery(values map[string]any) Delivery {
	text := func(name string) string { s, _ := values[name].(string); return s }
	number := func(name string) int64 { n, _ := strconv.ParseInt(text(name), 10, 64); return n }
	return Delivery{
		Source: text("src"), ID: text("id"), Directory: text("dir"), Origin: Origin(text("o")),
		Received: time.UnixMicro(number("r")).UTC(), KeyVersion: text("k"), SignedAt: fromMilli(number("t")),
		Force: text("f") == "1", Body: []byte(text("b")),
	}
}

// Acquire implements Queue.
func (q *Redis) Acquire(ctx context.Context, partition int) (Lease, error) {
	l := &redisLease{q: q, partition: partition, token: rand.Text()}
	err := q.client.SetArgs(ctx, q.key(partition, "l"), l.token, redis.SetArgs{Mode: "NX", TTL: q.config.Lease}).Err()
	switch {
	case errors.Is(err, redis.Nil):
		return nil, ErrHeld
	case err != nil:
		return nil, fmt.Errorf("lease partition %d: %w: %w", partition, ErrUnavailable, err)
	default:
		return l, nil
	}
}

type redisLease struct {
	q         *Redis
	partition int
	token     string
}

func (l *redisLease) Partition() int { return l.partition }

// Read asks again every few milliseconds rather than block: a blocked connection does not end with its context.
func (l *redisLease) Read(ctx context.Context, max int, wait time.Duration) ([]Entry, error) {
	deadline := time.Now().Add(min(wait, longestReadWait))
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		found, err := l.head(ctx, max)
		if err != nil {
			return nil, fmt.Errorf("read partition %d: %w: %w", l.partition, ErrUnavailable, err)
		}
		if len(found) > 0 || time.Now().Add(pause).After(deadline) {
			return found, nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		case <-timer.C:
		}
	}
}

// The steps of a read, in entries. A reply holds a step, whatever its bodies weigh, so steps do not grow for ever.
const (
	firstStep   = 16
	longestStep = 32
)

// head reads the head of the partition in steps, until there are max entries or as many bytes as a read may have.
func (l *redisLease) head(ctx context.Context, max int) (out []Entry, err error) {
	start, bytes := "-", 0
	for step := firstStep; len(out) < max; step = longestStep {
		step = min(step, max-len(out))
		messages, err := l.q.client.XRangeN(ctx, l.q.key(l.partition, "s"), start, "+", int64(step)).Result()
		if err != nil {
			return nil, err
		}
		for _, e := range entries(messages) {
			out = append(out, e)
			if bytes += len(e.Body); bytes > readBytes {
				return out, nil
			}
		}
		if len(messages) < step {
			return out, nil
		}
		start = "(" + messages[len(messages)-1].ID
	}
	return out, nil
}

func entries(messages []redis.XMessage) []Entry {
	out := make([]Entry, len(messages))
	for i, m := range messages {
		out[i] = Entry{Ref: Ref(m.ID), Delivery: delivery(m.Values)}
	}
	return out
}

// ackAtOnce bounds the arguments that a script unpacks; more are acknowledged in several calls.
const ackAtOnce = 500

func (l *redisLease) Ack(ctx context.Context, refs ...Ref) error {
	for len(refs) > 0 {
		n := min(len(refs), ackAtOnce)
		args := []any{l.token, l.q.config.Lease.Milliseconds()}
		for _, ref := range refs[:n] {
			args = append(args, string(ref))
		}
		if err := l.run(ctx, ackScript, []string{l.q.key(l.partition, "l"), l.q.key(l.partition, "s")}, args...); err != nil {
			return fmt.Errorf("ack %d entries of partition %d: %w", n, l.partition, err)
		}
		refs = refs[n:]
	}
	return nil
}

func (l *redisLease) Renew(ctx context.Context) error {
	if err := l.run(ctx, renewScript, []string{l.q.key(l.partition, "l")}, l.token, l.q.config.Lease.Milliseconds()); err != nil {
		return fmt.Errorf("renew the lease of partition %d: %w", l.partition, err)
	}
	return nil
}

func (l *redisLease) Release(ctx context.Context) error {
	if err := l.run(ctx, releaseScript, []string{l.q.key(l.partition, "l")}, l.token); err != nil {
		return fmt.Errorf("release partition %d: %w", l.partition, err)
	}
	return nil
}

// run runs a script that answers -1 when the token is not the lease's.
func (l *redisLease) run(ctx context.Context, script *redis.Script, keys []string, args ...any) error {
	n, err := script.Run(ctx, l.q.client, keys, args...).Int()
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	case n < 0:
		return ErrLeaseLost
	default:
		return nil
	}
}

// Stats implements Queue.
func (q *Redis) Stats(ctx context.Context) (Stats, error) {
	var s Stats
	for n := range Partitions {
		depth, err := q.client.XLen(ctx, q.key(n, "s")).Result()
		if err != nil {
			return Stats{}, fmt.Errorf("count partition %d: %w: %w", n, ErrUnavailable, err)
		}
		p := PartitionStats{Depth: depth}
		head, err := q.client.XRangeN(ctx, q.key(n, "s"), "-", "+", 1).Result()
		if err != nil {
			return Stats{}, fmt.Errorf("read partition %d: %w: %w", n, ErrUnavailable, err)
		}
		if len(head) > 0 {
			p.Oldest = delivery(head[0].Values).Received
		}
		leased, err := q.client.Exists(ctx, q.key(n, "l")).Result()
		if err != nil {
			return Stats{}, fmt.Errorf("look at the lease of partition %d: %w: %w", n, ErrUnavailable, err)
		}
		p.Leased = leased == 1
		s.Partitions = append(s.Partitions, p)
	}
	return s, nil
}

// Forget implements Queue. It goes through each node's keys once, in pages.
func (q *Redis) Forget(ctx context.Context) (int64, error) {
	var forgotten atomic.Int64
	pattern := "rc:{" + globEscape.Replace(q.config.Environment) + ":[0-9]}:d:*"
	err := q.eachMaster(ctx, func(ctx context.Context, node redis.UniversalClient) error {
		for cursor := uint64(0); ; {
			keys, next, err := node.Scan(ctx, cursor, pattern, scanAtOnce).Result()
			if err != nil {
				return err
			}
			n, err := q.unlink(ctx, keys)
			forgotten.Add(n)
			if err != nil || next == 0 {
				return err
			}
			cursor = next
		}
	})
	if err != nil {
		return forgotten.Load(), fmt.Errorf("forget the ids seen: %w: %w", ErrUnavailable, err)
	}
	return forgotten.Load(), nil
}

const scanAtOnce = 1000

// globEscape keeps an environment's name from being a pattern.
var globEscape = strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`, "]", `\]`)

// unlink removes marks, those of a partition at once: a command's keys must be of one slot. It returns how many there were.
func (q *Redis) unlink(ctx context.Context, keys []string) (total int64, err error) {
	var marks [Partitions][]string
	for _, key := range keys {
		for n := range marks {
			if strings.HasPrefix(key, q.key(n, "d:")) {
				marks[n] = append(marks[n], key)
			}
		}
	}
	for _, some := range marks {
		if len(some) == 0 {
			continue
		}
		n, err := q.client.Unlink(ctx, some...).Result()
		total += n
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// eachMaster calls do for every node that writes: on a Cluster for each of the masters, several at once; else for the one.
func (q *Redis) eachMaster(ctx context.Context, do func(ctx context.Context, node redis.UniversalClient) error) error {
	cluster, ok := q.client.(*redis.ClusterClient)
	if !ok {
		return do(ctx, q.client)
	}
	return cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error { return do(ctx, node) })
}

// breaker spares senders the time-outs of a Redis that is down: after a few failures in a row it refuses without
// asking, for a second. mu guards all.
type breaker struct {
	mu       sync.Mutex
	failures int
	until    time.Time
}

const (
	breakAfter = 5
	breakFor   = time.Second
)

var errBroken = errors.New("it failed just now and is not asked again for a second")

func (b *breaker) allow(now time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now.Before(b.until) {
		return errBroken
	}
	return nil
}

// report counts failures of the server; a sender that went away says nothing about it.
func (b *breaker) report(err error, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case err == nil:
		b.failures = 0
	case errors.Is(err, context.Canceled):
	default:
		if b.failures++; b.failures >= breakAfter {
			b.until = now.Add(breakFor)
		}
	}
}
