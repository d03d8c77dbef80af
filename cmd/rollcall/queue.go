package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/rollcallhq/rollcall/internal/app"
	"github.com/rollcallhq/rollcall/internal/config"
	"github.com/rollcallhq/rollcall/queue"
)

// queueJSON is what `rollcall queue -o json` prints.
type queueJSON struct {
	Depth            int64           `json:"depth"`
	OldestAgeSeconds float64         `json:"oldest_age_seconds"`
	Durability       string          `json:"durability"`
	Detail           string          `json:"detail,omitempty"`
	Partitions       []partitionJSON `json:"partitions"`
}

type partitionJSON struct {
	Partition int        `json:"partition"`
	Depth     int64      `json:"depth"`
	Oldest    *time.Time `json:"oldest,omitempty"`
	Leased    *bool      `json:"leased,omitempty"` // not known of an embedded queue from outside
}

func (c *cli) queue() *cobra.Command {
	cmd := c.outputFlag(&cobra.Command{
		Use:   "queue",
		Short: "Show what waits in the queue",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := c.loadFor(true)
			if err != nil {
				return err
			}
			stats, durability, err := askQueue(cmd.Context(), l.Config)
			if err != nil {
				return err
			}
			return c.printQueue(stats, durability, l.Queue.Backend == config.BackendRedis)
		},
	})
	cmd.AddCommand(c.queueForget())
	return cmd
}

func (c *cli) queueForget() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "forget",
		Short: "Forget which deliveries were seen, so that they are taken again",
		Long: `For after the database was restored from a backup: the queue remembers the ids of the
last 24 hours (queue.memory) and would answer what the provider sends again as seen
before, though the restored database lacks it. What waits in the queue stays. What the
database has already is recognised there and changes nothing.

An embedded queue belongs to one process; stop it first. Redis' user needs +scan and
+unlink, which the service itself does not.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := c.loadFor(true)
			if err != nil {
				return err
			}
			if !yes {
				return fmt.Errorf("%w: this would make the %s queue of %s forget all ids it has seen; nothing is done yet\n"+
					"hint: --yes does it; what waits in the queue stays", errUsage, l.Queue.Backend, l.Environment)
			}
			n, err := forget(cmd.Context(), l.Config)
			if err != nil {
				return err
			}
			c.say("forgot %d ids; what is sent again is taken again", n)
			return nil
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do it, rather than say what it would do")
	return cmd
}

func forget(ctx context.Context, conf config.Config) (n int64, err error) {
	if path := conf.Queue.Embedded.Path; conf.Queue.Backend == config.BackendEmbedded {
		if _, err := os.Stat(path); err != nil { // opening would make one
			return 0, fmt.Errorf("open the queue: %w\nhint: is queue.embedded.path the one of the service?", err)
		}
	}
	q, err := app.OpenQueue(ctx, conf)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	return q.Forget(ctx)
}

func askQueue(ctx context.Context, c config.Config) (queue.Stats, queue.Durability, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return app.LookAtQueue(ctx, c)
}

func (c *cli) printQueue(stats queue.Stats, d queue.Durability, leasesKnown bool) error {
	out := queueJSON{Depth: stats.Depth(), Durability: string(d.Class), Detail: d.Detail}
	if oldest := stats.Oldest(); !oldest.IsZero() {
		out.OldestAgeSeconds = time.Since(oldest).Seconds()
	}
	t := table{head: []string{"PARTITION", "DEPTH", "OLDEST", "LEASED"}}
	for n, p := range stats.Partitions {
		row := partitionJSON{Partition: n, Depth: p.Depth}
		if !p.Oldest.IsZero() {
			row.Oldest = &p.Oldest
		}
		leased := "-"
		if leasesKnown {
			row.Leased = &p.Leased
			leased = strconv.FormatBool(p.Leased)
		}
		out.Partitions = append(out.Partitions, row)
		t.add(strconv.Itoa(n), strconv.FormatInt(p.Depth, 10), when(p.Oldest), leased)
	}
	c.say("%d waiting, durability %s%s", out.Depth, d.Class, prefixed(": ", d.Detail))
	return c.print(out, t)
}

// prefixed is the text behind the prefix, or nothing.
func prefixed(prefix, text string) string {
	if text == "" {
		return ""
	}
	return prefix + text
}
