package simulator

import (
	"cmp"
	"encoding/json"
	"sort"
	"time"
)

// log is what a World told, in order, ascending by id. It grows and never changes. An event is kept as what it refers to and rendered
// when somebody reads it: the first sync of a large directory is told by more text than would fit.
type log struct {
	blocks [][]entry // each of blockSize but the last
}

const blockSize = 4096

// entry is an event.
type entry struct {
	id       ulid // and when
	kind     kind
	realm    *realm
	user     *user
	profile  *profile // what the user said then
	team     *team
	title    *title // what the group said then
	previous changes
}

// kind is a type of event.
type kind uint8

const (
	directoryActivated kind = iota
	directoryDeleted
	userCreated
	userUpdated
	userDeleted
	groupCreated
	groupUpdated
	groupDeleted
	memberAdded
	memberRemoved
)

// kinds are the types' names.
var kinds = [...]string{
	directoryActivated: "dsync.activated", directoryDeleted: "dsync.deleted",
	userCreated: "dsync.user.created", userUpdated: "dsync.user.updated", userDeleted: "dsync.user.deleted",
	groupCreated: "dsync.group.created", groupUpdated: "dsync.group.updated", groupDeleted: "dsync.group.deleted",
	memberAdded: "dsync.group.user_added", memberRemoved: "dsync.group.user_removed",
}

func (l *log) len() int {
	if len(l.blocks) == 0 {
		return 0
	}
	last := len(l.blocks) - 1
	return last*blockSize + len(l.blocks[last])
}

func (l *log) at(n int) *entry { return &l.blocks[n/blockSize][n%blockSize] }

func (l *log) add(e entry) {
	switch last := len(l.blocks) - 1; {
	case last < 0:
		l.blocks = append(l.blocks, nil)
	case len(l.blocks[last]) == blockSize:
		l.blocks = append(l.blocks, make([]entry, 0, blockSize))
	}
	last := len(l.blocks) - 1
	l.blocks[last] = append(l.blocks[last], e)
}

// find returns the place of the event of this id.
func (l *log) find(id string) (n int, ok bool) {
	n = sort.Search(l.len(), func(i int) bool { return l.at(i).eventID() >= id })
	return n, n < l.len() && l.at(n).eventID() == id
}

// since returns the place of the first event that is not before the time.
func (l *log) since(t time.Time) int {
	return sort.Search(l.len(), func(i int) bool { return !l.at(i).id.time().Before(t) })
}

func (e *entry) eventID() string { return "event_" + e.id.String() }

// body is the event as it is sent.
func (e *entry) body() []byte {
	text, err := json.Marshal(envelope{Object: "event", ID: e.eventID(), Event: kinds[e.kind], Data: e.data(), CreatedAt: stamp(e.id.time())})
	if err != nil {
		panic(err) // strings, and maps of strings: there is nothing that could fail
	}
	return text
}

func (e *entry) data() any {
	switch {
	case e.user != nil && e.team != nil:
		return membershipData{DirectoryID: e.realm.id, User: e.user.data(e.profile), Group: e.team.data(e.title)}
	case e.user != nil:
		data := e.user.data(e.profile)
		data.PreviousAttributes = e.previous
		return data
	case e.team != nil:
		data := e.team.data(e.title)
		data.PreviousAttributes = e.previous
		return data
	default:
		return e.realm.connection(e)
	}
}

func (e *entry) delivery() Delivery {
	return Delivery{ID: e.eventID(), Type: kinds[e.kind], Directory: e.realm.id, Occurred: e.id.time(), Body: e.body(), Summary: e.summary()}
}

// connection is what an event says of a directory. That of its end lacks what is no longer known.
func (r *realm) connection(e *entry) connectionData {
	data := connectionData{
		Object: "directory", ID: r.id, OrganizationID: r.organization, Type: r.kind, State: active, Name: r.name,
		CreatedAt: stamp(r.created), UpdatedAt: stamp(e.id.time()),
	}
	if e.kind == directoryActivated {
		data.ExternalKey, data.Domains = r.external, []domainData{{"organization_domain", "org_domain_" + e.id.String(), r.domain}}
	}
	return data
}

func (u *user) data(p *profile) userData {
	state, role := p.state, roleData{"member"}
	if state == deleted {
		state = inactive
	}
	return userData{
		Object: "directory_user", ID: u.id, DirectoryID: u.realm.id, OrganizationID: u.realm.organization, IDPID: u.human.idp, Email: p.email,
		FirstName: p.first, LastName: p.last, Name: p.name(), State: state, CustomAttributes: map[string]string{"department": p.department},
		Role: role, Roles: []roleData{role}, CreatedAt: stamp(u.created), UpdatedAt: stamp(p.updated),
	}
}

func (t *team) data(says *title) groupData {
	return groupData{
		Object: "directory_group", ID: t.id, IDPID: t.idp, DirectoryID: t.realm.id, OrganizationID: t.realm.organization, Name: says.name,
		CreatedAt: stamp(t.created), UpdatedAt: stamp(says.updated),
	}
}

// summary is a line for people.
func (e *entry) summary() string {
	var who, what string
	if e.profile != nil {
		who = e.profile.name()
	}
	if e.title != nil {
		what = e.title.name
	}
	switch e.kind {
	case directoryActivated:
		return e.realm.name + " was activated"
	case directoryDeleted:
		return e.realm.name + " was deleted"
	case userCreated:
		return who + " joined " + e.realm.name
	case userDeleted:
		return who + " was deleted"
	case userUpdated:
		return who + " is now " + e.profile.state
	case groupCreated:
		return what + " was created"
	case groupUpdated:
		was, _ := e.previous["name"].(string)
		return cmp.Or(was, what) + " is now " + what
	case groupDeleted:
		return what + " was deleted"
	case memberAdded:
		return who + " joined " + what
	default:
		return who + " left " + what
	}
}

// tell adds an event to the log, and again under another id where the provider says it twice.
func (w *World) tell(e entry) {
	if e.user != nil && e.profile == nil {
		e.profile = e.user.says
	}
	if e.team != nil {
		e.title = e.team.says
	}
	e.id = w.ids.next(w.now)
	w.log.add(e)
	if w.config.Double > 0 && w.random.Float64() < w.config.Double {
		e.id = w.ids.next(w.now)
		w.log.add(e)
	}
}

// DoubleEmit emits the last event again, under another id and at a later time, as it was seen to happen.
func (w *World) DoubleEmit() bool {
	return w.act(func() bool {
		n := w.log.len()
		if n == 0 {
			return false
		}
		e := *w.log.at(n - 1)
		e.id = w.ids.next(w.now)
		w.log.add(e)
		return true
	})
}
