package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"xinqiao/exchange/node"
)

// newServeCommand returns `xinqiao serve`: one department's node until it is
// told to stop.
func newServeCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:     "serve --config FILE",
		Short:   "Run a department's node",
		Example: "  xinqiao serve --config /etc/xinqiao/node.yaml",
		Args:    usageArgs(cobra.NoArgs),
		PreRunE: usageFlags,
		RunE:    func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context(), path) },
	}
	cmd.Flags().StringVar(&path, "config", "", "the node's configuration, YAML (see deploy/config/node.yaml)")
	if err := cmd.MarkFlagRequired("config"); err != nil {
		panic(err) // the flag is defined above
	}
	return cmd
}

func serve(ctx context.Context, path string) error {
	cfg, err := node.Load(path)
	if err != nil {
		return err
	}
	log, err := newLog(cfg.LogLevel)
	if err != nil {
		return err
	}
	crash, err := crashPoint(os.Getenv("XINQIAO_CRASH_POINT"))
	if err != nil {
		return exitError{exitUsage, err}
	}
	n, err := node.Start(ctx, cfg, node.Options{Log: log.With("department", string(cfg.Department)), Crash: crash})
	if err != nil {
		return err
	}
	log.Info("node listens", "web", cfg.Listen.Web, "peer", cfg.Listen.Peer, "raft", cfg.Listen.Raft)
	var fatal error
	select {
	case <-ctx.Done():
	case fatal = <-n.Fatal():
		log.Error("the node must stop", "err", fatal)
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Second)
	defer cancel()
	return errors.Join(fatal, n.Stop(stop))
}

func newLog(level string) (*slog.Logger, error) {
	var l slog.Level
	if level == "" {
		level = "info"
	}
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log_level %q: want debug, info, warn or error", level)
	}
	return slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: l})), nil
}

// crashPoint reads "name" or "name:n": the process kills itself when it comes
// to the named point for the nth time. Tests of crashes use it; it can only
// make a node do less.
func crashPoint(spec string) (func(string), error) {
	if spec == "" {
		return nil, nil
	}
	name, count, many := strings.Cut(spec, ":")
	at := 1
	if many {
		var err error
		if at, err = strconv.Atoi(count); err != nil || at < 1 {
			return nil, fmt.Errorf("XINQIAO_CRASH_POINT %q: want name or name:n", spec)
		}
	}
	var seen atomic.Int64
	return func(point string) {
		if point == name && seen.Add(1) == int64(at) {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // the signal is on its way
		}
	}, nil
}
