// Package chaos breaks a cluster of real node processes and checks that nothing
// is lost, forked or released unrecorded.
//
// It is tests alone: this test binary runs itself again for each node, and no
// program links it. DESIGN.md says what is broken, what is checked and which
// deliberate mistakes the checks must find.
package chaos

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"time"
)

// nodeVariable names the directory of the node that a process is, if it is one.
const nodeVariable = "XINQIAO_CHAOS_NODE"

// The knobs of `make chaos`.
var (
	flagSeconds = flag.Int("chaos.seconds", 6, "how long faults are injected")
	flagSeed    = flag.Uint64("chaos.seed", uint64(time.Now().UnixNano()), "repeats a choice of faults and operations")
	flagDir     = flag.String("chaos.dir", "", "where the nodes live; kept after a failure")
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(nodeVariable); dir != "" {
		if err := serveNode(dir); err != nil {
			fmt.Fprintln(os.Stderr, "chaos node:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}
