package queue

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// Durability implements Queue. It asks for the configuration, and for INFO where CONFIG is forbidden; on a Cluster every
// master, of which the weakest counts.
func (q *Redis) Durability(ctx context.Context) (Durability, error) {
	var mu sync.Mutex
	found := map[string]Durability{}
	err := q.eachMaster(ctx, func(ctx context.Context, node redis.UniversalClient) error {
		d, err := q.ask(ctx, node)
		mu.Lock()
		defer mu.Unlock()
		found[address(node)] = d
		return err
	})
	if err != nil {
		return Durability{}, fmt.Errorf("ask redis how durable it is: %w: %w", ErrUnavailable, err)
	}
	return weakest(found), nil
}

// address is that of a Cluster's node; nothing depends on what it is of another.
func address(node redis.UniversalClient) string {
	if c, ok := node.(*redis.Client); ok {
		return c.Options().Addr
	}
	return ""
}

// weakest is the durability of all nodes together. It names those that are weaker than others.
func weakest(found map[string]Durability) Durability {
	strength := []Class{Fsynced, Everysec, Memory, Unknown}
	var weak []string
	var details []string
	worst := Fsynced
	for _, addr := range slices.Sorted(maps.Keys(found)) {
		d := found[addr]
		switch now, before := slices.Index(strength, d.Class), slices.Index(strength, worst); {
		case now > before:
			worst, weak = d.Class, []string{addr}
		case now == before:
			weak = append(weak, addr)
		}
		if d.Detail != "" && !slices.Contains(details, d.Detail) {
			details = append(details, d.Detail)
		}
	}
	if len(weak) < len(found) {
		details = slices.Insert(details, 0, "weaker than the other masters: "+strings.Join(weak, ", "))
	}
	return Durability{worst, strings.Join(details, "; ")}
}

// ask asks one node. An error means that it does not answer.
func (q *Redis) ask(ctx context.Context, node redis.UniversalClient) (Durability, error) {
	if err := node.Ping(ctx).Err(); err != nil {
		return Durability{}, err
	}
	settings, err := node.ConfigGet(ctx, "*").Result()
	switch {
	case refusal(err):
		return durabilityByInfo(ctx, node)
	case err != nil:
		return Durability{}, err
	}
	class, details := class(settings["appendonly"], settings["appendfsync"]), []string{}
	switch policy := settings["maxmemory-policy"]; {
	case strings.HasPrefix(policy, "allkeys-"):
		class = Memory
		details = append(details, fmt.Sprintf("maxmemory-policy is %q: redis may throw deliveries away; set it to noeviction", policy))
	case policy != "" && policy != "noeviction":
		details = append(details, fmt.Sprintf("maxmemory-policy is %q: redis may throw away leases and the memory of ids, though no deliveries; set it to noeviction", policy))
	}
	if least, _ := strconv.Atoi(settings["min-replicas-to-write"]); least == 0 && q.failsOver(ctx, node) {
		details = append(details, "min-replicas-to-write is 0: a failover may lose what was acknowledged; set it to 1 or more")
	}
	return Durability{class, strings.Join(details, "; ")}, nil
}

// failsOver reports whether a replica may take the node's place. Where INFO is forbidden, only Sentinels tell.
func (q *Redis) failsOver(ctx context.Context, node redis.UniversalClient) bool {
	if q.config.MasterName != "" {
		return true
	}
	info, err := node.Info(ctx, "replication").Result()
	return err == nil && strings.Contains(info, "connected_slaves:") && !strings.Contains(info, "connected_slaves:0")
}

// refusal reports that the server answered, if only to say no.
func refusal(err error) bool {
	var answer redis.Error
	return errors.As(err, &answer)
}

func durabilityByInfo(ctx context.Context, node redis.UniversalClient) (Durability, error) {
	info, err := node.Info(ctx, "persistence").Result()
	switch {
	case refusal(err):
		return Durability{Unknown, "redis allows neither CONFIG GET nor INFO; grant this user +info or +config|get"}, nil
	case err != nil:
		return Durability{}, err
	case strings.Contains(info, "aof_enabled:0"):
		return Durability{Memory, "appendonly is off; set appendonly yes and appendfsync always"}, nil
	default:
		return Durability{Unknown, "redis does not allow CONFIG GET, so appendfsync is not known; grant this user +config|get"}, nil
	}
}

func class(appendonly, appendfsync string) Class {
	switch {
	case appendonly != "yes":
		return Memory
	case appendfsync == "always":
		return Fsynced
	case appendfsync == "everysec":
		return Everysec
	default:
		return Memory
	}
}
