package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"xinqiao/crypto/gm"
	"xinqiao/crypto/keyring"
)

// countsEvery is how often an agent writes what it did.
const countsEvery = 5 * time.Minute

func newKeyringServe() *cobra.Command {
	var f keyringFlags
	var socket, engine string
	cmd := keyringVerb(&cobra.Command{
		Use:   "serve --keyring FILE --socket PATH",
		Short: "Hold a keyring's keys for a node in another process",
		Long: `Hold a keyring's keys in this process, and use them for processes of the same user
that connect to a socket: a node with "keyring: unix:PATH" in its configuration never
has the keys in its memory. It signs, decrypts and computes tags; no request returns
or changes a key. It reads the file again when a node does, and ends with SIGTERM.

The passphrase is read once, at the start. Keep its file where the node's process
cannot read it.`,
		Example: "  xinqiao keyring serve --keyring /etc/xinqiao/keys.xq --socket /run/xinqiao-keyring/agent.sock --passphrase-file pass",
	}, &f)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return f.serve(cmd.Context(), socket, engine) }
	cmd.Flags().StringVar(&socket, "socket", "", "the socket, in a directory of its own with mode 0700, made if missing")
	cmd.Flags().StringVar(&engine, "engine", "auto", "auto or tjfoc, as in the node's configuration")
	mustRequire(cmd, "socket")
	return cmd
}

func (f *keyringFlags) serve(ctx context.Context, socket, engine string) error {
	log, err := newLog("")
	if err != nil {
		return err
	}
	e, _, err := gm.ByName(engine)
	if err != nil {
		return exitError{exitUsage, err}
	}
	if err := gm.SelfTest(e); err != nil {
		return fmt.Errorf("self-test of the %s engine: %w", e.Name(), err)
	}
	l, err := keyring.Listen(socket)
	if err != nil {
		return keyringError(err)
	}
	hide(log) // before there is anything to hide
	k, err := f.open(e)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	defer k.Close()
	agent := keyring.NewAgent(k, log)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	counted := make(chan struct{})
	go func() {
		defer close(counted)
		tick := time.NewTicker(countsEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				agent.LogCounts()
			}
		}
	}()
	log.Info("keyring agent listens", "socket", socket, "keys", len(k.Keys()))
	err = agent.Serve(ctx, l)
	cancel()
	<-counted
	agent.LogCounts()
	return err
}

// hide keeps the keys out of core dumps, debuggers of the same user, and the swap
// where the limits allow it. What is refused is said and does not stop the agent.
func hide(log *slog.Logger) {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		log.Warn("this process can be dumped and traced", "err", err)
	}
	// With a limit, memory that is needed later could not be had and the process
	// would die of it.
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil || limit.Cur != unix.RLIM_INFINITY {
		log.Warn("memory is not locked: run without swap, or with LimitMEMLOCK=infinity")
		return
	}
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE); err != nil {
		log.Warn("memory is not locked: run without swap", "err", err)
		return
	}
	log.Info("memory is locked")
}
