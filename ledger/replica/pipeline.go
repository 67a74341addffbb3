package replica

import (
	"time"

	"github.com/hashicorp/raft"
)

// sendBound is how long a pipelined send may take: the write has rpcTimeout, and
// then the answer before it has.
const sendBound = 2 * rpcTimeout

// boundedPipeline closes itself when a send does not return. In v1.8.0 of the
// library the reader of answers ends at the first answer that is no success. A
// send that is chosen after that waits for a reader that is gone: replication to
// that peer stands still and raft's Shutdown never ends. Closing the pipeline is
// all that wakes such a send; raft then goes on without a pipeline.
type boundedPipeline struct {
	raft.AppendPipeline
	bound time.Duration
}

// AppendEntries implements raft.AppendPipeline.
func (p boundedPipeline) AppendEntries(req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	t := time.AfterFunc(p.bound, func() { p.Close() })
	defer t.Stop()
	return p.AppendPipeline.AppendEntries(req, resp)
}

// AppendEntriesPipeline implements raft.Transport.
func (n *network) AppendEntriesPipeline(id raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	p, err := n.NetworkTransport.AppendEntriesPipeline(id, target)
	if err != nil {
		return nil, err
	}
	return boundedPipeline{p, n.cfg.SendBound}, nil
}
