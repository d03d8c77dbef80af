package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
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
				return fmt.Errorf("%w: %w\nhint: is it running, and does its configuration have the same ops.address?", errCheck, err)
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
	cmd.Flags().StringVar(&url, "url", "", "where the process answers; default http://127.0.0.1:PORT/readyz, with ops.address's port")
	return cmd
}

// readyURL is where a process of this machine that listens on the address says whether it is ready.
func readyURL(address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("%w: ops.address %q is no address to ask\nhint: set it to host:port, or name --url", errUsage, address)
	}
	if ip := net.ParseIP(host); host == "" || ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port) + "/readyz", nil
}
