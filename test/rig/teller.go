package rig

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/rollcallhq/rollcall/internal/simulator"
)

// Teller tells of one directory as WorkOS does, of people and groups that a test knows by their numbers. What it tells is
// a millisecond later each time. It belongs to one goroutine.
type Teller struct {
	Directory, Organization string

	at time.Time
	n  int
}

// NewTeller makes one whose first delivery is of that time.
func NewTeller(directory string, from time.Time) *Teller {
	return &Teller{Directory: directory, Organization: "org_of_" + directory, at: from.UTC().Truncate(time.Millisecond)}
}

// Pass lets time pass.
func (l *Teller) Pass(d time.Duration) { l.at = l.at.Add(d) }

// IDP is the directory's own id of somebody, which is the account's key.
func (l *Teller) IDP(person int) string { return fmt.Sprintf("%s-%d", l.Directory, person) }

// Email is somebody's address.
func (l *Teller) Email(person int) string { return l.IDP(person) + "@example.com" }

// GroupID is the id of a group.
func (l *Teller) GroupID(group int) string { return fmt.Sprintf("group_%s_%d", l.Directory, group) }

// Begins tells of the directory, Ends that it was deleted.
func (l *Teller) Begins() simulator.Delivery { return l.tell("dsync.activated", l.directory("linked")) }

// Ends is Begins' opposite.
func (l *Teller) Ends() simulator.Delivery { return l.tell("dsync.deleted", l.directory("deleting")) }

// User tells of somebody, who is "active", "inactive" or "suspended".
func (l *Teller) User(person int, state string) simulator.Delivery {
	return l.tell("dsync.user.updated", l.user(person, state))
}

// Deleted tells that somebody was deleted.
func (l *Teller) Deleted(person int) simulator.Delivery {
	return l.tell("dsync.user.deleted", l.user(person, "inactive"))
}

// Group tells of a group.
func (l *Teller) Group(group int) simulator.Delivery {
	return l.tell("dsync.group.created", l.group(group))
}

// GroupEnds tells that it was deleted, and nothing of its members.
func (l *Teller) GroupEnds(group int) simulator.Delivery {
	return l.tell("dsync.group.deleted", l.group(group))
}

// Joins tells that somebody is in a group, Quits that they are not any more.
func (l *Teller) Joins(person, group int) simulator.Delivery {
	return l.tell("dsync.group.user_added", l.membership(person, group))
}

// Quits is the opposite of Joins.
func (l *Teller) Quits(person, group int) simulator.Delivery {
	return l.tell("dsync.group.user_removed", l.membership(person, group))
}

func (l *Teller) directory(state string) tree {
	return tree{"object": "directory", "id": l.Directory, "organization_id": l.Organization, "name": l.Directory, "state": state}
}

func (l *Teller) user(person int, state string) tree {
	return tree{
		"object": "directory_user", "id": fmt.Sprintf("directory_user_%s_%d", l.Directory, person), "directory_id": l.Directory, "organization_id": l.Organization,
		"idp_id": l.IDP(person), "email": l.Email(person), "first_name": "Person", "last_name": fmt.Sprint(person), "state": state,
		"created_at": "2026-01-05T00:00:00.000Z", "updated_at": l.stamp(),
	}
}

func (l *Teller) group(group int) tree {
	return tree{"object": "directory_group", "id": l.GroupID(group), "directory_id": l.Directory, "organization_id": l.Organization, "name": fmt.Sprint("Group ", group)}
}

func (l *Teller) membership(person, group int) tree {
	return tree{"directory_id": l.Directory, "user": l.user(person, "active"), "group": l.group(group)}
}

func (l *Teller) stamp() string { return l.at.Format("2006-01-02T15:04:05.000Z") }

func (l *Teller) tell(event string, data tree) simulator.Delivery {
	id := fmt.Sprintf("event_%s_%09d", l.Directory, l.n)
	body, err := json.Marshal(tree{"object": "event", "id": id, "event": event, "data": data, "created_at": l.stamp()})
	if err != nil {
		panic(err) // maps of strings: there is nothing that could fail
	}
	d := simulator.Delivery{ID: id, Type: event, Directory: l.Directory, Occurred: l.at, Body: body, Summary: id}
	l.n++
	l.at = l.at.Add(time.Millisecond)
	return d
}
