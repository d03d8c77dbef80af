package testenv

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// RedisServer is a private Redis: append-only file fsynced at every write, no eviction.
type RedisServer struct {
	t    testing.TB
	port int
	p    process
}

// Redis starts a private redis-server, with further lines of its configuration, as "appendfsync everysec". It is stopped when the
// test ends.
func Redis(t testing.TB, config ...string) *RedisServer {
	t.Helper()
	program, dir := find(t, "redis-server"), t.TempDir()
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	s := &RedisServer{t: t, port: port}
	args := []string{
		"--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", dir, "--daemonize", "no", "--save", "",
		"--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction",
	}
	for _, line := range config {
		args = append(args, strings.Fields("--"+line)...)
	}
	s.p.build = func() *exec.Cmd { return exec.Command(program, args...) }
	s.p.ready = func() error {
		answer, err := s.ask("PING")
		if err == nil && !strings.HasPrefix(answer, "+PONG") && !strings.HasPrefix(answer, "-NOAUTH") {
			err = fmt.Errorf("it answers %q", answer)
		}
		return err
	}
	t.Cleanup(func() { s.p.stop(syscall.SIGKILL) })
	s.Start()
	return s
}

// ask sends one inline command and returns the first line of the answer, so that this package needs no client.
func (s *RedisServer) ask(command string) (string, error) {
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(context.Background(), "tcp", s.Addr())
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := fmt.Fprintf(conn, "%s\r\n", command); err != nil {
		return "", err
	}
	return bufio.NewReader(conn).ReadString('\n')
}

// Addr is the server's host:port.
func (s *RedisServer) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// Start starts the server again, on the same port and with the same files.
func (s *RedisServer) Start() {
	s.t.Helper()
	if err := s.p.start(); err != nil {
		s.t.Fatal(err)
	}
}

// Stop ends the server in an orderly way.
func (s *RedisServer) Stop() { s.p.stop(syscall.SIGTERM) }

// Kill ends the server with SIGKILL.
func (s *RedisServer) Kill() { s.p.stop(syscall.SIGKILL) }

// Pause stops the server's process without ending it; connections stay open and nothing answers. Resume undoes it.
func (s *RedisServer) Pause() { s.must(s.p.signal(syscall.SIGSTOP)) }

// Resume lets a paused server go on.
func (s *RedisServer) Resume() { s.must(s.p.signal(syscall.SIGCONT)) }

// Pid is the server's process id, 0 when it is stopped.
func (s *RedisServer) Pid() int { return s.p.pid() }

func (s *RedisServer) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}
