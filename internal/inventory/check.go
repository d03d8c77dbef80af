package inventory

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

// Store is what is known of directories and links.
type Store interface {
	store.Inventory
	Exemptions(ctx context.Context) ([]store.Exemption, error)
}

// Checker compares an application with a store.
type Checker struct {
	Store       Store
	Application Application
	Now         func() time.Time
	// Pause is the time between two looks. While changes are being bound the two sides are read at different moments; what is
	// found counts only if a second look, after the pause, finds it again.
	Pause time.Duration
}

// page is how many accounts are read at once.
const page = 5000

// Check compares. ErrNotListed when the application does not list its accounts.
func (c Checker) Check(ctx context.Context) (Report, error) {
	if c.Application.Accounts == "" {
		return Report{}, ErrNotListed
	}
	first, err := c.look(ctx)
	if err != nil || first.Clean() {
		return first, err
	}
	timer := time.NewTimer(c.Pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return Report{}, ctx.Err()
	case <-timer.C:
	}
	second, err := c.look(ctx)
	before := map[Finding]bool{}
	for _, f := range first.Findings {
		before[f.bare()] = true
	}
	second.Findings = slices.DeleteFunc(second.Findings, func(f Finding) bool { return !before[f.bare()] })
	return second, err
}

// bare is the finding without what only describes it.
func (f Finding) bare() Finding {
	f.Email, f.GroupName, f.Detail = "", "", ""
	return f
}

func (c Checker) look(ctx context.Context) (Report, error) {
	known, err := c.known(ctx)
	if err != nil {
		return Report{}, err
	}
	comparison := Compare(known)
	var last directory.ID
	for {
		accounts, err := c.Store.Standings(ctx, last, page)
		if err != nil {
			return Report{}, err
		}
		if len(accounts) == 0 {
			break
		}
		for _, a := range accounts {
			comparison.Standing(a)
		}
		last = accounts[len(accounts)-1].ID
	}
	if err := c.Application.Read(ctx, comparison); err != nil {
		return Report{}, err
	}
	return comparison.Report(), nil
}

func (c Checker) known(ctx context.Context) (k Known, err error) {
	k = Known{Tenants: c.Application.Tenant != nil, Memberships: c.Application.Memberships != "", Now: c.Now()}
	directories, err := c.Store.Directories(ctx)
	if err != nil {
		return k, err
	}
	for _, d := range directories {
		found := Directory{Scope: d.Scope, Organization: d.Organization, Ended: d.Ended, Mode: d.Mode, Known: true}
		if k.Tenants {
			if found.Tenant, found.Known, err = c.Application.Tenant(ctx, d.Organization); err != nil {
				return k, fmt.Errorf("look up the tenant of organization %s: %w", d.Organization, err)
			}
		}
		k.Directories = append(k.Directories, found)
	}
	if k.Groups, err = c.Store.Groups(ctx); err != nil {
		return k, err
	}
	k.Exemptions, err = c.Store.Exemptions(ctx)
	return k, err
}
