package simulator

import (
	"encoding/json"
	"math/rand/v2"
	"time"
)

// The shapes of https://workos.com/docs/events, as they are sent since raw attributes, emails, username and job_title
// went empty or away.

type envelope struct {
	Object    string   `json:"object"`
	ID        string   `json:"id"`
	Event     string   `json:"event"`
	Data      any      `json:"data"`
	CreatedAt string   `json:"created_at"`
	Context   struct{} `json:"context"`
}

type connectionData struct {
	Object         string       `json:"object"`
	ID             string       `json:"id"`
	OrganizationID string       `json:"organization_id"`
	Type           string       `json:"type"`
	State          string       `json:"state"`
	Name           string       `json:"name"`
	ExternalKey    string       `json:"external_key,omitempty"`
	Domains        []domainData `json:"domains,omitempty"`
	CreatedAt      string       `json:"created_at"`
	UpdatedAt      string       `json:"updated_at"`
}

type domainData struct {
	Object string `json:"object"`
	ID     string `json:"id"`
	Domain string `json:"domain"`
}

type userData struct {
	Object             string            `json:"object"`
	ID                 string            `json:"id"`
	DirectoryID        string            `json:"directory_id"`
	OrganizationID     string            `json:"organization_id"`
	IDPID              string            `json:"idp_id"`
	Email              string            `json:"email"`
	FirstName          string            `json:"first_name"`
	LastName           string            `json:"last_name"`
	Name               string            `json:"name"`
	State              string            `json:"state"`
	RawAttributes      struct{}          `json:"raw_attributes"`
	CustomAttributes   map[string]string `json:"custom_attributes"`
	Role               roleData          `json:"role"`
	Roles              []roleData        `json:"roles"`
	CreatedAt          string            `json:"created_at"`
	UpdatedAt          string            `json:"updated_at"`
	PreviousAttributes changes           `json:"previous_attributes,omitzero"`
}

type roleData struct {
	Slug string `json:"slug"`
}

type groupData struct {
	Object             string   `json:"object"`
	ID                 string   `json:"id"`
	IDPID              string   `json:"idp_id"`
	DirectoryID        string   `json:"directory_id"`
	OrganizationID     string   `json:"organization_id"`
	Name               string   `json:"name"`
	RawAttributes      struct{} `json:"raw_attributes"`
	CreatedAt          string   `json:"created_at"`
	UpdatedAt          string   `json:"updated_at"`
	PreviousAttributes changes  `json:"previous_attributes,omitzero"`
}

type membershipData struct {
	DirectoryID string    `json:"directory_id"`
	User        userData  `json:"user"`
	Group       groupData `json:"group"`
}

// changes are previous_attributes: what the values were that are others now; nil in what is no update.
type changes map[string]any

// tellDirectory delivers what the company's directory says of itself.
func (c *company) tellDirectory(event, summary string) {
	c.sim.tell(c, event, summary, connectionData{
		Object: "directory", ID: c.id, OrganizationID: c.organization, Type: c.kind, State: active, Name: c.name,
		ExternalKey: letters(c.Rand, 16), Domains: []domainData{{"organization_domain", "org_domain_" + c.sim.ids.at(c.sim.now), c.domain}},
		CreatedAt: stamp(c.created), UpdatedAt: stamp(c.sim.now),
	})
}

// tellUser delivers the person's whole state.
func (c *company) tellUser(event string, p *person, before changes, summary string) {
	p.updated = c.sim.now
	data := c.userData(p)
	data.PreviousAttributes = before
	c.sim.tell(c, event, summary, data)
}

// tellGroup delivers the group's whole state.
func (c *company) tellGroup(event string, g *group, before changes, summary string) {
	g.updated = c.sim.now
	data := c.groupData(g)
	data.PreviousAttributes = before
	c.sim.tell(c, event, summary, data)
}

// tellMembership delivers an edge, with copies of its ends. The person's is a stale one now and then, that says active
// of somebody who is not: it must count for nothing.
func (c *company) tellMembership(event string, p *person, g *group, summary string) {
	data := membershipData{DirectoryID: c.id, User: c.userData(p), Group: c.groupData(g)}
	if c.IntN(4) == 0 {
		data.User.State = active
	}
	c.sim.tell(c, event, summary, data)
}

func (c *company) userData(p *person) userData {
	state, role := p.state, roleData{"member"}
	if state == deleted {
		state = inactive
	}
	return userData{
		Object: "directory_user", ID: p.id, DirectoryID: c.id, OrganizationID: c.organization, IDPID: p.idp, Email: p.email,
		FirstName: p.first, LastName: p.last, Name: p.name(), State: state, CustomAttributes: map[string]string{"department": p.department},
		Role: role, Roles: []roleData{role}, CreatedAt: stamp(p.created), UpdatedAt: stamp(p.updated),
	}
}

func (c *company) groupData(g *group) groupData {
	return groupData{
		Object: "directory_group", ID: g.id, IDPID: g.idp, DirectoryID: c.id, OrganizationID: c.organization, Name: g.name,
		CreatedAt: stamp(g.created), UpdatedAt: stamp(g.updated),
	}
}

func (d *Directory) tell(c *company, event, summary string, data any) {
	id := "event_" + d.ids.at(d.now)
	body, err := json.Marshal(envelope{Object: "event", ID: id, Event: event, Data: data, CreatedAt: stamp(d.now)})
	if err != nil {
		panic(err) // strings, and maps of strings: there is nothing that could fail
	}
	d.out = append(d.out, Delivery{ID: id, Type: event, Directory: c.id, Occurred: d.now, Body: body, Summary: summary})
}

func stamp(t time.Time) string { return t.Format("2006-01-02T15:04:05.000Z") }

// ulid is a ULID: its time, and 80 bits of chance.
type ulid struct {
	ms   int64
	high uint16
	low  uint64
}

// time is the time in it.
func (u ulid) time() time.Time { return time.UnixMilli(u.ms).UTC() }

// String is the ULID as text.
func (u ulid) String() string {
	const alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	high, low := uint64(u.ms)<<16|uint64(u.high), u.low //nolint:gosec // times after 1970
	var b [26]byte
	for i := range b {
		b[25-i] = alphabet[low&31]
		low, high = low>>5|high<<59, high>>5
	}
	return string(b[:])
}

// ulids makes ULIDs that ascend even within one millisecond.
type ulids struct {
	random *rand.Rand
	last   ulid
}

func (u *ulids) next(t time.Time) ulid {
	if ms := t.UnixMilli(); ms != u.last.ms {
		u.last = ulid{ms, uint16(u.random.Uint32() & 0xffff), u.random.Uint64() >> 1}
	} else {
		u.last.low += 1 + u.random.Uint64N(1<<32)
	}
	return u.last
}

func (u *ulids) at(t time.Time) string { return u.next(t).String() }
