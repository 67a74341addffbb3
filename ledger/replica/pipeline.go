package replica

import (
	"time"

	"github.com/hashicorp/raft"
)

// pipelineStuck is how long handing a message to a pipeline may take. Writing it
// ends after rpcTimeout at the latest; the rest is the wait for a place in line.
const pipelineStuck = 2 * rpcTimeout

// AppendEntriesPipeline implements raft.Transport.
func (n *network) AppendEntriesPipeline(id raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	p, err := n.NetworkTransport.AppendEntriesPipeline(id, target)
	if err != nil {
		return nil, err
	}
	return pipeline{p, n.cfg.Stuck}, nil
}

// pipeline closes itself when its sender is stuck. In hashicorp/raft v1.8.0 the
// reader of the answers leaves when a follower refuses, while the sender may be
// waiting for a place in line that only the reader would make; neither then ends,
// and Shutdown waits for both for ever.
type pipeline struct {
	raft.AppendPipeline
	stuck time.Duration
}

// AppendEntries implements raft.AppendPipeline.
func (p pipeline) AppendEntries(args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	t := time.AfterFunc(p.stuck, func() { _ = p.Close() }) // the sender gets ErrPipelineShutdown
	defer t.Stop()
	return p.AppendPipeline.AppendEntries(args, resp)
}
