package secrets

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"
)

// maxFile is how long a file with a secret may be.
const maxFile = 64 << 10

// origin returns what reads the reference.
func (c Config) origin(ref Ref, u user) (origin, error) {
	p, err := ref.parse()
	if err != nil {
		return nil, err
	}
	switch p.kind {
	case "file":
		return &fileOrigin{path: p.path, config: c}, nil
	case "env":
		return &envOrigin{name: p.name, config: c}, nil
	default:
		return c.kvOrigin(p, u), nil
	}
}

// refuse returns why the value cannot be a secret, or nil.
func (c Config) refuse(value []byte) error {
	switch {
	case len(bytes.TrimSpace(value)) == 0:
		return ErrEmpty
	case len(value) < c.MinBytes:
		return fmt.Errorf("the secret has %d bytes, fewer than the %d it needs", len(value), c.MinBytes)
	}
	return nil
}

// fileOrigin reads a file anew each time, by content: whoever replaces it may write it, rename another over it, or turn
// a symbolic link, as Kubernetes does. It remembers what was in it before, for the grace.
type fileOrigin struct {
	path   string
	config Config
	seen   []Version // newest first; all but the first expire
}

func (o *fileOrigin) read(context.Context) answer {
	value, modified, err := readFile(o.path)
	if err == nil {
		err = o.config.refuse(value)
	}
	if err != nil {
		return answer{err: fmt.Errorf("file %s: %w", o.path, err)}
	}
	now := o.config.Now()
	o.see(newSecret(value), modified, now)
	o.seen = slices.DeleteFunc(o.seen, func(v Version) bool { return !v.Expires.IsZero() && !now.Before(v.Expires) })
	o.seen = o.seen[:min(len(o.seen), MaxVersions)]
	return answer{versions: slices.Clone(o.seen), known: true}
}

// see makes the secret the newest version, unless it is already.
func (o *fileOrigin) see(secret Secret, modified, now time.Time) {
	if len(o.seen) > 0 && o.seen[0].Secret.Equal(secret) {
		return
	}
	if len(o.seen) > 0 {
		o.seen[0].Expires = now.Add(o.config.Grace)
	}
	// What was there before and is back is no previous version any more.
	older := slices.DeleteFunc(o.seen, func(v Version) bool { return v.Secret.Equal(secret) })
	o.seen = append([]Version{{ID: o.id(modified), Secret: secret, Created: modified}}, older...)
}

// id names a version by the file's time, which the replicas that read the same file have in common. It says nothing of
// the content.
func (o *fileOrigin) id(modified time.Time) string {
	id := "file-" + modified.UTC().Format("20060102T150405Z")
	for n := 2; slices.ContainsFunc(o.seen, func(v Version) bool { return v.ID == id }); n++ {
		id = fmt.Sprintf("file-%s-%d", modified.UTC().Format("20060102T150405Z"), n)
	}
	return id
}

// readFile returns the content without its last line break.
func readFile(path string) (content []byte, modified time.Time, err error) {
	file, err := os.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, time.Time{}, fmt.Errorf("%w\nhint: it must be there and readable by this user", ErrMissing)
	case errors.Is(err, fs.ErrPermission):
		return nil, time.Time{}, fmt.Errorf("%w\nhint: it must be readable by this user", ErrDenied)
	case err != nil:
		return nil, time.Time{}, err
	}
	defer func() { _ = file.Close() }() // it was only read
	info, err := file.Stat()
	if err != nil {
		return nil, time.Time{}, err
	}
	content, err = io.ReadAll(io.LimitReader(file, maxFile+1))
	switch {
	case err != nil:
		return nil, time.Time{}, err
	case len(content) > maxFile:
		return nil, time.Time{}, fmt.Errorf("it is longer than %d bytes", maxFile)
	}
	if line, ended := bytes.CutSuffix(content, []byte("\n")); ended {
		content = bytes.TrimSuffix(line, []byte("\r"))
	}
	return content, info.ModTime(), nil
}

// envOrigin reads a variable once: it does not change while the process runs.
type envOrigin struct {
	name   string
	config Config
	found  []Version
}

func (o *envOrigin) read(context.Context) answer {
	if o.found == nil {
		value, there := os.LookupEnv(o.name)
		err := o.config.refuse([]byte(value))
		if !there {
			err = fmt.Errorf("%w\nhint: set it for this process, and start again", ErrMissing)
		}
		if err != nil {
			return answer{err: fmt.Errorf("environment variable %s: %w", o.name, err)}
		}
		o.found = []Version{{ID: "env", Secret: newSecret([]byte(value))}}
	}
	return answer{versions: o.found, known: true}
}
