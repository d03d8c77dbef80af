package queue

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// EmbeddedConfig says where the file is. Zero durations and depths take the defaults.
type EmbeddedConfig struct {
	Path        string // of the file; its folder must be there
	Environment string // named in the file; another one there is refused
	Depth       int64
	Memory      time.Duration
	Lease       time.Duration
}

// Embedded is a queue in a file, for one process: a lock file keeps a second one out. One goroutine writes; it takes
// all that waits into one transaction, so that a flood costs few fsyncs.
type Embedded struct {
	config EmbeddedConfig
	db     *sql.DB
	lock   *os.File
	writes chan write
	closed chan struct{}
	ended  chan struct{} // closed when the writer has
	once   sync.Once

	depth [Partitions]int64 // entries there are; the writer's own

	mu     sync.Mutex // guards leases and added
	leases [Partitions]string
	until  [Partitions]time.Time
	added  chan struct{} // closed and replaced when something was added
	serial int64
}

// write is a change that a caller waits for. When do refuses, with ErrFull or ErrLeaseLost, it has written nothing.
type write struct {
	do     func(tx *sql.Tx) error
	result chan error
}

func refused(err error) bool { return errors.Is(err, ErrFull) || errors.Is(err, ErrLeaseLost) }

const (
	commitAtOnce = 256
	pruneEvery   = time.Minute
)

const embeddedSchema = `
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS entries (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, part INTEGER NOT NULL, source TEXT NOT NULL, id TEXT NOT NULL, directory TEXT NOT NULL,
  origin TEXT NOT NULL, received INTEGER NOT NULL, key_version TEXT NOT NULL, signed_at INTEGER NOT NULL, force INTEGER NOT NULL,
  body BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS entries_part ON entries (part, seq);
CREATE TABLE IF NOT EXISTS marks (source TEXT NOT NULL, id TEXT NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (source, id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS marks_at ON marks (at);`

// OpenEmbedded opens or makes the file.
func OpenEmbedded(c EmbeddedConfig) (*Embedded, error) {
	if c.Depth == 0 {
		c.Depth = defaultDepth
	}
	if c.Memory == 0 {
		c.Memory = defaultMemory
	}
	if c.Lease == 0 {
		c.Lease = defaultLease
	}
	lock, err := lockFile(c.Path + ".lock")
	if err != nil {
		return nil, err
	}
	db, err := openFile(c)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	q := &Embedded{
		config: c, db: db, lock: lock, added: make(chan struct{}),
		writes: make(chan write, commitAtOnce), closed: make(chan struct{}), ended: make(chan struct{}),
	}
	if err := q.count(); err != nil {
		return nil, errors.Join(err, db.Close(), lock.Close())
	}
	go q.writer()
	return q, nil
}

func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Clean(path), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the queue's lock: %w\nhint: the folder of queue.embedded.path must be there and writable", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w\nhint: another rollcall uses this queue and has to be stopped first; only one process can, use Redis for several", path, err), f.Close())
	}
	return f, nil
}

func openFile(c EmbeddedConfig) (*sql.DB, error) {
	options := url.Values{"_txlock": {"immediate"}, "_pragma": {"journal_mode(WAL)", "synchronous(FULL)", "busy_timeout(5000)"}}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: c.Path}).EscapedPath()+"?"+options.Encode())
	if err != nil {
		return nil, fmt.Errorf("open the queue %s: %w", c.Path, err)
	}
	var environment string
	_, err = db.Exec(embeddedSchema)
	if err == nil {
		_, err = db.Exec(`INSERT INTO meta (name, value) VALUES ('environment', ?) ON CONFLICT DO NOTHING`, c.Environment)
	}
	if err == nil {
		err = db.QueryRow(`SELECT value FROM meta WHERE name = 'environment'`).Scan(&environment)
	}
	if err == nil && environment != c.Environment {
		err = fmt.Errorf("it belongs to environment %q, not %q\nhint: give each environment a queue of its own", environment, c.Environment)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the queue %s: %w", c.Path, err), db.Close())
	}
	return db, nil
}

