package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rollcallhq/rollcall/internal/config"
	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/provider/operator"
	"github.com/rollcallhq/rollcall/internal/store"
)

// directoryJSON is a directory with what it comes to. Status is live, held, kept or ended; see statusOf.
type directoryJSON struct {
	Source       string     `json:"source"`
	Directory    string     `json:"directory"`
	Name         string     `json:"name,omitempty"`
	Organization string     `json:"organization,omitempty"`
	Status       string     `json:"status"`
	State        string     `json:"state,omitempty"` // the provider's word
	Mode         string     `json:"mode,omitempty"`
	Removed      *time.Time `json:"removed,omitempty"` // by the provider
	Decision     string     `json:"decision,omitempty"`
	DecidedBy    string     `json:"decided_by,omitempty"` // the operator's event
	Accounts     int64      `json:"accounts"`
	Active       int64      `json:"active"`
	Grants       int64      `json:"grants"`
}

func directoryOf(d store.DirectoryTally) directoryJSON {
	out := directoryJSON{
		Source: d.Source, Directory: d.Directory, Name: d.Name, Organization: d.Organization, Status: statusOf(d.Register), State: d.State, Mode: string(d.Mode),
		Accounts: d.Accounts, Active: d.Active, Grants: d.Grants,
	}
	if d.Removed {
		out.Removed = optional(d.Version.Time())
	}
	if d.Decision != directory.DecisionNone {
		out.Decision, out.DecidedBy = string(d.Decision), d.DecisionVersion.EventID()
	}
	return out
}

// statusOf says what has become of a directory: live; held, which its provider deleted and nobody decided on; kept, which an
// operator decided; or ended.
func statusOf(r directory.Register) string {
	switch {
	case r.Ended:
		return "ended"
	case r.Held():
		return "held"
	case r.Removed:
		return "kept"
	default:
		return "live"
	}
}

func (c *cli) directories() *cobra.Command {
	return group("directories", "Customers' directories: what their changes do, and what the end of one means", append(c.modeCommands(), c.directoriesList(),
		c.directoriesDecide("hold", operator.Hold, "Let the accounts of a directory live though its provider deleted it",
			"A directory that came back is given back, by this, what an earlier end took away. Nobody\nannounces the leavers of a deleted directory: this is for the time until it is connected again."),
		c.directoriesDecide("deprovision", operator.Deprovision, "End the accounts of a directory that its provider deleted",
			"All its accounts and grants end, the views say so at once, and bindings are told in chunks.\nIt is refused while the provider still has the directory."),
		c.directoriesDecide("release", operator.Release, "Take back what was decided of a directory",
			"The source's on_directory_deleted then says again what its end means."))...)
}

