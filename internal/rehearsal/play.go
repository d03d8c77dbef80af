package rehearsal

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

func says(p directory.Person) directory.Event {
	return directory.Event{Subject: directory.SubjectUser, User: &p}
}

func removed(p directory.Person) directory.Event {
	p.State = "inactive"
	return directory.Event{Subject: directory.SubjectUser, User: &p, Removes: true}
}

func (p *play) group(n int, name string) directory.Event {
	return directory.Event{Subject: directory.SubjectGroup, Group: &directory.Team{ID: p.groupID(n), Name: name}}
}

func (p *play) groupID(n int) string { return fmt.Sprintf("%s_group_%d", p.scope.Directory, n) }

func (p *play) member(who directory.Person, group int) directory.Event {
	return directory.Event{Subject: directory.SubjectMembership, Membership: &directory.Membership{Group: p.groupID(group), User: who.ID}}
}

func (p *play) noMember(who directory.Person, group int) directory.Event {
	e := p.member(who, group)
	e.Removes = true
	return e
}

// joiner is somebody new, with a group.
func joiner(ctx context.Context, p *play) error {
	return errors.Join(p.joins(ctx, p.person(1)), p.hasAccess(ctx, p.person(1)))
}

func (p *play) joins(ctx context.Context, who directory.Person) error {
	return p.tell(ctx, p.group(1, "Rehearsal"), says(who), p.member(who, 1))
}

// mover is somebody who changes groups and name.
func mover(ctx context.Context, p *play) error {
	who := p.person(1)
	if err := p.joins(ctx, who); err != nil {
		return err
	}
	who.LastName, who.Name = "Moved", "Rehearsal Moved"
	if err := p.tell(ctx, p.group(2, "Rehearsal 2"), says(who), p.member(who, 2), p.noMember(who, 1)); err != nil {
		return err
	}
	return errors.Join(p.took(directory.GrantRevoked), p.hasAccess(ctx, who))
}

// leaver is one of two people of a group, and takes the other along nowhere.
func leaver(ctx context.Context, p *play) error {
	who, other := p.person(1), p.person(2)
	if err := errors.Join(p.joins(ctx, who), p.joins(ctx, other)); err != nil {
		return err
	}
	return errors.Join(p.tell(ctx, removed(who)), p.hasNoAccess(ctx, who), p.hasAccess(ctx, other))
}

func suspended(ctx context.Context, p *play) error {
	who := p.person(1)
	if err := p.joins(ctx, who); err != nil {
		return err
	}
	away := who
	away.State = "suspended"
	e := says(away)
	e.Removes = true
	if err := errors.Join(p.tell(ctx, e), p.hasNoAccess(ctx, who)); err != nil {
		return err
	}
	return errors.Join(p.tell(ctx, says(who)), p.hasAccess(ctx, who))
}

// unknownLeaver is somebody whom the application does not have. Nobody else may lose anything by it.
func unknownLeaver(ctx context.Context, p *play) error {
	other := p.person(1)
	if err := p.joins(ctx, other); err != nil {
		return err
	}
	return errors.Join(p.tell(ctx, removed(p.person(2))), p.hasAccess(ctx, other))
}

// rehire is somebody who leaves and comes back, under a new id of the provider and the same of the directory.
func rehire(ctx context.Context, p *play) error {
	who := p.person(1)
	if err := p.joins(ctx, who); err != nil {
		return err
	}
	if err := errors.Join(p.tell(ctx, removed(who)), p.hasNoAccess(ctx, who)); err != nil {
		return err
	}
	again := p.person(2)
	again.IDPID, again.Profile = who.IDPID, who.Profile
	return errors.Join(p.tell(ctx, says(again), p.member(again, 1)), p.hasAccess(ctx, again))
}

// recycled is somebody new with the address of somebody who left.
func recycled(ctx context.Context, p *play) error {
	old := p.person(1)
	if err := p.joins(ctx, old); err != nil {
		return err
	}
	before, err := p.link(ctx, old)
	if err != nil {
		return err
	}
	if err := errors.Join(p.tell(ctx, removed(old)), p.hasNoAccess(ctx, old)); err != nil {
		return err
	}
	heir := p.person(2)
	heir.Email = old.Email
	if err := errors.Join(p.tell(ctx, says(heir)), p.hasAccess(ctx, heir)); err != nil {
		return err
	}
	after, err := p.link(ctx, heir)
	if err == nil && after.State == store.Linked && after.AppID == before.AppID {
		err = fmt.Errorf("the newcomer with the address of somebody who left is that person, %s, to the application", after.AppID)
	}
	return errors.Join(err, p.hasNoAccess(ctx, old))
}

func twoGroups(ctx context.Context, p *play) error {
	who := p.person(1)
	if err := p.tell(ctx, p.group(1, p.RoleGroups[0]), p.group(2, p.RoleGroups[1]), says(who), p.member(who, 1), p.member(who, 2)); err != nil {
		return err
	}
	if err := p.took(directory.RoleAdded); err != nil {
		return err
	}
	if err := p.tell(ctx, p.noMember(who, 1)); err != nil {
		return err
	}
	if p.happened(directory.RoleRevoked) {
		return fmt.Errorf("the role %s was revoked though another group gives it", p.Role)
	}
	return errors.Join(p.tell(ctx, p.noMember(who, 2)), p.took(directory.RoleRevoked), p.hasAccess(ctx, who))
}

