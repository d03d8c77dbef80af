package config

import (
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/spelling"
)

// bindingName is what marks and metrics can bear.
var bindingName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.*+#-]{0,254}$`)

const (
	longestStatement = 64 << 10
	longestName      = 200
)

func (c Config) checkApplication(p *problems) {
	a := c.Application
	c.checkDSN(p)
	p.oneOf("application.mode", a.Mode, Observe, Enforce)
	for _, t := range []struct {
		key   string
		value time.Duration
	}{
		{"lock_timeout", a.LockTimeout}, {"statement_timeout", a.StatementTimeout}, {"retry_first", a.RetryFirst}, {"link_retry", a.LinkRetry},
	} {
		p.add(t.value < time.Millisecond, "application."+t.key, "%s is not 1ms or more", t.value)
	}
	p.add(a.RetryLongest < a.RetryFirst, "application.retry_longest", "%s is less than application.retry_first (%s)", a.RetryLongest, a.RetryFirst)
	p.add(a.Connections < 1, "application.connections", "%d is not 1 or more", a.Connections)
	p.add(a.Batch < 1 || a.Batch > 1000, "application.batch", "%d is not between 1 and 1000", a.Batch)
	for _, s := range []struct{ key, text string }{
		{"tenant.sql", a.Tenant.SQL}, {"link.sql", a.Link.SQL}, {"link.by_email", a.Link.ByEmail},
		{"inventory.accounts", a.Inventory.Accounts}, {"inventory.memberships", a.Inventory.Memberships}, {"protected", a.Protected},
	} {
		if s.text != "" {
			p.statement("application."+s.key, s.text)
		}
	}
	a.checkBindings(p)
	a.checkRoles(p)
	a.checkProbes(p)
	a.checkRehearsal(p)
	a.Guard.check(p, "application.guard")
	for _, o := range []struct{ key, who string }{{"joiner", a.Owners.Joiner}, {"mover", a.Owners.Mover}, {"leaver", a.Owners.Leaver}} {
		p.add(len(o.who) > longestName || strings.ContainsAny(o.who, "\r\n"), "application.owners."+o.key, "it is not a line of %d bytes at most", longestName)
	}
}

// checkDSN never shows the value, which may be a secret.
func (c Config) checkDSN(p *problems) {
	const key = "application.dsn"
	dsn := c.Application.DSN
	path, isFile := dsn.File()
	_, isRef := dsn.Ref()
	text := dsn.Reveal()
	switch {
	case text == "":
	case isRef:
		p.reference(key, dsn)
	case isFile:
		p.add(path == "" || strings.Contains(path, "?"), key, "sqlite: is followed by the path of a file, and nothing else")
		own := c.Store.Backend == BackendSQLite && path != "" && filepath.Clean(path) == filepath.Clean(c.Store.Path)
		p.add(own, key, "it is store.path; leave it empty for Rollcall's own database")
	default:
		known := strings.HasPrefix(text, "postgres://") || strings.HasPrefix(text, "postgresql://") || strings.Contains(text, "=") && !strings.Contains(text, "://")
		p.add(!known, key, "it is not PostgreSQL's URL or keywords, sqlite:PATH, or a reference")
	}
	own := text != "" && c.Store.Backend == BackendPostgres && dsn == c.Store.DSN
	p.add(own, key, "it is store.dsn; leave it empty for Rollcall's own database")
}

// statement refuses what no database could take. What it says is the database's to judge.
func (p *problems) statement(key, sql string) {
	p.add(strings.TrimSpace(sql) == "", key, "is empty; it is a statement")
	p.add(len(sql) > longestStatement, key, "has %d bytes, and a statement %d at most", len(sql), longestStatement)
}

func (a Application) checkBindings(p *problems) {
	names := map[string]int{}
	for i, b := range a.Bindings {
		key := fmt.Sprintf("application.bindings[%d]", i)
		b.check(p, key)
		first, again := names[b.Name]
		p.add(again && b.Name != "", key+".name", "%q is that of application.bindings[%d], too", b.Name, first)
		if !again {
			names[b.Name] = i
		}
	}
}

