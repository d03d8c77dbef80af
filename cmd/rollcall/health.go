package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	neturl "net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rollcallhq/rollcall/internal/app"
)

func (c *cli) health() *cobra.Command {
	var url string
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Ask a running process whether it is ready",
		Long: `For health checks of containers that have no shell and no curl. Exits 0 when it is ready, 5 when it is not,
or when what answers is another rollcall than the configuration's: one of another environment.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), 3*time.Second)
			defer cancel()
			if url != "" {
				return c.askHealth(ctx, url, func(app.Process) string { return "" })
			}
			l, err := c.loadFor(true)
			if err != nil {
				return err
			}
			url, err := readyURL(l.Ops.Address)
			if err != nil {
				return err
			}
			return c.askHealth(ctx, url, func(p app.Process) string {
				if c.defaults {
					return "" // nobody said which it should be
				}
				return p.Other(l.Config)
			})
		},
	}
	cmd.Flags().StringVar(&url, "url", "", "where the process answers, a `URL`; default http://127.0.0.1:PORT/readyz, with ops.address's port")
	return cmd
}

// askHealth asks a process whether it is ready; other says that it is not the one that was meant.
func (c *cli) askHealth(ctx context.Context, url string, other func(app.Process) string) error {
	if _, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil); err != nil {
		return fmt.Errorf("%w: --url: %w\nhint: it is written http://HOST:PORT/readyz", errUsage, err)
	}
	p, err := app.AskProcess(ctx, url+"?verbose")
	if err != nil {
		return fmt.Errorf("%w: nothing answers at %s: %w\nhint: is it running, and does its configuration have the same ops.address?", errCheck, url, cause(err))
	}
	if who := other(p); who != "" {
		return fmt.Errorf("%w: %s is held by %s\nhint: set another ops.address, or ask with that one's configuration", errCheck, url, who)
	}
	if p.Status != http.StatusOK {
		return fmt.Errorf("%w:\n%s\nhint: the process's log has more", errCheck, strings.TrimSpace(p.Text))
	}
	_, err = io.WriteString(c.out, p.Text)
	return err
}

// cause is an error of an HTTP client without the method and the URL.
func cause(err error) error {
	var told *neturl.Error
	if errors.As(err, &told) {
		return told.Err
	}
	return err
}

// readyURL is where a process of this machine that listens on the address says whether it is ready.
func readyURL(address string) (string, error) {
	url, err := app.OpsURL(address)
	if err != nil {
		return "", fmt.Errorf("%w: %w\nhint: set it to host:port, or name --url", errUsage, err)
	}
	return url + "/readyz", nil
}
