package binder_test

import (
	"strings"
	"testing"

	"github.com/rollcallhq/rollcall/internal/binder"
	"github.com/rollcallhq/rollcall/verify"
)

func TestABinderRefusesWhatCannotBeRun(t *testing.T) {
	t.Parallel()
	r := onSQLite(t, true)
	first := func(statements ...string) func(c *binder.Config) {
		return func(c *binder.Config) { c.Bindings[0].Statements = statements }
	}
	post := func(p binder.Post) func(c *binder.Config) {
		return func(c *binder.Config) { c.Bindings[0] = binder.Binding{Name: "hooks", Post: &p} }
	}
	for name, c := range map[string]struct {
		change func(c *binder.Config)
		want   []string
	}{
		"an unknown parameter":   {first(`SELECT 1`, `SELECT @emial`), []string{`binding "join", statement 2`, "emial", "email"}},
		"two statements":         {first(`DELETE FROM app_users; DELETE FROM app_roles`), []string{`binding "join", statement 1`, "more than one statement"}},
		"an empty one":           {first(" "), []string{`binding "join", statement 1`, "empty"}},
		"none":                   {first(), []string{`binding "join"`, "neither"}},
		"a name twice":           {func(c *binder.Config) { c.Bindings[1].Name = "join" }, []string{`binding "join"`, "name"}},
		"no name":                {func(c *binder.Config) { c.Bindings[1].Name = "" }, []string{`binding ""`, "name"}},
		"a link of nothing":      {func(c *binder.Config) { c.Link = &binder.Link{} }, []string{"link", "no statement"}},
		"a lookup":               {func(c *binder.Config) { c.Tenant = `SELECT @org` }, []string{"tenant.sql", "organization_id"}},
		"a probe":                {func(c *binder.Config) { c.Probes = []binder.Probe{{Name: "s", SQL: `SELECT @x`}} }, []string{"probe s", "app_id"}},
		"no database":            {func(c *binder.Config) { c.Database = nil }, []string{`binding "join"`, `binding "unrole"`, "no database"}},
		"a post to nowhere":      {post(binder.Post{URL: "hooks", Key: func() (*verify.Key, error) { return nil, nil }}), []string{`binding "hooks"`, "URL"}},
		"a post without a key":   {post(binder.Post{URL: "https://app.internal"}), []string{`binding "hooks"`, "key"}},
		"a post and a statement": {func(c *binder.Config) { c.Bindings[0].Post = &binder.Post{URL: "https://app.internal"} }, []string{`binding "join"`, "both"}},
		"all that is wrong":      {func(c *binder.Config) { c.Tenant, c.Protected = `SELECT @a`, `SELECT @b` }, []string{"tenant.sql", "protected"}},
	} {
		config := r.config()
		c.change(&config)
		_, err := binder.New(config)
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: New() = %v, want %q in it", name, err, want)
			}
		}
	}
}
