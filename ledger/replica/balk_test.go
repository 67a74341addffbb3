package replica

import (
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

const testStuck = 300 * time.Millisecond

func openPipeline(t *testing.T) (raft.AppendPipeline, func() *raft.AppendEntriesRequest) {
	t.Helper()
	n, _ := testNetwork(t, "aa", "127.0.0.1:0")
	n.cfg.Stuck = testStuck
	peer := stockTransport(t, "bb")
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	go agree(peer, stop)
	p, err := n.AppendEntriesPipeline("bb", peer.LocalAddr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p, func() *raft.AppendEntriesRequest { return heartbeat(n.NetworkTransport, "aa", 1) }
}

// within fails the test when f does not return.
func within(t *testing.T, d time.Duration, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(d):
		t.Fatalf("%s does not return", what)
	}
}

func TestIdlePipelineStaysOpen(t *testing.T) {
	t.Parallel()
	p, request := openPipeline(t)
	for range 3 {
		if _, err := p.AppendEntries(request(), new(raft.AppendEntriesResponse)); err != nil {
			t.Fatal(err)
		}
		select {
		case f := <-p.Consumer():
			if err := f.Error(); err != nil {
				t.Fatal(err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("no answer")
		}
		time.Sleep(2 * testStuck)
	}
}

// balk plays a follower that agrees, but refuses every third message with
// entries, late enough that the next one is on its way.
func balk(n *raft.NetworkTransport, stop <-chan struct{}) {
	h := raft.RPCHeader{ProtocolVersion: 3}
	for count := 0; ; {
		select {
		case <-stop:
			return
		case rpc := <-n.Consumer():
			switch c := rpc.Command.(type) {
			case *raft.RequestPreVoteRequest:
				rpc.Respond(&raft.RequestPreVoteResponse{RPCHeader: h, Term: c.Term, Granted: true}, nil)
			case *raft.RequestVoteRequest:
				rpc.Respond(&raft.RequestVoteResponse{RPCHeader: h, Term: c.Term, Granted: true}, nil)
			case *raft.AppendEntriesRequest:
				r := &raft.AppendEntriesResponse{RPCHeader: h, Term: c.Term, LastLog: c.PrevLogEntry + uint64(len(c.Entries)), Success: true}
				if len(c.Entries) > 0 {
					time.Sleep(5 * time.Millisecond)
					count++
					r.Success = count%3 != 0
				}
				rpc.Respond(r, nil)
			default:
				rpc.Respond(nil, errors.New("not expected"))
			}
		}
	}
}

// TestShutdownEndsBesideABalkingFollower feeds a leader while one follower
// refuses now and then. With a bound of an hour it fails.
func TestShutdownEndsBesideABalkingFollower(t *testing.T) {
	t.Parallel()
	n, _ := testNetwork(t, "aa", "127.0.0.1:0")
	n.cfg.Stuck = testStuck
	one, two := stockTransport(t, "bb"), stockTransport(t, "cc")
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	go agree(one, stop)
	go balk(two, stop)
	c := raft.DefaultConfig()
	c.LocalID, c.Logger, c.CommitTimeout = "aa", hclog.NewNullLogger(), 5*time.Millisecond
	store := raft.NewInmemStore()
	servers := []raft.Server{{ID: "aa", Address: n.LocalAddr()}, {ID: "bb", Address: one.LocalAddr()}, {ID: "cc", Address: two.LocalAddr()}}
	if err := raft.BootstrapCluster(c, store, store, noSnapshots{}, n, raft.Configuration{Servers: servers}); err != nil {
		t.Fatal(err)
	}
	r, err := raft.NewRaft(c, newFSM(&recorder{}, newFault()), store, store, noSnapshots{}, n)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "leadership", func() bool { return r.State() == raft.Leader })
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		data := []byte("own command")
		r.ApplyLog(raft.Log{Data: data, Extensions: mark("aa", data)}, time.Second)
	}
	within(t, 10*time.Second, "Shutdown", func() {
		if err := r.Shutdown().Error(); err != nil {
			t.Error(err)
		}
	})
}