// Close finishes the writes that wait and closes the file.
func (q *Embedded) Close() error {
	var err error
	q.once.Do(func() {
		close(q.closed)
		<-q.ended
		err = errors.Join(q.db.Close(), q.lock.Close())
	})
	return err
}

// count sets depth from the file.
func (q *Embedded) count() error {
	stats, err := q.Stats(context.Background())
	if err != nil {
		return err
	}
	for n, p := range stats.Partitions {
		q.depth[n] = p.Depth
	}
	return nil
}

// writer is the one goroutine that writes.
func (q *Embedded) writer() {
	defer close(q.ended)
	prune := time.NewTicker(pruneEvery)
	defer prune.Stop()
	for {
		select {
		case w := <-q.writes:
			q.commit(q.gather(w))
		case <-prune.C:
			forget := time.Now().Add(-q.config.Memory).UnixMicro()
			q.commit([]write{{func(tx *sql.Tx) error {
				_, err := tx.Exec(`DELETE FROM marks WHERE at < ?`, forget)
				return err
			}, make(chan error, 1)}})
		case <-q.closed:
			for {
				select {
				case w := <-q.writes:
					q.commit(q.gather(w))
				default:
					return
				}
			}
		}
	}
}

// gather takes what waits behind the first write, without waiting for more.
func (q *Embedded) gather(first write) []write {
	all := []write{first}
	for len(all) < commitAtOnce {
		select {
		case w := <-q.writes:
			all = append(all, w)
		default:
			return all
		}
	}
	return all
}

// commit does the writes in one transaction and tells each caller. When one fails by itself, the others are done again
// without it; one that refuses keeps nobody.
func (q *Embedded) commit(all []write) {
	before := q.depth
	refusals := make([]error, len(all))
	failed, err := q.try(all, refusals)
	if err != nil {
		q.depth = before
	}
	if err != nil && failed >= 0 && len(all) > 1 {
		all[failed].result <- err
		q.commit(append(all[:failed:failed], all[failed+1:]...))
		return
	}
	for i, w := range all {
		w.result <- cmp.Or(err, refusals[i])
	}
	q.mu.Lock()
	close(q.added)
	q.added = make(chan struct{})
	q.mu.Unlock()
}

func (q *Embedded) try(all []write, refusals []error) (failed int, err error) {
	tx, err := q.db.Begin()
	if err != nil {
		return -1, err
	}
	for i, w := range all {
		switch err := w.do(tx); {
		case refused(err):
			refusals[i] = err
		case err != nil:
			return i, errors.Join(err, tx.Rollback())
		}
	}
	return -1, tx.Commit()
}

// write hands a change to the writer and waits for its commit. When the context ends first, the change may still be done.
func (q *Embedded) write(ctx context.Context, do func(tx *sql.Tx) error) error {
	w := write{do, make(chan error, 1)}
	select {
	case <-q.closed:
		return errClosed
	default:
	}
	select {
	case q.writes <- w:
	case <-q.closed:
		return errClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-w.result:
		return err
	case <-q.ended: // it may have been the last that the writer did
		select {
		case err := <-w.result:
			return err
		default:
			return errClosed
		}
	case <-ctx.Done():
		return ctx.Err()
	}
}

var errClosed = errors.New("the queue is closed")

// Enqueue implements Queue.
func (q *Embedded) Enqueue(ctx context.Context, d Delivery) (Result, error) {
	var result Result
	body := append([]byte{}, d.Body...) // the writer may still hold it after the context ended
	err := q.write(ctx, func(tx *sql.Tx) (err error) {
		result, err = q.insert(tx, d, body)
		return err
	})
	switch {
	case errors.Is(err, ErrFull):
		return 0, fmt.Errorf("enqueue %s: %w", d.ID, err)
	case err != nil:
		return 0, fmt.Errorf("enqueue %s: %w: %w", d.ID, ErrUnavailable, err)
	}
	return result, nil
}

