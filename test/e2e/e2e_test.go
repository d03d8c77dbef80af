// Package e2e is the whole program on real servers: deliveries over HTTPS into processes that are killed, paused and
// replaced, and what the database holds afterwards.
package e2e

import (
	"os"
	"testing"

	"github.com/rollcallhq/rollcall/test/rig"
)

func TestMain(m *testing.M) { os.Exit(rig.Main(m)) }
