package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/rollcallhq/rollcall/internal/app"
	"github.com/rollcallhq/rollcall/internal/config"
)

func (c *cli) config() *cobra.Command {
	return group("config", "Look at the configuration", c.configCheck(), c.configPrint(), c.configReference())
}

func (c *cli) configCheck() *cobra.Command {
	return &cobra.Command{
		Use: "check", Short: "Check the configuration, and the application's statements", Args: cobra.NoArgs,
		Long: `Checks every key, and prepares the application's statements on its database, which runs none of
them. Where that database cannot be reached it says so, and checks the rest.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := c.load()
			if err != nil {
				return err
			}
			if err := app.CheckSources(l.Config); err != nil {
				return err
			}
			if err := app.CheckApplication(l.Config); err != nil {
				return err
			}
			switch problems, err := app.PrepareApplication(cmd.Context(), l.Config); {
			case err != nil:
				c.say("warning: the application's statements were not tried on its database: %v", err)
			case len(problems) > 0:
				return fmt.Errorf("%w: %w", config.ErrInvalid, problemsError(problems))
			}
			c.say("the configuration is good (digest %s); `rollcall doctor` examines what it names", l.Digest())
			return nil
		},
	}
}

func (c *cli) configPrint() *cobra.Command {
	return &cobra.Command{
		Use:   "print",
		Short: "Print the whole configuration as it is in force, with secrets struck out",
		Long:  `Prints YAML that --config reads. A comment says what is not a default and where it comes from.`,
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			l, err := c.loadFor(true)
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(c.out, l.Redacted())
			return err
		},
	}
}

func (c *cli) configReference() *cobra.Command {
	return &cobra.Command{
		Use: "reference", Short: "Print the manual of all keys, as Markdown", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprint(c.out, config.Reference())
			return err
		},
	}
}
