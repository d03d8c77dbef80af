package audit_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/provider"
)

// crowd lists very many users, none of whom the application has.
type crowd struct {
	*company
	pages       int
	first, last uint64 // bytes that are kept after these pages
}

func (c *crowd) Users(ctx context.Context, id string, page func(context.Context, provider.ListedPage) error) error {
	if err := c.company.Users(ctx, id, page); err != nil {
		return err
	}
	for n := range c.pages {
		items := make([]provider.Listed, 100)
		for i := range items {
			name := fmt.Sprintf("stranger-%d-%d", n, i)
			items[i].User = &directory.Person{ID: "u-" + name, IDPID: name, State: "inactive", Profile: directory.Profile{Email: name + "@example.com"}}
		}
		if err := page(ctx, provider.ListedPage{Items: items}); err != nil {
			return err
		}
		if n == 0 {
			c.first = kept()
		}
	}
	c.last = kept()
	return nil
}

// kept is how many bytes are reachable.
func kept() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// No other test runs beside this one: it looks at the memory of all.
func TestWhatIsKeptDoesNotGrowWithTheDirectory(t *testing.T) {
	s := newSite(t)
	s.company.directory("d1", "org_1")
	s.company.user("d1", "ada", "idp-ada", "inactive", 1)
	s.person("ada", "idp-ada")
	c := &crowd{company: s.company, pages: 1000}
	s.Listing, s.ByEmail = c, true
	if r := s.says([]string{"leaver ada: " + inactive}, nil); r.Users != 100_001 {
		t.Errorf("Run() passes by %d users", r.Users)
	}
	t.Logf("%d bytes are kept after the first page, %d after the last", c.first, c.last)
	if c.last > c.first+256<<10 {
		t.Errorf("%d bytes are kept after the first page, %d after the last", c.first, c.last)
	}
}
