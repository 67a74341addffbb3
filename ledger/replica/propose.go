package replica

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"xinqiao/ledger"
)

const (
	maxQueue      = 4096      // frames waiting on the leader
	maxQueueBytes = 64 << 20  // of their bytes
	maxBatch      = 256       // frames of one command
	maxBatchBytes = 256 << 10 // of their bytes; one larger frame goes alone
	enqueueWithin = time.Second
)

// pending is a frame that waits on the leader. Whoever claims it first, the
// proposer or its own impatient caller, decides what becomes of it.
type pending struct {
	frame   []byte
	claimed atomic.Bool
	done    chan error // holds one
}

// Propose has frame committed, here when this node leads and through the leader
// otherwise. It satisfies ledger.Replicator: nil is the leader's word that the
// frame is committed, ledger.ErrNotProposed means that nothing happened, and
// everything else that it may have.
func (r *Replica) Propose(ctx context.Context, frame []byte) error {
	leader := r.Leader()
	switch {
	case r.IsLeader() || leader == r.cfg.Self:
		return r.ProposeLocal(ctx, frame)
	case leader == "":
		r.count.notProposed.Add(1)
		return fmt.Errorf("%w: no leader is known", ledger.ErrNotProposed)
	}
	r.count.forwarded.Add(1)
	err := r.forward.Forward(ctx, leader, frame)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ledger.ErrNotProposed):
		r.count.notProposed.Add(1)
		return err
	case errors.Is(err, ledger.ErrUndetermined):
	default:
		err = fmt.Errorf("%w: %w", ledger.ErrUndetermined, err)
	}
	r.count.undetermined.Add(1)
	return err
}

// ProposeLocal is Propose for a frame that another node forwarded: it never
// forwards again, so that two nodes which each take the other for the leader
// make no loop.
func (r *Replica) ProposeLocal(ctx context.Context, frame []byte) error {
	p, err := r.enqueue(frame)
	if err != nil {
		r.count.notProposed.Add(1)
		return fmt.Errorf("%w: %w", ledger.ErrNotProposed, err)
	}
	var cause error
	select {
	case err := <-p.done:
		return err
	case <-ctx.Done():
		cause = ctx.Err()
	case <-r.done:
		cause = raft.ErrRaftShutdown
	}
	if p.claimed.CompareAndSwap(false, true) {
		r.count.notProposed.Add(1)
		return fmt.Errorf("%w: %w", ledger.ErrNotProposed, cause)
	}
	r.count.undetermined.Add(1)
	return fmt.Errorf("%w: %w", ledger.ErrUndetermined, cause)
}

func (r *Replica) enqueue(frame []byte) (*pending, error) {
	if !r.IsLeader() {
		return nil, raft.ErrNotLeader
	}
	if len(frame) == 0 || len(frame) > ledger.MaxFrame {
		return nil, fmt.Errorf("frame of %d bytes", len(frame))
	}
	if err := r.cfg.Check(frame); err != nil {
		r.count.refusedFrames.Add(1)
		return nil, fmt.Errorf("frame refused: %w", err)
	}
	p := &pending{frame: frame, done: make(chan error, 1)}
	if r.queued.Add(int64(len(frame))) > maxQueueBytes {
		r.queued.Add(-int64(len(frame)))
		r.count.busy.Add(1)
		return nil, ledger.Busy("replica.Propose", ledger.PressureBytes)
	}
	select {
	case r.queue <- p:
		return p, nil
	default:
		r.queued.Add(-int64(len(frame)))
		r.count.busy.Add(1)
		return nil, ledger.Busy("replica.Propose", ledger.PressureQueue)
	}
}

// proposeLoop writes one command at a time. What arrives while one is in flight
// is gathered into the next, so the batch grows with the load and nobody waits
// for a timer.
func (r *Replica) proposeLoop() {
	var held *pending
	for {
		first := held
		held = nil
		if first == nil {
			select {
			case <-r.done:
				return
			case first = <-r.queue:
				r.queued.Add(-int64(len(first.frame)))
				if !first.claimed.CompareAndSwap(false, true) {
					continue
				}
			}
		}
		var batch []*pending
		batch, held = r.gather(first)
		frames := make([][]byte, len(batch))
		for i, p := range batch {
			frames[i] = p.frame
		}
		err := r.commit(frames)
		switch {
		case err == nil:
			r.count.batches.Add(1)
			r.count.committed.Add(uint64(len(batch)))
		case errors.Is(err, ledger.ErrNotProposed):
			r.count.notProposed.Add(uint64(len(batch)))
		default:
			r.count.undetermined.Add(uint64(len(batch)))
		}
		for _, p := range batch {
			p.done <- err
		}
		select {
		case <-r.done:
			if held != nil {
				held.done <- fmt.Errorf("%w: %w", ledger.ErrNotProposed, raft.ErrRaftShutdown)
			}
			return
		default:
		}
	}
}

// gather takes what waits, up to the limits of a batch. A frame that does not
// fit any more is held for the next.
func (r *Replica) gather(first *pending) (batch []*pending, held *pending) {
	batch, size := []*pending{first}, len(first.frame)
	for len(batch) < maxBatch {
		select {
		case p := <-r.queue:
			r.queued.Add(-int64(len(p.frame)))
			if !p.claimed.CompareAndSwap(false, true) {
				continue
			}
			if size+len(p.frame) > maxBatchBytes {
				return batch, p
			}
			batch, size = append(batch, p), size+len(p.frame)
		default:
			return batch, nil
		}
	}
	return batch, nil
}

// commit has frames committed as one command and applied on this node.
func (r *Replica) commit(frames [][]byte) error {
	data, err := ledger.EncodeBatch(r.cfg.Clock(), frames)
	if err != nil {
		return fmt.Errorf("%w: %w", ledger.ErrNotProposed, err)
	}
	future := r.raft.ApplyLog(raft.Log{Data: data, Extensions: mark(r.cfg.Self, data)}, enqueueWithin)
	if err := outcome(r.await(future)); err != nil {
		return err
	}
	if err, failed := future.Response().(error); failed {
		return fmt.Errorf("%w: %w", ledger.ErrUndetermined, err)
	}
	return nil
}

// outcome classifies raft's errors. These three say that the entry was never
// taken over; all others, a lost leadership and a shutdown among them, leave it
// open.
func outcome(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress), errors.Is(err, raft.ErrEnqueueTimeout):
		return fmt.Errorf("%w: %w", ledger.ErrNotProposed, err)
	}
	return fmt.Errorf("%w: %w", ledger.ErrUndetermined, err)
}