func (b Binding) check(p *problems, key string) {
	p.add(len(b.On) == 0, key+".on", "is empty; it names kinds of changes, such as account.activated")
	for _, on := range b.On {
		known := slices.ContainsFunc(kinds, func(k directory.ChangeKind) bool { return covers(on, k) })
		p.add(!known, key+".on", "%q is no kind of change%s", on, kindMeant(on))
	}
	p.add(len(b.On) > 0 && !bindingName.MatchString(b.Name), key+".name", "%q is not made of letters, digits and _ . * + # -, 255 at most", b.Name)
	switch {
	case len(b.SQL) == 0 && b.Post == "":
		p.add(true, key, "has neither sql nor post")
	case len(b.SQL) > 0 && b.Post != "":
		p.add(true, key, "has sql and post; make it two bindings")
	case b.Post == "":
		p.add(b.Secret != "" || b.Timeout != 0 || b.Attempts != 0, key, "secret, timeout and attempts are for post; application.statement_timeout bounds sql")
	default:
		b.checkPost(p, key)
	}
	for i, sql := range b.SQL {
		p.statement(fmt.Sprintf("%s.sql[%d]", key, i), sql)
	}
}

// checkPost never shows the URL, which may hold a password.
func (b Binding) checkPost(p *problems, key string) {
	u, err := url.Parse(b.Post)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" {
		p.add(true, key+".post", "it is not a URL such as https://app.internal/hooks, without a user and a password")
	} else {
		local := u.Hostname() == "localhost" || net.ParseIP(u.Hostname()).IsLoopback()
		p.add(u.Scheme != "https" && (u.Scheme != "http" || !local), key+".post", "it does not begin with https://; http:// is for this machine alone")
	}
	if err := b.Secret.Validate(); err != nil {
		p.add(true, key+".secret", "%s", err)
	}
	p.add(b.Timeout < time.Millisecond, key+".timeout", "%s is not 1ms or more", b.Timeout)
	p.add(b.Attempts < 0, key+".attempts", "%d is negative", b.Attempts)
}

// kindMeant says which kind of change was meant, or which there are of that thing, or which things there are.
func kindMeant(on string) string {
	var all []string
	for _, k := range kinds {
		thing, _, _ := strings.Cut(string(k), ".")
		all = append(all, string(k), thing+".*")
	}
	if near := spelling.Nearest(on, all); near != "" {
		return "; did you mean " + near + "?"
	}
	of := slices.DeleteFunc(slices.Clone(all), func(k string) bool {
		thing, _, _ := strings.Cut(on, ".")
		return !strings.HasPrefix(k, thing+".")
	})
	if len(of) == 0 {
		of = slices.DeleteFunc(all, func(k string) bool { return !strings.HasSuffix(k, "*") })
	}
	slices.Sort(of)
	return "; there is " + strings.Join(slices.Compact(of), ", ")
}

func (a Application) checkRoles(p *problems) {
	for i, r := range a.Roles {
		key := fmt.Sprintf("application.roles[%d]", i)
		p.add(strings.TrimSpace(r.Role) == "" || len(r.Role) > longestName, key+".role", "it is not the name of a role, of %d bytes at most", longestName)
		p.add(len(r.Groups) == 0 && len(r.Slugs) == 0, key, "has neither groups nor slugs, so nobody has the role")
		for _, texts := range []struct {
			key  string
			list []string
		}{{"groups", r.Groups}, {"slugs", r.Slugs}, {"directories", r.Directories}} {
			p.add(slices.Contains(texts.list, ""), key+"."+texts.key, "has an empty text")
		}
	}
}

func (a Application) checkProbes(p *problems) {
	names := map[string]bool{}
	for i, probe := range a.Probes {
		key := fmt.Sprintf("application.probes[%d]", i)
		p.add(!bindingName.MatchString(probe.Name), key+".name", "%q is not made of letters, digits and _ . * + # -, 255 at most", probe.Name)
		p.add(names[probe.Name], key+".name", "%q is another probe's, too", probe.Name)
		names[probe.Name] = true
		p.statement(key+".sql", probe.SQL)
	}
}

func (a Application) checkRehearsal(p *problems) {
	const key = "application.rehearsal.sign_in"
	for i, text := range a.Rehearsal.SignIn {
		p.statement(fmt.Sprintf("%s[%d]", key, i), text)
	}
	signs := len(a.Rehearsal.SignIn) > 0
	p.add(signs && a.Link == Link{}, key, "is for @app_id, and without application.link nobody knows whose that is")
	p.add(signs && len(a.Probes) == 0, key, "makes what application.probes are to find, and there is none")
}

func (g Guard) check(p *problems, key string) {
	p.add(g.Accounts < 0, key+".accounts", "%d is negative", g.Accounts)
	p.add(g.Percent < 0 || g.Percent > 100, key+".percent", "%d is not between 0 and 100", g.Percent)
	p.add(g.Floor < 0, key+".floor", "%d is negative", g.Floor)
}