// insert adds the entry first and marks its id last, as the Redis script does.
func (q *Embedded) insert(tx *sql.Tx, d Delivery, body []byte) (Result, error) {
	now, part := time.Now(), d.Partition()
	if !d.Force {
		var at int64
		err := tx.QueryRow(`SELECT at FROM marks WHERE source = ? AND id = ?`, d.Source, d.ID).Scan(&at)
		if err == nil && now.Sub(time.UnixMicro(at)) < q.config.Memory {
			return Duplicate, nil
		}
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return 0, err
		}
	}
	if q.depth[part] >= q.config.Depth {
		return 0, fmt.Errorf("%w: partition %d holds %d entries", ErrFull, part, q.depth[part])
	}
	if _, err := tx.Exec(
		`INSERT INTO entries (part, source, id, directory, origin, received, key_version, signed_at, force, body) VALUES (?,?,?,?,?,?,?,?,?,?)`,
		part, d.Source, d.ID, d.Directory, string(d.Origin), d.Received.UnixMicro(), d.KeyVersion, unixMilli(d.SignedAt), d.Force, body,
	); err != nil {
		return 0, err
	}
	_, err := tx.Exec(`INSERT INTO marks (source, id, at) VALUES (?,?,?) ON CONFLICT (source, id) DO UPDATE SET at = excluded.at`,
		d.Source, d.ID, now.UnixMicro())
	q.depth[part]++
	return Accepted, err
}

// Acquire implements Queue. Leases live in the process, as the queue does.
func (q *Embedded) Acquire(_ context.Context, partition int) (Lease, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.leases[partition] != "" && time.Now().Before(q.until[partition]) {
		return nil, ErrHeld
	}
	q.serial++
	token := fmt.Sprint(q.serial)
	q.leases[partition], q.until[partition] = token, time.Now().Add(q.config.Lease)
	return &embeddedLease{q: q, partition: partition, token: token}, nil
}

type embeddedLease struct {
	q         *Embedded
	partition int
	token     string
}

func (l *embeddedLease) Partition() int { return l.partition }

func (l *embeddedLease) Read(ctx context.Context, max int, wait time.Duration) ([]Entry, error) {
	timer := time.NewTimer(min(wait, longestReadWait))
	defer timer.Stop()
	for {
		l.q.mu.Lock()
		added := l.q.added
		l.q.mu.Unlock()
		found, err := l.q.head(ctx, l.partition, max)
		if err != nil || len(found) > 0 {
			return found, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-timer.C:
			return nil, nil
		case <-added:
		}
	}
}

func (q *Embedded) head(ctx context.Context, partition, max int) ([]Entry, error) {
	rows, err := q.db.QueryContext(ctx, `SELECT seq, source, id, directory, origin, received, key_version, signed_at, force, body
		FROM entries WHERE part = ? ORDER BY seq LIMIT ?`, partition, max)
	if err != nil {
		return nil, fmt.Errorf("read partition %d: %w: %w", partition, ErrUnavailable, err)
	}
	defer func() { _ = rows.Close() }()
	var out []Entry
	for bytes := 0; bytes <= readBytes && rows.Next(); {
		var e Entry
		var seq, received, signedAt int64
		if err := rows.Scan(&seq, &e.Source, &e.ID, &e.Directory, &e.Origin, &received, &e.KeyVersion, &signedAt, &e.Force, &e.Body); err != nil {
			return nil, fmt.Errorf("read partition %d: %w: %w", partition, ErrUnavailable, err)
		}
		e.Ref = Ref(strconv.FormatInt(seq, 10))
		e.Received, e.SignedAt = time.UnixMicro(received).UTC(), fromMilli(signedAt)
		out, bytes = append(out, e), bytes+len(e.Body)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read partition %d: %w: %w", partition, ErrUnavailable, err)
	}
	return out, nil
}

// held reports whether the lease is still this holder's, and makes it last.
func (l *embeddedLease) held() bool {
	l.q.mu.Lock()
	defer l.q.mu.Unlock()
	now := time.Now()
	if l.q.leases[l.partition] != l.token || now.After(l.q.until[l.partition]) {
		return false
	}
	l.q.until[l.partition] = now.Add(l.q.config.Lease)
	return true
}