func (c *cli) directoriesList() *cobra.Command {
	var source string
	cmd := &cobra.Command{
		Use: "list", Short: "List directories with how many have access", Args: cobra.NoArgs,
		Long: `STATUS is live; held: its provider deleted it, its accounts count until an operator decides;
kept: an operator decided that they do; or ended. STATE is the provider's word, which ends nothing.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withStore(cmd.Context(), func(s store.Store) error { return c.listDirectories(cmd.Context(), s, source) })
		},
	}
	cmd.Flags().StringVar(&source, "source", "", "only directories of this `source`")
	return c.outputFlag(cmd)
}

func (c *cli) listDirectories(ctx context.Context, s store.Store, source string) error {
	rows, err := s.Tallies(ctx)
	if err != nil {
		return err
	}
	out, t := []directoryJSON{}, table{head: []string{"DIRECTORY", "NAME", "STATUS", "STATE", "MODE", "ACCOUNTS", "ACTIVE", "GRANTS", "ORGANIZATION", "SOURCE"}}
	for _, row := range rows {
		if source != "" && row.Source != source {
			continue
		}
		d := directoryOf(row)
		out = append(out, d)
		t.add(d.Directory, d.Name, d.Status, d.State, d.Mode, number(d.Accounts), number(d.Active), number(d.Grants), d.Organization, d.Source)
	}
	if len(out) == 0 {
		c.say("none")
	}
	return c.print(out, t)
}

func number(n int64) string { return strconv.FormatInt(n, 10) }

// counted is a number of things: 1 account, 2 accounts.
func counted(n int64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return number(n) + " " + thing + "s"
}

func (c *cli) directoriesDecide(use, eventType, short, long string) *cobra.Command {
	var source string
	var d deciding
	cmd := &cobra.Command{
		Use: use + " DIRECTORY", Short: short, Args: cobra.ExactArgs(1),
		Long: short + ".\n\n" + long + "\n\nIt first says what would change; --yes does it. The ledger keeps the reason, and the name in\n$ROLLCALL_OPERATOR or of the user who is logged in.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := d.check(); err != nil {
				return err
			}
			return c.withConfiguredStore(cmd.Context(), func(l config.Loaded, s store.Store) error {
				row, err := oneDirectory(cmd.Context(), s, source, args[0])
				if err != nil {
					return err
				}
				return c.decideDirectory(cmd.Context(), l.Config, s, row, eventType, d)
			})
		},
	}
	cmd.Flags().StringVar(&source, "source", "", "the directory's `source`, where several have one of this id")
	d.flags(cmd)
	return cmd
}

func oneDirectory(ctx context.Context, s store.Store, source, id string) (found store.DirectoryTally, err error) {
	rows, err := s.Tallies(ctx)
	if err != nil {
		return found, err
	}
	var sources []string
	for _, row := range rows {
		if row.Directory == id && (source == "" || row.Source == source) {
			found, sources = row, append(sources, row.Source)
		}
	}
	switch len(sources) {
	case 1:
		return found, nil
	case 0:
		return found, fmt.Errorf("directory %s: %w\nhint: `rollcall directories list` shows all", id, store.ErrNotFound)
	default:
		return found, fmt.Errorf("%w: several sources have a directory %s\nhint: --source is one of %s", errUsage, id, strings.Join(sources, ", "))
	}
}

func (c *cli) decideDirectory(ctx context.Context, conf config.Config, s store.Store, row store.DirectoryTally, eventType string, d deciding) error {
	policy := directory.DecisionKeep
	if conf.Sources[row.Source].OnDeleted == config.Deprovision {
		policy = directory.DecisionDeprovision
	}
	decision := operator.Decision(eventType)
	if done, err := decidable(row.Register, decision); err != nil || done != "" {
		if done != "" {
			c.say("nothing to do: %s", done)
		}
		return err
	}
	if err := previewDirectory(row, row.Decided(decision, policy)).write(c.out); err != nil {
		return err
	}
	if err := d.consent(); err != nil {
		return err
	}
	e := operator.Event{Type: eventType, Directory: row.Directory, Organization: row.Organization}
	return c.decide(ctx, s, row.Source, e, d, row.Floor, row.DecisionVersion)
}

// decidable reports why a directory cannot be decided on like this, or why that was done already.
func decidable(r directory.Register, decision directory.Decision) (done string, err error) {
	stands := r.DecisionVersion > r.Floor || r.Decision == directory.DecisionDeprovision
	switch {
	case decision == directory.DecisionRelease && r.Decision == directory.DecisionNone:
		return "no decision on it stands", nil
	case decision == r.Decision && stands:
		return "that is decided already, by " + r.DecisionVersion.EventID(), nil
	case r.Removed || decision == directory.DecisionRelease:
		return "", nil
	case decision == directory.DecisionDeprovision:
		return "", fmt.Errorf("directory %s was not ended by its provider: its accounts live, and it speaks for them\n"+
			"hint: delete it at the provider first; `rollcall accounts deprovision WHO` ends one account", r.Directory)
	case r.Decision != directory.DecisionDeprovision:
		return "", fmt.Errorf("directory %s was not ended by its provider: there is nothing to hold\n"+
			"hint: sources.%s.on_directory_deleted says what its end will mean", r.Directory, r.Source)
	default:
		return "", nil
	}
}

// previewDirectory says what a directory is, and what would become of it.
func previewDirectory(row store.DirectoryTally, after directory.Register) (t table) {
	d := directoryOf(row)
	status := d.Status + prefixed(", its provider says ", d.State)
	if row.Removed {
		status = d.Status + ", its provider deleted it at " + when(row.Version.Time())
	}
	for _, line := range [][2]string{
		{"directory", d.Directory}, {"source", d.Source}, {"name", d.Name}, {"organization", d.Organization}, {"status", status},
		{"decided", d.Decision + prefixed(" by ", d.DecidedBy)}, {"accounts", fmt.Sprintf("%d, %d of them active", d.Accounts, d.Active)}, {"grants", number(d.Grants)},
		{"becomes", statusOf(after)}, {"effect", decisionEffect(row, after)},
	} {
		t.add(line[0], line[1])
	}
	return t
}

// decisionEffect says who would lose, or get back, what.
func decisionEffect(row store.DirectoryTally, after directory.Register) string {
	switch {
	case after.Ended && !row.Ended:
		return fmt.Sprintf("access ends for %s, with %s", counted(row.Active, "active account"), counted(row.Grants, "grant"))
	case row.EndFloor != "" && after.EndFloor == "":
		return "access comes back to up to " + counted(row.Barred, "account") + ", from which the directory's end took it"
	case row.Held() && !after.Held():
		return "nobody's access changes; the alarm about it ends"
	case after.Held() && !row.Held():
		return "nobody's access changes; it is an alarm again, until somebody decides"
	default:
		return "nobody's access changes"
	}
}
