package main

import (
	"context"
	"errors"
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
	return c.outputFlag(&cobra.Command{
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
			return c.printQueue(stats, durability, l.Queue.Backend == "redis")
		},
	})
}

func askQueue(ctx context.Context, c config.Config) (stats queue.Stats, d queue.Durability, err error) {
	if c.Queue.Backend == "embedded" {
		stats, err = queue.ReadStats(ctx, c.Queue.Embedded.Path)
		return stats, queue.Durability{Class: queue.Fsynced}, err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	q, err := app.OpenQueue(ctx, c)
	if err != nil {
		return stats, d, err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	if stats, err = q.Stats(ctx); err != nil {
		return stats, d, err
	}
	d, err = q.Durability(ctx)
	return stats, d, err
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