func (l *embeddedLease) Ack(ctx context.Context, refs ...Ref) error {
	if len(refs) == 0 {
		return nil
	}
	err := l.q.write(ctx, func(tx *sql.Tx) error {
		if !l.held() {
			return ErrLeaseLost
		}
		marks := strings.TrimSuffix(strings.Repeat("?,", len(refs)), ",")
		args := []any{l.partition}
		for _, ref := range refs {
			args = append(args, string(ref))
		}
		deleted, err := tx.Exec(`DELETE FROM entries WHERE part = ? AND seq IN (`+marks+`)`, args...) //nolint:gosec // question marks
		if err != nil {
			return err
		}
		n, err := deleted.RowsAffected()
		l.q.depth[l.partition] -= n
		return err
	})
	switch {
	case errors.Is(err, ErrLeaseLost):
		return fmt.Errorf("ack %d entries of partition %d: %w", len(refs), l.partition, ErrLeaseLost)
	case err != nil:
		return fmt.Errorf("ack %d entries of partition %d: %w: %w", len(refs), l.partition, ErrUnavailable, err)
	}
	return nil
}

func (l *embeddedLease) Renew(context.Context) error {
	if !l.held() {
		return fmt.Errorf("renew the lease of partition %d: %w", l.partition, ErrLeaseLost)
	}
	return nil
}

func (l *embeddedLease) Release(context.Context) error {
	l.q.mu.Lock()
	defer l.q.mu.Unlock()
	if l.q.leases[l.partition] != l.token {
		return fmt.Errorf("release partition %d: %w", l.partition, ErrLeaseLost)
	}
	l.q.leases[l.partition] = ""
	return nil
}

// Stats implements Queue.
func (q *Embedded) Stats(ctx context.Context) (Stats, error) {
	s := Stats{Partitions: make([]PartitionStats, Partitions)}
	rows, err := q.db.QueryContext(ctx, `SELECT part, count(*), min(received) FROM entries GROUP BY part`)
	if err != nil {
		return Stats{}, fmt.Errorf("count the queue: %w: %w", ErrUnavailable, err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var part int
		var depth, oldest int64
		if err := rows.Scan(&part, &depth, &oldest); err != nil {
			return Stats{}, fmt.Errorf("count the queue: %w: %w", ErrUnavailable, err)
		}
		s.Partitions[part].Depth, s.Partitions[part].Oldest = depth, time.UnixMicro(oldest).UTC()
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for n := range s.Partitions {
		s.Partitions[n].Leased = q.leases[n] != "" && time.Now().Before(q.until[n])
	}
	return s, rows.Err()
}

// Forget implements Queue.
func (q *Embedded) Forget(ctx context.Context) (n int64, err error) {
	err = q.write(ctx, func(tx *sql.Tx) error {
		deleted, err := tx.Exec(`DELETE FROM marks`)
		if err != nil {
			return err
		}
		n, err = deleted.RowsAffected()
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("forget the ids seen: %w: %w", ErrUnavailable, err)
	}
	return n, nil
}

// Durability implements Queue: the file is synced at every commit.
func (q *Embedded) Durability(context.Context) (Durability, error) {
	return Durability{Class: Fsynced}, nil
}

// ReadStats counts what waits in an embedded queue's file while another process has it. It takes no lock and changes
// nothing; which partitions are leased only that process knows.
func ReadStats(ctx context.Context, path string) (Stats, error) {
	if _, err := os.Stat(path); err != nil {
		return Stats{}, fmt.Errorf("read the queue: %w\nhint: is queue.embedded.path the one of the running process?", err)
	}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?mode=ro&_pragma=busy_timeout(5000)")
	if err != nil {
		return Stats{}, fmt.Errorf("read the queue %s: %w", path, err)
	}
	defer func() { _ = db.Close() }()
	return (&Embedded{db: db}).Stats(ctx)
}
