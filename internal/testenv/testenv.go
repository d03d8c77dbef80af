// Package testenv gives a test real servers of its own: PostgreSQL and Redis, started on loopback and free ports, and
// stopped by the process id that it holds. A server that is not installed fails the test and says how to install it.
package testenv

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

const startWithin = 30 * time.Second

// find returns the path of a server's program, looking where distributions put it.
func find(t testing.TB, program string) string {
	t.Helper()
	path, err := lookup(program)
	if err != nil {
		t.Fatalf("%v\nhint: `make deps` installs what the tests need", err)
	}
	return path
}

func lookup(program string) (string, error) {
	if path, err := exec.LookPath(program); err == nil {
		return path, nil
	}
	var found []string
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin/", "/usr/pgsql-*/bin/", "/opt/homebrew/opt/postgresql*/bin/", "/usr/local/opt/postgresql*/bin/", "/usr/sbin/",
	} {
		matches, _ := filepath.Glob(pattern + program)
		found = append(found, matches...)
	}
	if len(found) == 0 {
		return "", fmt.Errorf("%s is not installed", program)
	}
	slices.Sort(found)
	return found[len(found)-1], nil
}

// freePort returns a port of loopback that nobody listens on at this moment.
func freePort() (int, error) {
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	port := l.Addr().(*net.TCPAddr).Port
	return port, l.Close()
}

// process is a server that we started. mu guards cmd and done, which belong together: done is closed when cmd ended.
type process struct {
	mu    sync.Mutex
	build func() *exec.Cmd
	ready func() error
	cmd   *exec.Cmd
	done  chan struct{}
}

func (p *process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	cmd := p.build()
	output := &tail{}
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait()
	}()
	p.cmd, p.done = cmd, done
	if err := p.await(); err != nil {
		_ = cmd.Process.Kill()
		<-done
		return fmt.Errorf("%s: %w\n%s", cmd.Path, err, output)
	}
	return nil
}

// await returns when the server answers, or an error when it ended or took too long.
func (p *process) await() error {
	deadline := time.After(startWithin)
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := p.ready()
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("it ended before it was ready: %w", err)
		case <-deadline:
			return fmt.Errorf("not ready within %s: %w", startWithin, err)
		case <-ticker.C:
		}
	}
}

// stop ends the server with a signal and waits until it has.
func (p *process) stop(sig os.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGCONT)
	_ = p.cmd.Process.Signal(sig)
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	p.cmd = nil
}

func (p *process) signal(sig os.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return errors.New("the server is not running")
	}
	return p.cmd.Process.Signal(sig)
}

func (p *process) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// tail keeps the last of what a server printed.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (w *tail) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = append(w.text, b...)
	if extra := len(w.text) - 8192; extra > 0 {
		w.text = w.text[extra:]
	}
	return len(b), nil
}

func (w *tail) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.text)
}

// unprivileged returns the user that a server which refuses to run as root is run as, or nil when we are not root.
func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, _ := strconv.ParseUint(u.Uid, 10, 32)
		gid, _ := strconv.ParseUint(u.Gid, 10, 32)
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("no user postgres or nobody, and PostgreSQL does not run as root")
}
