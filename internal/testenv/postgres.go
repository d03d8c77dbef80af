package testenv

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// PostgresServer is a private PostgreSQL cluster, with fsync and synchronous_commit on, as in production.
type PostgresServer struct {
	dir  string
	port int
	p    process
}

var shared struct {
	sync.Mutex
	server *PostgresServer
	users  int
	models map[string]func() (string, error) // of the cluster: each makes its database once, and returns its name
}

// Database returns the URL of a fresh database, on a cluster that the tests of this binary share. The cluster is
// stopped when the last test that uses it ends.
func Database(t testing.TB) string {
	t.Helper()
	return sharedServer(t).database(t)
}

// Copy returns the URL of a fresh copy of a database that fill has filled, once for all tests of this binary that give the
// name. Nothing may be connected with that one any more when fill returns.
func Copy(t testing.TB, name string, fill func(url string) error) string {
	t.Helper()
	s := sharedServer(t)
	shared.Lock()
	if shared.models[name] == nil {
		shared.models[name] = sync.OnceValues(func() (string, error) {
			model := "m" + strings.ToLower(rand.Text())
			if err := s.exec("CREATE DATABASE " + model); err != nil {
				return "", err
			}
			return model, fill(s.url(model))
		})
	}
	make := shared.models[name]
	shared.Unlock()
	model, err := make()
	if err != nil {
		t.Fatalf("make the database %s: %v", name, err)
	}
	copied := "t" + strings.ToLower(rand.Text())
	if err := s.exec("CREATE DATABASE " + copied + " TEMPLATE " + model); err != nil {
		t.Fatalf("copy the database %s: %v", name, err)
	}
	return s.url(copied)
}

// sharedServer returns the cluster that tests share, which lives as long as this one at least.
func sharedServer(t testing.TB) *PostgresServer {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.server == nil {
		s, err := startPostgres(t)
		if err != nil {
			t.Fatal(err)
		}
		shared.server, shared.models = s, map[string]func() (string, error){}
	}
	shared.users++
	t.Cleanup(func() {
		shared.Lock()
		defer shared.Unlock()
		if shared.users--; shared.users == 0 {
			shared.server.remove()
			shared.server = nil
		}
	})
	return shared.server
}

// Postgres starts a cluster of the test's own, which it may stop and start.
func Postgres(t testing.TB) *PostgresServer {
	t.Helper()
	s, err := startPostgres(t)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.remove)
	return s
}

// Database returns the URL of a fresh database on this cluster.
func (s *PostgresServer) Database(t testing.TB) string {
	t.Helper()
	return s.database(t)
}

// Start starts the cluster again, on the same port and with the same files.
func (s *PostgresServer) Start(t testing.TB) {
	t.Helper()
	if err := s.p.start(); err != nil {
		t.Fatal(err)
	}
}

// Stop ends the cluster at once, its connections too, as an operator's fast shutdown does.
func (s *PostgresServer) Stop() { s.p.stop(syscall.SIGINT) }

// Crash ends the cluster without a checkpoint, as a crash does: PostgreSQL's immediate shutdown. (SIGKILL of the
// postmaster would leave its children, and their shared memory, behind for a moment.)
func (s *PostgresServer) Crash() { s.p.stop(syscall.SIGQUIT) }

// Backup copies the whole cluster, which is stopped meanwhile. Restore puts it back to that state, whatever was committed since, and may
// be called again.
func (s *PostgresServer) Backup(t testing.TB) (restore func()) {
	t.Helper()
	data, kept := filepath.Join(s.dir, "data"), filepath.Join(s.dir, "backup-"+strings.ToLower(rand.Text()))
	again := func(from, to string) {
		t.Helper()
		if err := os.RemoveAll(to); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.CommandContext(t.Context(), "cp", "-a", from, to).CombinedOutput(); err != nil {
			t.Fatalf("copy the cluster: %v\n%s", err, out)
		}
		s.Start(t)
	}
	s.Stop()
	again(data, kept)
	return func() {
		t.Helper()
		s.Crash()
		again(kept, data)
	}
}

func (s *PostgresServer) remove() {
	s.p.stop(syscall.SIGQUIT)
	_ = os.RemoveAll(s.dir)
}

func (s *PostgresServer) url(database string) string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable", s.port, database)
}

func (s *PostgresServer) database(t testing.TB) string {
	t.Helper()
	name := "t" + strings.ToLower(rand.Text())
	if err := s.exec("CREATE DATABASE " + name); err != nil {
		t.Fatalf("create a database: %v", err)
	}
	return s.url(name)
}

func (s *PostgresServer) exec(statement string) error {
	ctx, cancel := context.WithTimeout(context.Background(), startWithin)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.url("postgres"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, statement)
	return err
}

// startPostgres makes a cluster in a folder of its own. PostgreSQL refuses to run as root, so as root it runs as
// another user, whose folder it is.
func startPostgres(t testing.TB) (*PostgresServer, error) {
	initdb, postgres := find(t, "initdb"), find(t, "postgres")
	credential, err := unprivileged()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "rollcall-pg")
	if err != nil {
		return nil, err
	}
	if credential != nil {
		if err := os.Chown(dir, int(credential.Uid), int(credential.Gid)); err != nil {
			return nil, err
		}
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s := &PostgresServer{dir: dir, port: port}
	data := filepath.Join(dir, "data")
	command := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(name, args...)
		cmd.Dir = dir
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
		cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "TZ=UTC")
		return cmd
	}
	out, err := command(initdb, "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", "--no-instructions").CombinedOutput()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("initdb: %w\n%s", err, out), os.RemoveAll(dir))
	}
	s.p.build = func() *exec.Cmd {
		return command(postgres, "-D", data, "-p", fmt.Sprint(port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
			"-c", "max_connections=200", "-c", "shared_buffers=128MB", "-c", "log_min_messages=fatal")
	}
	s.p.ready = func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		conn, err := pgx.Connect(ctx, s.url("postgres"))
		if err != nil {
			return err
		}
		return conn.Close(ctx)
	}
	if err := s.p.start(); err != nil {
		s.remove()
		return nil, err
	}
	return s, nil
}
