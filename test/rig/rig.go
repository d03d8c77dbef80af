// Package rig runs whole Rollcall processes for tests: the real binary, each site with a Redis, a database, a signing
// secret and a certificate of its own, on loopback and free ports.
package rig

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// built is the binary, which all tests of a run share. mu guards the rest.
var built struct {
	mu     sync.Mutex
	folder string
	err    error
}

// Main runs the tests and removes what they shared: what a TestMain calls.
func Main(m *testing.M) int {
	code := m.Run()
	if built.folder != "" {
		_ = os.RemoveAll(built.folder)
	}
	return code
}

// Binary returns the path of the program, built from the checkout that the test is in, once a run.
func Binary(t testing.TB) string {
	t.Helper()
	built.mu.Lock()
	defer built.mu.Unlock()
	if built.folder == "" {
		built.folder, built.err = build(t)
	}
	if built.err != nil {
		t.Fatalf("build the program: %v", built.err)
	}
	return filepath.Join(built.folder, "rollcall")
}

func build(t testing.TB) (folder string, err error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	if err := look(root); err != nil {
		return "", err
	}
	if folder, err = os.MkdirTemp("", "rollcall-binary"); err != nil {
		return "", err
	}
	// Another test may end before the build does, and the binary is not its own.
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "go", "build", "-o", filepath.Join(folder, "rollcall"), "./cmd/rollcall")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return folder, fmt.Errorf("%w\n%s", err, out)
	}
	return folder, nil
}

// look opens every folder with a part of the program, so that a result of these tests is not taken from the cache when
// the program is another: the cache knows what a test opened, and nothing of what its children did.
func look(root string) error {
	for _, part := range []string{"cmd", "handlers", "internal", "queue", "secrets", "verify"} {
		err := filepath.WalkDir(filepath.Join(root, part), func(name string, entry fs.DirEntry, err error) error {
			if err == nil && !entry.IsDir() {
				_, err = os.Stat(name)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Root returns the folder of the project's module, which may be above another module's.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && bytes.HasPrefix(text, []byte("module github.com/rollcallhq/rollcall\n")) {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("the tests run outside the project's checkout")
		}
		dir = up
	}
}

// within is how long the tests wait for what has to come, on a machine with more to do.
const within = 90 * time.Second

// Until waits until the condition holds, and fails the test when it does not come.
func Until(t testing.TB, what string, done func() bool) {
	t.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.After(within); !done(); {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("this did not come: %s", what)
		}
	}
}

// environ is the environment of the processes: none of the test's settings reach them.
func environ(dir string, extra []string) []string {
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TZ=UTC"}
	for _, name := range []string{"GOMAXPROCS", "GOTRACEBACK", "SSL_CERT_FILE", "SSL_CERT_DIR"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return append(env, extra...)
}

// tail is the end of a text, for a failure's message.
func tail(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
