package replica

import (
	"context"
	"io"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// newRaftLogger gives the library's log to the node's. What the library calls
// an error is at most a warning here: this package says itself when the node
// must stop, and an unreachable peer is no error of this node.
func newRaftLogger(log *slog.Logger) hclog.Logger {
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Level: hclog.Off, Output: io.Discard})
	l.RegisterSink(sink{log})
	return l.Named("raft")
}

type sink struct{ log *slog.Logger }

// Accept implements hclog.SinkAdapter.
func (s sink) Accept(name string, level hclog.Level, msg string, args ...any) {
	to := slog.LevelDebug
	switch level {
	case hclog.Warn, hclog.Info:
		to = slog.LevelInfo
	case hclog.Error:
		to = slog.LevelWarn
	}
	if !s.log.Enabled(context.Background(), to) {
		return
	}
	attrs := []any{"from", name}
	for i := 0; i+1 < len(args); i += 2 {
		if key, ok := args[i].(string); ok {
			attrs = append(attrs, key, args[i+1])
		}
	}
	s.log.Log(context.Background(), to, msg, attrs...)
}
