package audit

import (
	"slices"
	"strings"
	"time"

	"github.com/rollcallhq/rollcall/internal/inventory"
)

// rows are the application's accounts, with whom they may be. It is what an audit keeps: nothing of a user whom no account mentions.
type rows struct {
	tenants     bool // there are several
	accounts    []account
	byID        map[string][]int // accounts by the application's id
	mentions    map[mention][]int
	memberships []inventory.Membership
	protected   map[string]bool
	followed    int // how often an account began to mention somebody; see follow
}

// account is an account of the application, and the directory's users that it may be.
type account struct {
	inventory.Account
	matches []match
}

// how an account and a user are brought together.
const (
	byID    = "id"
	byEmail = "email"
)

// mention is something by which a user is recognised.
type mention struct{ tenant, how, value string }

// match is a user that an account may be.
type match struct {
	directory   int
	user, idpID string
	state       string
	created     time.Time
	active      bool
	byEmail     bool // by its address alone
}

func newRows(tenants bool) *rows {
	return &rows{tenants: tenants, byID: map[string][]int{}, mentions: map[mention][]int{}, protected: map[string]bool{}}
}

// Protected implements inventory.Sink.
func (r *rows) Protected(id string) { r.protected[id] = true }

// Account implements inventory.Sink.
func (r *rows) Account(a inventory.Account) {
	if !r.tenants {
		a.Tenant = ""
	}
	n := len(r.accounts)
	r.accounts = append(r.accounts, account{Account: a})
	r.byID[a.ID] = append(r.byID[a.ID], n)
	r.mention(mention{a.Tenant, byID, a.External}, n)
	r.mention(mention{a.Tenant, byEmail, strings.ToLower(a.Email)}, n)
}

func (r *rows) mention(m mention, n int) {
	if m.value != "" {
		r.mentions[m] = append(r.mentions[m], n)
	}
}

// Membership implements inventory.Sink.
func (r *rows) Membership(m inventory.Membership) {
	if m.Group != "" {
		r.memberships = append(r.memberships, m)
	}
}

// meet notes a user with every account that mentions it.
func (r *rows) meet(at mention, m match) {
	if at.value == "" {
		return
	}
	for _, n := range r.mentions[at] {
		if a := &r.accounts[n]; !slices.Contains(a.matches, m) {
			a.matches = append(a.matches, m)
		}
	}
}

// follow lets whoever mentions a user that is not active mention the person, too: who came back has another user under the same id of
// the directory's.
func (r *rows) follow(user, person mention) {
	if person.value == "" {
		return
	}
	for _, n := range r.mentions[user] {
		if !slices.Contains(r.mentions[person], n) {
			r.mentions[person] = append(r.mentions[person], n)
			r.followed++
		}
	}
}
