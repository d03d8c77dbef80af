package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/rollcallhq/rollcall/internal/app"
	"github.com/rollcallhq/rollcall/secrets"
)

func (c *cli) vault() *cobra.Command {
	return group("vault", "What Rollcall needs of Vault", &cobra.Command{
		Use:   "policy",
		Short: "Print the least policy that a process of this configuration needs",
		Long: `Prints HCL for ` + "`vault policy write`" + `: read on the secrets that the configuration refers
to, and on the process's own token. Nothing is asked of Vault.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			l, err := c.loadFor(true)
			if err != nil {
				return err
			}
			conf := app.SecretsConfig(l.Config)
			conf.Refs = app.References(l.Config)
			if !app.UsesVault(l.Config) {
				c.say("no reference of this configuration begins with vault: it needs no secret of Vault's")
			}
			_, err = fmt.Fprint(c.out, secrets.Policy(conf))
			return err
		},
	})
}
