package reconcile_test

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/rollcallhq/rollcall/internal/directory"
)

// random puts people, groups and memberships of all kinds into the registers, and a directory beside them that has its own mind.
func (r *rig) random(seed uint64) {
	r.t.Helper()
	g := rand.New(rand.NewPCG(seed, 5))
	name := func(n int) string { return fmt.Sprintf("r%02d", n) }
	var events []directory.Event
	clear(r.listing.users)
	r.listing.teams = map[string]team{}
	for n := range 20 {
		r.hires(1, name(n))
	}
	for range 150 {
		minute, group, user := int(seed)*100+g.IntN(60), "g"+name(g.IntN(6)), "user_"+name(g.IntN(20))
		switch g.IntN(6) {
		case 0, 1:
			events = append(events, r.told(minute, user))
		case 2:
			events = append(events, r.leaves(minute, user))
		case 3:
			events = append(events, r.toldGroup(minute, group, g.IntN(2) == 0))
		default:
			events = append(events, r.member(minute, group, user, g.IntN(3) == 0))
		}
	}
	r.fold(events...)
	r.settle()
	var users []string
	for n := range 20 {
		id := "user_" + name(n)
		p := r.listing.users[id]
		p.updated = r.at(int(seed)*100 + g.IntN(80))
		switch g.IntN(4) {
		case 0:
			delete(r.listing.users, id)
			continue
		case 1:
			p.state = "inactive"
		case 2:
			p.email = fmt.Sprintf("%d-%s", seed, p.email)
		}
		r.listing.users[id] = p
		users = append(users, id)
	}
	for n := range 4 {
		t := team{name: fmt.Sprintf("Team %d of %d", n, seed), updated: r.at(int(seed)*100 + g.IntN(80))}
		for _, u := range users {
			if g.IntN(3) == 0 {
				t.members = append(t.members, u)
			}
		}
		r.listing.teams["g"+name(n)] = t
	}
}

// expected is who is active, and granted what, by the listing alone.
func (r *rig) expected() (lines []string) {
	for id, p := range r.listing.users {
		if p.state != "active" {
			continue
		}
		lines = append(lines, theDirectory+" "+p.idp+" "+p.email)
		for group, t := range r.listing.teams {
			if slices.Contains(t.members, id) {
				lines = append(lines, theDirectory+" grant "+p.idp+" "+group)
			}
		}
	}
	slices.Sort(lines)
	return lines
}
