package replica

import (
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// TestStuckPipelineEnds leaves a pipeline as raft leaves it when a follower
// refuses: nobody takes the answers any more. The sender must come back; on the
// stock transport, the control, it stays.
func TestStuckPipelineEnds(t *testing.T) {
	t.Parallel()
	from, _ := testNetwork(t, "aa", "127.0.0.1:0")
	from.cfg.Stuck = 300 * time.Millisecond
	for name, c := range map[string]struct {
		open  func(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error)
		stays bool
	}{
		"bounded": {from.AppendEntriesPipeline, false},
		"stock":   {from.NetworkTransport.AppendEntriesPipeline, true},
	} {
		t.Run(name, func(t *testing.T) {
			to := stockTransport(t, "bb")
			stop := make(chan struct{})
			defer close(stop)
			go agree(to, stop)
			p, err := c.open("bb", to.LocalAddr())
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() {
				for {
					if _, err := p.AppendEntries(heartbeat(from.NetworkTransport, "aa", 7), &raft.AppendEntriesResponse{}); err != nil {
						ended <- err
						return
					}
				}
			}()
			wait := 20 * time.Second
			if c.stays {
				wait = time.Second
			}
			select {
			case err := <-ended:
				if c.stays || !errors.Is(err, raft.ErrPipelineShutdown) {
					t.Errorf("the sender came back with %v", err)
				}
			case <-time.After(wait):
				if !c.stays {
					t.Error("the sender is stuck")
				}
			}
			if err := p.Close(); err != nil {
				t.Error(err)
			}
			if c.stays {
				<-ended
			}
		})
	}
}
