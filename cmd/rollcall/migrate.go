package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rollcallhq/rollcall/internal/app"
)

func (c *cli) migrate() *cobra.Command {
	var show bool
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Bring the database's schema to what this binary needs",
		Long: `Applies pending migrations in one transaction, under a lock that several starters
share, and names the database's environment. Running it again changes nothing.
Migrations only expand: the binary before this one runs on the schema after.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			l, err := c.loadFor(true)
			if err != nil {
				return err
			}
			if show {
				return c.printMigrations(l.Store.Backend)
			}
			s, err := app.OpenStore(cmd.Context(), l.Config, version)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, s.Close()) }()
			done, err := s.Migrate(cmd.Context())
			if err != nil {
				return err
			}
			for _, m := range done {
				c.say("applied %04d_%s", m.Version, m.Name)
			}
			if len(done) == 0 {
				c.say("nothing to do: the schema is this binary's")
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&show, "print", false, "print the migrations' SQL, for whoever applies it by hand, and connect to nothing")
	return cmd
}

func (c *cli) printMigrations(backend string) error {
	for _, m := range app.Migrations(backend) {
		if _, err := fmt.Fprintf(c.out, "-- %04d_%s, sha256 %s\n%s\n", m.Version, m.Name, m.Checksum, strings.TrimSpace(m.SQL)); err != nil {
			return err
		}
	}
	return nil
}