func oneGroup(ctx context.Context, p *play) error {
	who := p.person(1)
	if err := p.tell(ctx, p.group(1, p.RoleGroups[0]), says(who), p.member(who, 1)); err != nil {
		return err
	}
	return errors.Join(p.took(directory.RoleAdded), p.tell(ctx, p.noMember(who, 1)), p.took(directory.RoleRevoked), p.hasAccess(ctx, who))
}

func groupEnds(ctx context.Context, p *play) error {
	who := p.person(1)
	if err := p.joins(ctx, who); err != nil {
		return err
	}
	end := p.group(1, "Rehearsal")
	end.Removes = true
	if err := p.tell(ctx, end); err != nil {
		return err
	}
	if err := errors.Join(p.expand(ctx), p.tell(ctx)); err != nil {
		return err
	}
	return errors.Join(p.took(directory.GrantRevoked), p.hasAccess(ctx, who))
}

func directoryEnds(ctx context.Context, p *play) error {
	who, other := p.person(1), p.person(2)
	if err := errors.Join(p.joins(ctx, who), p.joins(ctx, other)); err != nil {
		return err
	}
	end := directory.Event{Subject: directory.SubjectDirectory, Connection: &directory.Connection{Name: "Rehearsal"}, Removes: true}
	decision := directory.Event{Subject: directory.SubjectDecision, Decision: directory.DecisionDeprovision}
	if err := p.tell(ctx, end, decision); err != nil {
		return err
	}
	if err := errors.Join(p.expand(ctx), p.tell(ctx)); err != nil {
		return err
	}
	return errors.Join(p.hasNoAccess(ctx, who), p.hasNoAccess(ctx, other))
}

// took is nil when a change of this kind took effect, or nothing is configured for it.
func (p *play) took(kind directory.ChangeKind) error {
	if !p.happened(kind) {
		return fmt.Errorf("no %s came of it", kind)
	}
	return nil
}

func (p *play) happened(kind directory.ChangeKind) bool {
	return slices.ContainsFunc(p.steps, func(s Step) bool { return s.Kind == kind })
}

func (p *play) link(ctx context.Context, who directory.Person) (store.Link, error) {
	return p.binder.Lookup(ctx, p.account(who))
}

func (p *play) account(who directory.Person) directory.ID {
	u := directory.User{ID: directory.ID{Scope: p.scope, ID: who.ID}, IDPID: who.IDPID}
	return directory.ID{Scope: p.scope, ID: u.AccountKey()}
}

// hasAccess checks that the application has an active user for the person.
func (p *play) hasAccess(ctx context.Context, who directory.Person) error {
	if p.binder.Link == nil {
		return nil // nothing says which of its users it is
	}
	link, err := p.link(ctx, who)
	switch {
	case err != nil:
		return err
	case link.State != store.Linked:
		return fmt.Errorf("the application has no user for somebody who joined: %s%s", link.State, because(link.Detail))
	}
	return p.listed(ctx, link.AppID, true)
}

// hasNoAccess checks that the end of a person took effect, that no probe finds anything left, and that the application does not
// list them as active.
func (p *play) hasNoAccess(ctx context.Context, who directory.Person) error {
	last := Step{}
	for _, s := range p.steps {
		if s.Kind == directory.AccountDeactivated {
			last = s
		}
	}
	switch last.Result {
	case store.ResultBound:
	case store.ResultNone:
		return errors.New("no binding is for account.deactivated: nothing ends")
	default:
		return fmt.Errorf("the end of somebody's access came to %q%s", last.Result, because(last.Error))
	}
	if p.binder.Link == nil {
		return nil
	}
	verdicts, err := p.binder.Probe(ctx, p.account(who))
	if err != nil {
		return err
	}
	p.steps[len(p.steps)-1].Probes = append(p.steps[len(p.steps)-1].Probes, verdicts...)
	for _, v := range verdicts {
		if v.Result != "clean" {
			return fmt.Errorf("probe %s says %s of somebody who left%s", v.Probe, v.Result, because(v.Detail))
		}
	}
	link, err := p.link(ctx, who)
	if err != nil || link.State != store.Linked {
		return err
	}
	return p.listed(ctx, link.AppID, false)
}

func (p *play) listed(ctx context.Context, appID string, want bool) error {
	if p.Active == nil {
		return nil
	}
	active, err := p.Active(ctx, p.db)
	switch {
	case err != nil:
		return fmt.Errorf("the inventory: %w", err)
	case active[appID] && !want:
		return fmt.Errorf("the application's inventory lists %s as active, who left", appID)
	case !active[appID] && want:
		return fmt.Errorf("the application's inventory does not list %s, who joined, as active", appID)
	}
	return nil
}

func because(detail string) string {
	if detail == "" {
		return ""
	}
	return ": " + detail
}
