package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"xinqiao/ledger/bench"
)

// newBenchCommand returns `xinqiao bench`: how fast this machine is, against
// what bounds it.
func newBenchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure this machine against what bounds it",
		Args:  usageArgs(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newBenchLedger())
	return cmd
}

type benchFlags struct {
	output, dir        string
	seconds, appenders int
	full               bool
}

func newBenchLedger() *cobra.Command {
	f := &benchFlags{}
	cmd := &cobra.Command{
		Use:   "ledger",
		Short: "Three replicating ledgers against bare raft and the bare cost of their cryptography",
		Long: `Run three replicating ledgers in this process: real keys, frames, raft on
loopback, fsync, verification on every node, cosigned checkpoints. Beside them
bare hashicorp/raft with raft-wal and a state machine that does nothing, and the
SM2 and SM3 that the entries need, measured alone. They take turns, so that other
work on the machine meets all of them.

limit_ratio is entries/s over the lower of the two limits, latency_ratio the
median of one appender, from entry to receipt, over that of bare raft.`,
		Example: "  xinqiao bench ledger -o json --dir /var/lib/xinqiao",
		Args:    usageArgs(cobra.NoArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return benchLedger(cmd, f) },
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.output, "output", "o", "table", "table or json")
	flags.StringVar(&f.dir, "dir", "", "where to write, on the disk that is meant (default: the system's temporary directory)")
	flags.IntVar(&f.seconds, "seconds", 30, "of measuring, at least 1")
	flags.IntVar(&f.appenders, "appenders", 64, "that append at once, 1 to 4096")
	flags.BoolVar(&f.full, "full", false, "take the leader away as well: crashes and planned restarts, half a minute more")
	return cmd
}

func benchLedger(cmd *cobra.Command, f *benchFlags) error {
	switch {
	case f.output != "table" && f.output != "json":
		return usageError(cmd, fmt.Errorf("--output %q: want table or json", f.output))
	case f.seconds < 1:
		return usageError(cmd, fmt.Errorf("--seconds %d: want at least 1", f.seconds))
	case f.appenders < 1 || f.appenders > 4096:
		return usageError(cmd, fmt.Errorf("--appenders %d: want 1 to 4096", f.appenders))
	}
	dir, err := os.MkdirTemp(f.dir, "xinqiao-bench-")
	if err != nil {
		return fmt.Errorf("make a directory to measure in: %w", err)
	}
	r, err := bench.Run(cmd.Context(), bench.Options{Dir: dir, For: time.Duration(f.seconds) * time.Second, Appenders: f.appenders, Full: f.full,
		Progress: func(format string, args ...any) { fmt.Fprintf(cmd.ErrOrStderr(), format+"\n", args...) }})
	if err = errors.Join(err, os.RemoveAll(dir)); err != nil {
		return err
	}
	if f.output == "json" {
		return printJSON(cmd.OutOrStdout(), r)
	}
	printLedgerBench(cmd.OutOrStdout(), r)
	return nil
}

func printLedgerBench(w io.Writer, r bench.Report) {
	t := tabwriter.NewWriter(w, 2, 4, 2, ' ', 0)
	line := func(name, form string, args ...any) { fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(form, args...)) }
	line("limit ratio", "%.2f of the lower limit, which is %s", r.LimitRatio, r.Limit)
	line("latency ratio", "%.1f times bare raft, with one appender", r.LatencyRatio)
	line("entries", "%.0f/s from %d appenders on %d cores, %d bytes each", r.EntriesPerSecond, r.Appenders, r.Cores, r.EntryBytes)
	line("entry to receipt", "%.1f ms median, %.1f ms at 99 %%", r.P50, r.P99)
	line("bare raft", "%.0f/s", r.BareRaft)
	line("cryptography alone", "%.0f/s: %.0f µs of CPU an entry on all nodes, of %.0f µs used", r.Crypto, r.CryptoMicros, r.CPUMicros)
	line("one appender", "%.2f ms median on the leader, %.2f ms at 99 %%; %.2f ms on another node; bare raft %.2f ms", r.OneP50, r.OneP99, r.ForwardedP50, r.BareOneP50)
	line("grouping", "%.1f entries a frame, %.1f frames a command", r.EntriesPerFrame, r.FramesPerBatch)
	line("done meanwhile", "%d frames, %d verifications, %d second verdicts, %d cosignatures", r.Checked.Frames, r.Checked.Verifications,
		r.Checked.SecondVerdicts, r.Checked.Cosignatures)
	if r.Faults != nil {
		line("leader crashes", "a writer waits %.0f ms at most, %d times", r.Faults.CrashMax, len(r.Faults.CrashGaps))
		line("planned restarts", "a writer waits %.0f ms at most, %d times", r.Faults.PlannedMax, len(r.Faults.PlannedGaps))
	}
	_ = t.Flush()
}
