package main

import (
	"github.com/spf13/cobra"

	"github.com/rollcallhq/rollcall/internal/app"
)

func (c *cli) serve() *cobra.Command {
	var roles string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the service until SIGTERM",
		Long: `Runs the roles that the configuration names: the receiver takes deliveries, the
worker folds them into the database. The log goes to standard error. On SIGTERM it
becomes unready, drains, finishes the batch in hand, gives its leases back, and exits 0.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if roles != "" {
				c.set = append(c.set, "roles="+roles)
			}
			l, err := c.load()
			if err != nil {
				return err
			}
			log := app.NewLog(l.Log, c.talk)
			a, err := app.New(cmd.Context(), app.Options{Config: l.Config, Version: version, Log: log})
			if err != nil {
				return err
			}
			log.Info().Str("version", version).Str("environment", l.Environment).Strs("roles", l.Roles).Str("config", l.Digest()).Msg("starting")
			err = a.Run(cmd.Context())
			log.Info().Msg("stopped")
			return err
		},
	}
	cmd.Flags().StringVar(&roles, "roles", "", "what this process does: `receiver,worker` or one of them")
	return cmd
}
