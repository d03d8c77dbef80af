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
		Long:  `For health checks of containers that have no shell and no curl. Exits 0 when it is ready, 5 when it is not.`,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), 3*time.Second)
			defer cancel()
			if url == "" {
				l, err := c.loadFor(true)
				if err != nil {
					return err
				}
				if url, err = readyURL(l.Ops.Address); err != nil {
					return err
				}
			}
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"?verbose", nil)
			if err != nil {
				return fmt.Errorf("%w: --url: %w\nhint: it is written http://HOST:PORT/readyz", errUsage, err)
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				return fmt.Errorf("%w: nothing answers at %s: %w\nhint: is it running, and does its configuration have the same ops.address?", errCheck, url, cause(err))
			}
			defer func() { _ = res.Body.Close() }()
			text, _ := io.ReadAll(io.LimitReader(res.Body, 64<<10))
			if res.StatusCode != http.StatusOK {
				return fmt.Errorf("%w:\n%s\nhint: the process's log has more", errCheck, strings.TrimSpace(string(text)))
			}
			_, err = c.out.Write(text)
			return err
		},
	}
	cmd.Flags().StringVar(&url, "url", "", "where the process answers, a `URL`; default http://127.0.0.1:PORT/readyz, with ops.address's port")
	return cmd
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
