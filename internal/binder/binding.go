package binder

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/verify"
)

// Binding is what is done for changes of some kinds: statements in the application's database, or a signed POST.
type Binding struct {
	Name       string // in marks, logs and status; one that is renamed is another
	On         []directory.ChangeKind
	Statements []string // each one statement, never split
	Post       *Post    // in place of Statements
}

// Post is where each change is sent to, signed as Standard Webhooks are: one after the other of each account, until it is
// taken. The id is the change's sequence and fingerprint, the same at every attempt.
type Post struct {
	URL      string
	Key      func() (*verify.Key, error) // the current one, made for the preset "standard-webhooks"
	Timeout  time.Duration               // of one attempt; 0 is 10 s
	Attempts int                         // before a change is given up; 0 is never
}

// Link says which row of the application's users an account is.
type Link struct {
	SQL     string // its id, by what the directory vouches for; at most one row
	ByEmail string // by email, when SQL gives no row; may be empty
}

// Probe looks for what somebody who left must not have any more: the rows of its statement.
type Probe struct{ Name, SQL string }

// statement is a statement made ready: its text with ordinal places, and the parameters at them.
type statement struct {
	sql   string
	names []string
}

// binding is a Binding of statements made ready.
type binding struct {
	Binding
	statements []statement
	digest     string
}

// statements are all that a binder runs in the application's database, and posts.
type statements struct {
	bindings  []*binding
	byKind    map[directory.ChangeKind][]*binding
	posts     []Binding
	tenant    *statement
	link      *statement
	byEmail   *statement
	probes    map[string]statement
	protected *statement
	asksCause bool // a binding uses @cause
}

// compile makes all statements ready. Its errors name each that cannot be, and why.
func compile(c Config) (s statements, err error) {
	s = statements{byKind: map[directory.ChangeKind][]*binding{}, probes: map[string]statement{}}
	seen := map[string]bool{}
	var wrong []error
	for _, b := range c.Bindings {
		if b.Name == "" || seen[b.Name] {
			wrong = append(wrong, fmt.Errorf("binding %q: its name is empty or another's\nhint: give each a name of its own", b.Name))
		}
		seen[b.Name] = true
		wrong = append(wrong, s.add(c, b))
	}
	if c.Link != nil {
		s.link = one(c, "link.sql", c.Link.SQL, &wrong)
		s.byEmail = one(c, "link.by_email", c.Link.ByEmail, &wrong)
		if s.link == nil && s.byEmail == nil {
			wrong = append(wrong, errors.New("link: it has no statement"))
		}
	}
	s.tenant = one(c, "tenant.sql", c.Tenant, &wrong)
	s.protected = one(c, "protected", c.Protected, &wrong)
	for _, p := range c.Probes {
		if st := one(c, "probe "+p.Name, p.SQL, &wrong); st != nil {
			s.probes[p.Name] = *st
		}
	}
	return s, errors.Join(wrong...)
}

func (s *statements) add(c Config, b Binding) error {
	if b.Post != nil {
		s.posts = append(s.posts, b)
		return b.checkPost()
	}
	if len(b.Statements) == 0 {
		return fmt.Errorf("binding %q: it has neither statements nor a post", b.Name)
	}
	made := &binding{Binding: b, digest: digest(b.Statements)}
	for i, text := range b.Statements {
		st, err := c.compile(text)
		if err != nil {
			return fmt.Errorf("binding %q, statement %d: %w", b.Name, i+1, err)
		}
		made.statements = append(made.statements, st)
		s.asksCause = s.asksCause || slices.Contains(st.names, "cause")
	}
	s.bindings = append(s.bindings, made)
	for _, kind := range b.On {
		if !slices.Contains(s.byKind[kind], made) {
			s.byKind[kind] = append(s.byKind[kind], made)
		}
	}
	return nil
}

func (b Binding) checkPost() error {
	u, err := url.Parse(b.Post.URL)
	switch {
	case len(b.Statements) > 0:
		return fmt.Errorf("binding %q: it has both statements and a post\nhint: make two bindings of it", b.Name)
	case err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http"):
		return fmt.Errorf("binding %q: post: %q is not the URL of a web server", b.Name, b.Post.URL)
	case b.Post.Key == nil:
		return fmt.Errorf("binding %q: post: it has no key to be signed with", b.Name)
	}
	return nil
}

// one makes a single statement ready; nil for none.
func one(c Config, name, text string, wrong *[]error) *statement {
	if text == "" {
		return nil
	}
	st, err := c.compile(text)
	if err != nil {
		*wrong = append(*wrong, fmt.Errorf("%s: %w", name, err))
		return nil
	}
	return &st
}

func (c Config) compile(text string) (statement, error) {
	switch {
	case c.Database == nil:
		return statement{}, errors.New("there is no database to run it in")
	case strings.TrimSpace(text) == "":
		return statement{}, errors.New("it is empty")
	case c.Database.Kind == SQLite && !single(text): // PostgreSQL says so itself when it prepares it
		return statement{}, errors.New("it is more than one statement\nhint: give a list of them, each as a text of its own")
	}
	sql, names, err := c.Database.Compile(text, Parameters)
	return statement{sql, names}, err
}

// digest names a binding's statements: another text has another digest.
func digest(texts []string) string {
	sum := sha256.Sum256([]byte(strings.Join(texts, "\x00")))
	return hex.EncodeToString(sum[:6])
}

// on returns the posts that are for a kind of changes.
func (s *statements) on(kind directory.ChangeKind) (out []Binding) {
	for _, b := range s.posts {
		if slices.Contains(b.On, kind) {
			out = append(out, b)
		}
	}
	return out
}
